import type { ExitClass } from "@fastgpu/domain/states";

/** CPU, memory and process limits of one attempt; 0 = no limit. */
export interface Limits {
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly pids: number;
}

/** Elements of an array task, run by at most `slots` at once. */
export interface ArrayRange {
  readonly ranges: IndexRanges;
  readonly slots: number;
}

/** What to run, in words that every runtime understands: a process, a container or a Kubernetes Job. */
export interface Launch {
  /** The attempt's id (with its rank in a gang): the container's and the Job's name, so starting is idempotent. */
  readonly name: string;
  /** The container image; undefined = a process. */
  readonly image: string | undefined;
  /** The program and its arguments; for an image, empty = the image's own. */
  readonly command: readonly string[];
  /** The complete environment: runtimes add nothing of their host's. */
  readonly env: Readonly<Record<string, string>>;
  /** Absolute working directory; undefined = the attempt's own work folder (process) or the image's (container). */
  readonly workdir: string | undefined;
  /**
   * Host folder of the task's checkpoints, told as FASTGPU_CHECKPOINT_DIR (elements of an array: the folder below it
   * that is named by the index); undefined = none is offered.
   */
  readonly checkpoints: string | undefined;
  readonly limits: Limits;
  /** CDI names (`vendor/class=name`) of the devices promised to the attempt. */
  readonly devices: readonly string[];
  readonly array: ArrayRange | undefined;
  /** `none` = no interface but loopback. */
  readonly network: "none" | "host";
  /** Longest run of the attempt, or of each element, in milliseconds; 0 = no limit. */
  readonly timeoutMs: number;
  /** Signal that asks the task to stop, for example SIGTERM. */
  readonly stopSignal: NodeJS.Signals;
  /** From the stop signal to SIGKILL, in milliseconds. */
  readonly graceMs: number;
}

/** Why the worker stops an attempt: becomes its exit class once delivered. */
export type StopReason = ExitClass;

/** Indexes as ascending, disjoint, half-open ranges. */
export type IndexRanges = readonly (readonly [start: number, end: number])[];

/** Elements of a range that ended by themselves, by how; what is in none of them never finished. */
export interface ElementOutcomes {
  readonly ok: IndexRanges;
  readonly userExit: IndexRanges;
  readonly oom: IndexRanges;
  readonly timeout: IndexRanges;
}

/** How an attempt's processes ended, before any judgement about its class. */
export interface Outcome {
  /**
   * `exit`: by itself. `stop`: after a stop was delivered. `timeout`, `lease`: stopped by the keeper.
   * `lost`: gone without a witness. `start`: never started.
   */
  readonly cause: "exit" | "stop" | "timeout" | "lease" | "lost" | "start";
  /** Exit code, 128 + signal for a signal; undefined where nobody saw it. */
  readonly exitCode: number | undefined;
  /** True where the kernel's out-of-memory killer took a process of this attempt. */
  readonly oom: boolean;
  /** The reason of a delivered stop. */
  readonly stopReason: StopReason | undefined;
  /** For people: what went wrong, without secrets. */
  readonly message: string;
  /** Milliseconds since boot (counting suspend) at which the last process was gone. */
  readonly endedBootMs: number;
  readonly elements: ElementOutcomes | undefined;
}

/** What `start` answers. A refusal names its class. */
export type StartResult =
  | { readonly kind: "started"; readonly isolation: readonly string[]; readonly bootMs: number }
  | {
      readonly kind: "refused";
      readonly exitClass: "image" | "start_failed" | "rejected";
      readonly message: string;
    };

/** Something that a runtime saw. Events may repeat after a reconnect, never get lost before an ack. */
export type RuntimeEvent =
  | { readonly kind: "exited"; readonly name: string; readonly outcome: Outcome }
  | { readonly kind: "progress"; readonly name: string; readonly line: string }
  | { readonly kind: "log"; readonly name: string }
  | {
      readonly kind: "elements";
      readonly name: string;
      readonly ok: number;
      readonly failed: number;
    };

/** An attempt that a runtime knows: live, or ended and not removed yet. */
export interface KnownAttempt {
  readonly name: string;
  readonly outcome: Outcome | undefined;
}

export interface StopRequest {
  readonly reason: StopReason;
  readonly signal: NodeJS.Signals;
  /** From the signal to SIGKILL, in milliseconds. */
  readonly graceMs: number;
}

/**
 * How attempts run on one node. Every method is idempotent by name and safe to repeat after a crash at any point.
 * A Kubernetes runtime fits the same port: `start` creates a Job of that name, `setDeadlines` writes
 * activeDeadlineSeconds, events come from a watch, `list` is a labelled list, `remove` deletes the Job.
 */
export interface Runtime extends AsyncDisposable {
  readonly kind: "process" | "container" | "noop" | "kubernetes";
  /** Starts, or finds already started, the attempt `launch.name`. It dies at `deadlineBootMs`, worker alive or not. */
  start(launch: Launch, deadlineBootMs: number): Promise<StartResult>;
  /** Asks to stop; true = delivered to a live attempt. Resolves before the attempt ends. */
  stop(name: string, request: StopRequest): Promise<boolean>;
  /** Moves deadlines of live attempts; milliseconds since boot, counting suspend. Unnamed attempts keep theirs. */
  setDeadlines(deadlines: ReadonlyMap<string, number>): Promise<void>;
  /** Everything that lives here or ended without `remove`: what a restarted worker adopts. */
  list(): Promise<readonly KnownAttempt[]>;
  /** The attempt's own writable folder: on the host, and as the task sees it. */
  workFolder(name: string): { readonly host: string; readonly inside: string };
  /** Forgets an ended attempt, after its end report was acknowledged. */
  remove(name: string): Promise<void>;
  /** Calls `listener` for every event from now on. */
  subscribe(listener: (event: RuntimeEvent) => void): void;
}
