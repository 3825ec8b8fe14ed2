import type { FaultCode } from "@fastgpu/domain/fault";

/**
 * Exit codes of the CLI itself. Those of `sysexits.h` where one fits: they stay clear of the small
 * numbers that programs choose, since some commands pass on the exit code of a task.
 */
export const exitCodes = {
  ok: 0,
  usage: 64,
  refused: 65,
  notFound: 66,
  unavailable: 69,
  internal: 70,
  limit: 73,
  damaged: 74,
  notAllowed: 77,
  configuration: 78,
  stoppedByLimit: 124,
  endedWithoutCode: 125,
  notStarted: 126,
  interrupted: 130,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** The exit code for a call that failed with this status. */
export function exitCodeOfFault(code: FaultCode): ExitCode {
  switch (code) {
    case "INVALID_ARGUMENT":
    case "ALREADY_EXISTS":
    case "ABORTED":
    case "FAILED_PRECONDITION":
    case "OUT_OF_RANGE":
      return exitCodes.refused;
    case "NOT_FOUND":
      return exitCodes.notFound;
    case "UNAUTHENTICATED":
    case "PERMISSION_DENIED":
      return exitCodes.notAllowed;
    case "UNAVAILABLE":
    case "DEADLINE_EXCEEDED":
      return exitCodes.unavailable;
    case "RESOURCE_EXHAUSTED":
      return exitCodes.limit;
    case "DATA_LOSS":
      return exitCodes.damaged;
    case "CANCELLED":
      return exitCodes.interrupted;
    case "INTERNAL":
      return exitCodes.internal;
  }
}

/** What `fastgpu help exit-codes` prints. */
export const EXIT_CODES_HELP = `Exit codes

  0    it worked
  64   wrong usage: an unknown command or option, a malformed value or spec file
  65   refused: the request breaks a rule, or the state does not allow it
  66   not found
  69   the platform cannot be reached, or did not answer in time
  70   an internal error: please report it with its request id
  73   a limit or quota is used up
  74   data is damaged: bytes do not match their checksum
  77   not allowed: no key, a wrong or expired one, or one without the permission
  78   the configuration file is wrong
  130  interrupted by Ctrl-C; a task that was followed goes on

scheduler replay ends with 1 where a decision comes out otherwise than recorded.

task run, task watch, task logs --follow and task result --wait end with the task's own code:

  0          it succeeded
  its own    it ended with an exit code of its own (128 + n: by signal n)
  1          an array in which some elements failed
  124        it was stopped at its maximum run time, its deadline or the end of its budget
  125        it ended without an exit code for another reason, for example a lost node
  126        it could not be started: image, devices or command
  130        it was cancelled
`;
