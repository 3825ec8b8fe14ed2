import type { ExitClass } from "@fastgpu/domain/states";
import { countOf, without } from "../ranges.ts";
import type { IndexRanges, Outcome } from "../runtime/port.ts";

/** What is known beside the outcome itself. */
export interface EndFacts {
  readonly outcome: Outcome;
  /** The last bytes of standard error, as text. */
  readonly errorTail: string;
  /** The attempt holds GPUs. */
  readonly hasGpus: boolean;
  /** An XID that is the hardware's fault, seen on one of its GPUs while it ran. */
  readonly faultXid: number | undefined;
}

/** An attempt's end, judged. */
export interface End {
  readonly exitClass: ExitClass;
  readonly exitCode: number | undefined;
  readonly message: string;
  /** When the last process was gone, in milliseconds since boot. */
  readonly goneBootMs: number;
  /** For a range: every leased index, by class. */
  readonly elements: readonly { readonly exitClass: ExitClass; readonly ranges: IndexRanges }[];
}

const gpuMemoryErrors =
  /CUDA(?: error:)? out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|OutOfMemoryError: CUDA|RESOURCE_EXHAUSTED: Out of memory|OOM when allocating tensor/;

/**
 * XIDs that are the GPU's, its link's or its machine's fault rather than the program's (NVIDIA's catalogue: reset,
 * restart or inspect).
 */
const hardwareXids = new Set([
  46, 48, 54, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 144, 145, 146, 147, 148, 149,
  150, 155, 156, 158,
]);

/** Whether an XID blames the hardware. */
export function isHardwareXid(xid: number): boolean {
  return hardwareXids.has(xid);
}

/**
 * The class of an end. What exited before a stop was delivered keeps its own class; after delivery it is the stop's
 * reason, whatever the exit code. A code of 137 alone is never "out of memory".
 */
export function classify(facts: EndFacts): ExitClass {
  const { outcome } = facts;
  switch (outcome.cause) {
    case "stop":
      return outcome.stopReason ?? "cancelled";
    case "timeout":
      return "timeout";
    case "lease":
    case "lost":
      return "node_lost";
    case "start":
      return "start_failed";
    case "exit":
      if (outcome.exitCode === 0) return "ok";
      if (facts.hasGpus && facts.faultXid !== undefined) return "gpu_fault";
      if (outcome.oom) return "oom_host";
      if (facts.hasGpus && gpuMemoryErrors.test(facts.errorTail)) return "oom_gpu";
      return "user_exit";
  }
}

/** The whole end of an attempt; `leased` = the indexes of a range, undefined outside arrays. */
export function judgeEnd(facts: EndFacts, leased: IndexRanges | undefined): End {
  const { outcome } = facts;
  const whole = classify(facts);
  const elements = leased === undefined ? [] : judgeElements(outcome, leased, whole);
  const bad = elements.filter((e) => e.exitClass !== "ok");
  // A range whose every element ended by itself is as good as its elements.
  const exitClass =
    leased === undefined || outcome.cause !== "exit"
      ? whole
      : ((bad.find((e) => e.exitClass !== "user_exit") ?? bad[0])?.exitClass ?? "ok");
  return {
    exitClass,
    exitCode: outcome.exitCode,
    message: outcome.message === "" ? messageOf(exitClass, facts) : outcome.message,
    goneBootMs: outcome.endedBootMs,
    elements,
  };
}

/** The end with every leased index in it: a range that never ran ends whole. */
export function withWhole(end: End, leased: IndexRanges | undefined): End {
  if (leased === undefined || end.elements.length > 0) return end;
  return { ...end, elements: [{ exitClass: end.exitClass, ranges: leased }] };
}

function judgeElements(outcome: Outcome, leased: IndexRanges, whole: ExitClass): End["elements"] {
  const done = outcome.elements ?? { ok: [], userExit: [], oom: [], timeout: [] };
  const rest = without(leased, [done.ok, done.userExit, done.oom, done.timeout]);
  const all = [
    { exitClass: "ok", ranges: done.ok },
    { exitClass: "user_exit", ranges: done.userExit },
    { exitClass: "oom_host", ranges: done.oom },
    { exitClass: "timeout", ranges: done.timeout },
    // What never finished ends as the attempt did; an attempt that claims to be well lost them.
    { exitClass: whole === "ok" ? "node_lost" : whole, ranges: rest },
  ] as const;
  return all.filter(({ ranges }) => countOf(ranges) > 0);
}

function messageOf(exitClass: ExitClass, facts: EndFacts): string {
  switch (exitClass) {
    case "ok":
      return "";
    case "user_exit":
      return `exit code ${facts.outcome.exitCode ?? "unknown"}`;
    case "oom_host":
      return "the kernel's out-of-memory killer took a process of the task";
    case "oom_gpu":
      return "the task ran out of GPU memory";
    case "gpu_fault":
      return `GPU fault: XID ${facts.faultXid}`;
    case "timeout":
      return "stopped at its longest run time";
    case "node_lost":
      return "the lease ended without a renewal, or the processes were lost";
    case "deadline":
    case "cancelled":
    case "rejected":
    case "preempted":
    case "image":
    case "start_failed":
    case "output_failed":
    case "gang_stopped":
    case "dependency":
    case "budget":
      return `stopped: ${exitClass.replaceAll("_", " ")}`;
  }
}
