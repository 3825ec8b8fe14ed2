import type { Lease } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { AttemptState, ExitClass } from "@fastgpu/domain/states";
import type { Logger } from "@fastgpu/telemetry/log";
import type { Tracing } from "@fastgpu/telemetry/tracing";
import type { Context } from "@fastgpu/telemetry/trace-context";
import { recentBootMs } from "../boot-time.ts";
import type { CheckpointStore, CheckpointTurn } from "../checkpoint/store.ts";
import type { GpuDevice } from "../gpu/device.ts";
import type { LeaseBook } from "../lease/book.ts";
import { errorTailOf } from "../log/tail.ts";
import type { AttemptStorage, Owner } from "../outputs/storage.ts";
import type { Launch, Outcome, Runtime, StopRequest } from "../runtime/port.ts";
import { rangesFromWire } from "../session/wire.ts";
import { checkpointUse, mayResume } from "./checkpoint-use.ts";
import { type AttemptTrace, traceAttempt } from "./attempt-trace.ts";
import { type End, type EndFacts, judgeEnd, withWhole } from "./classify.ts";
import { keepFiles, prepareFolders, verifyDevices } from "./files.ts";
import { launchOf, refusalOf } from "./launch.ts";
import { type Effect, type Life, type LifeEvent, nothingKept, step } from "./machine.ts";
import type { Records } from "./records.ts";

/** What attempts share. */
export interface AttemptContext {
  readonly records: Records;
  readonly leases: LeaseBook;
  readonly storage: AttemptStorage;
  readonly checkpoints: CheckpointStore;
  readonly tracing: Tracing;
  readonly log: Logger;
  /** Grace of a stop because the lease ends, in milliseconds. */
  readonly leaseGraceMs: number;
  /** The runtime for a lease, undefined where this worker has none that fits. */
  runtimeFor(lease: Lease): Runtime | undefined;
  /** This worker's devices with these ids. */
  gpusOf(ids: readonly string[]): readonly GpuDevice[];
  /** A hardware XID on one of these devices since then. */
  faultOf(gpus: readonly GpuDevice[], sinceBootMs: number): number | undefined;
  /** Where the attempt's log file is. */
  readonly logPath: (attempt: string) => string;
  /** Makes a report durable; resolves with its id. */
  journalled(
    effect: Extract<Effect, { do: "report" | "reportRunning" | "reportEnded" }>,
  ): Promise<bigint>;
}

/** One attempt in this worker's hands. */
export interface RunningAttempt {
  readonly lease: Lease;
  readonly phase: AttemptState;
  readonly endReportId: bigint | undefined;
  readonly graceMs: number;
  /** Resolves once its end is journalled. */
  readonly ended: Promise<void>;
  begin(): void;
  /** Goes on after a restart of the worker, from where its record stands. */
  resume(): void;
  stop(reason: ExitClass, graceMs: number): void;
  exited(outcome: Outcome): void;
  /** What the scheduler lets it do in storage, anew. */
  granted(storageGrant: string): void;
  /** It is not ours any more: kills it and forgets it without a report. */
  abandon(): void;
  /** Removes all traces; its end is acknowledged. */
  forget(): Promise<void>;
  /** The worker leaves: nothing more is started or stored, what runs goes on. */
  detach(): void;
  /** Resolves when what is being done for it is done. */
  settled(): Promise<void>;
}

/** What makes one attempt. */
export interface AttemptStart {
  readonly lease: Lease;
  readonly life: Life | undefined;
  readonly endReportId: bigint | undefined;
  /** Its end is journalled under this id. */
  readonly onEnded: (reportId: bigint) => void;
  readonly onForgotten: () => void;
}

export function createRunningAttempt(context: AttemptContext, start: AttemptStart): RunningAttempt {
  return new Running(context, start);
}

class Running implements RunningAttempt {
  readonly lease: Lease;
  readonly ended: Promise<void>;
  readonly #context: AttemptContext;
  readonly #start: AttemptStart;
  readonly #runtime: Runtime | undefined;
  readonly #gpus: readonly GpuDevice[];
  readonly #launch: Launch | undefined;
  readonly #trace: AttemptTrace;
  readonly #leaving = new AbortController();
  readonly #stopped = new AbortController();
  readonly #startedBootMs = recentBootMs();
  #life: Life;
  #endReportId: bigint | undefined;
  #abandoned = false;
  #forgetting: Promise<void> | undefined;
  /** Effects are done one after the other, in the order of the steps that asked for them. */
  #work: Promise<void> = Promise.resolve();
  #markEnded: () => void = () => undefined;

  constructor(context: AttemptContext, start: AttemptStart) {
    this.#context = context;
    this.#start = start;
    this.lease = start.lease;
    this.#life = start.life ?? { phase: "LEASED" };
    this.#endReportId = start.endReportId;
    this.#runtime = context.runtimeFor(start.lease);
    this.#gpus = context.gpusOf(start.lease.gpus);
    const checkpoints = context.checkpoints.folderOf(this.#ownCheckpoints());
    this.#launch =
      this.#runtime === undefined
        ? undefined
        : launchOf(start.lease, this.#gpus, this.#runtime, checkpoints);
    if (this.#usesCheckpoints()) context.checkpoints.hold(this.#ownCheckpoints());
    this.ended = new Promise((resolve) => {
      this.#markEnded = resolve;
    });
    if (start.endReportId !== undefined) this.#markEnded();
    this.#trace = traceAttempt(context.tracing, start.lease, context.log);
  }

  get phase(): AttemptState {
    return this.#life.phase;
  }

  get endReportId(): bigint | undefined {
    return this.#endReportId;
  }

  get graceMs(): number {
    return this.#launch?.graceMs ?? 0;
  }

  begin(): void {
    const refusal =
      this.#runtime === undefined
        ? "this worker has no runtime for the task"
        : refusalOf(this.lease, this.#gpus);
    if (refusal === undefined) this.#apply({ kind: "take" });
    else this.#apply({ kind: "refused", end: this.#endOf("rejected", refusal) });
  }

  resume(): void {
    switch (this.#life.phase) {
      case "LEASED":
        return this.begin();
      case "STARTING":
        // Starting is idempotent by name: whatever came of the first try is found again.
        return this.#enqueue({ do: "start" });
      case "RUNNING":
      case "STOPPING":
        return this.#enqueue({ do: "start" });
      case "FINALIZING":
        return this.#enqueue({ do: "keep", end: this.#life.end });
      case "ENDED": {
        const { end, kept } = this.#life;
        if (this.#endReportId === undefined) this.#enqueue({ do: "reportEnded", end, kept });
        return;
      }
    }
  }

  stop(reason: ExitClass, graceMs: number): void {
    const request: StopRequest = {
      reason,
      signal: this.#launch?.stopSignal ?? "SIGTERM",
      graceMs,
    };
    this.#stopped.abort();
    this.#apply({ kind: "stop", request, nowBootMs: recentBootMs() });
  }

  exited(outcome: Outcome): void {
    if (this.#abandoned) return void this.forget();
    // Read before the step: the log is complete when the exit is told.
    const facts = this.#factsOf(outcome);
    this.#work = this.#work.then(async () => {
      const end = judgeEnd(await facts, this.#leased());
      this.#apply({ kind: "exited", end });
    });
  }

  granted(storageGrant: string): void {
    // On disk with the attempt's next step.
    this.lease.storageGrant = storageGrant;
  }

  abandon(): void {
    this.#abandoned = true;
    this.#stopped.abort();
    this.#leaving.abort();
    const kill = { reason: "node_lost", signal: "SIGKILL", graceMs: 0 } as const;
    const delivered = this.#runtime?.stop(this.lease.attempt, kill) ?? Promise.resolve(false);
    // A live one is forgotten at its exit.
    void delivered.then((live) => (live ? undefined : this.forget())).catch(() => this.forget());
  }

  forget(): Promise<void> {
    this.#forgetting ??= this.#removeAll();
    return this.#forgetting;
  }

  detach(): void {
    this.#leaving.abort();
    this.#stopped.abort();
    this.#trace.leave();
  }

  settled(): Promise<void> {
    return this.#work.catch(() => undefined);
  }

  async #removeAll(): Promise<void> {
    const { records } = this.#context;
    const { attempt } = this.lease;
    if (this.#usesCheckpoints()) {
      const { checkpoints } = this.#context;
      await checkpoints
        .release(
          this.#ownCheckpoints(),
          this.#abandoned ? undefined : checkpointUse(this.#life, this.#leased(), this.#isInGang()),
        )
        .catch((error: unknown) => {
          this.#trace.log.warn({ err: error }, "checkpoints could not be removed");
        });
    }
    await this.#runtime?.remove(attempt).catch((error: unknown) => {
      this.#trace.log.warn({ err: error }, "an ended attempt could not be removed");
    });
    if (this.#isDurable()) records.remove(attempt);
    this.#start.onForgotten();
  }

  /** A no-op attempt leaves nothing to adopt, and is not worth a file. */
  #isDurable(): boolean {
    return this.#runtime?.kind !== "noop";
  }

  #usesCheckpoints(): boolean {
    return this.#isDurable() && this.#launch?.checkpoints !== undefined;
  }

  /** The task's folder of checkpoints: a gang's members may meet on one worker, each has its own. */
  #ownCheckpoints(): string {
    const { task, gang } = this.lease;
    return gang === undefined || gang.rank === 0 ? task : `${task}-${gang.rank}`;
  }

  #isInGang(): boolean {
    return (this.lease.gang?.size ?? 1) > 1;
  }

  /** For which attempt the folder of checkpoints is made ready; a range's elements start anew elsewhere. */
  #checkpointTurn(owner: Owner): CheckpointTurn | undefined {
    const { checkpoint, epoch } = this.lease;
    if (this.#leased() !== undefined) return undefined;
    const { storage } = this.#context;
    const stored = checkpoint && {
      epoch: Number(checkpoint.epoch),
      fetch: (folder: string) => storage.fetchCheckpoint(owner, checkpoint.manifestDigest, folder),
    };
    return { epoch: Number(epoch), stored };
  }

  #leased(): ReturnType<typeof rangesFromWire> | undefined {
    const { elements } = this.lease;
    return elements.length === 0 ? undefined : rangesFromWire(elements);
  }

  #endOf(exitClass: ExitClass, message: string): End {
    return { exitClass, exitCode: undefined, message, goneBootMs: recentBootMs(), elements: [] };
  }

  async #factsOf(outcome: Outcome): Promise<EndFacts> {
    const hasGpus = this.#gpus.length > 0;
    const failed = outcome.cause === "exit" && outcome.exitCode !== 0;
    const errorTail =
      failed && hasGpus ? await errorTailOf(this.#context.logPath(this.lease.attempt)) : "";
    const faultXid = this.#context.faultOf(this.#gpus, this.#startedBootMs);
    return { outcome, errorTail, hasGpus, faultXid };
  }

  /** One step: the new state is kept on disk, then its effects are done in order. */
  #apply(event: LifeEvent): void {
    const next = step(this.#life, event);
    this.#life = next.life;
    if (next.effects.length > 0) this.#save();
    for (const effect of next.effects) this.#enqueue(effect);
  }

  #save(): void {
    if (this.#abandoned || !this.#isDurable()) return;
    const { lease } = this;
    this.#context.records.save({ lease, life: this.#life, endReportId: this.#endReportId });
  }

  #enqueue(effect: Effect): void {
    this.#work = this.#work
      .then(() => (this.#abandoned ? undefined : this.#perform(effect)))
      .catch((error: unknown) => this.#failed(effect, error));
  }

  #failed(effect: Effect, error: unknown): void {
    this.#trace.log.error({ err: error, effect: effect.do }, "attempt step failed");
  }

  async #perform(effect: Effect): Promise<void> {
    switch (effect.do) {
      case "start":
        return this.#part("attempt.start", (context) => this.#startIt(context));
      case "stop":
        this.#trace.note(`stop: ${effect.request.reason}`);
        return this.#deliver(effect.request);
      case "keep":
        return this.#part("attempt.keep", (context) => this.#keep(effect.end, context));
      case "report":
      case "reportRunning":
        // Not waited for: the journal keeps the order, and sends nothing before it is durable.
        void this.#context
          .journalled(effect)
          .catch((error: unknown) => this.#failed(effect, error));
        return;
      case "reportEnded":
        this.#endReportId = await this.#context.journalled({
          ...effect,
          end: withWhole(effect.end, this.#leased()),
        });
        this.#save();
        this.#start.onEnded(this.#endReportId);
        this.#trace.end(effect.end);
        this.#markEnded();
    }
  }

  /** A no-op attempt is over before its parts would tell anything. */
  #part(name: string, work: (context: Context) => Promise<void>): Promise<void> {
    if (this.#isDurable()) return this.#trace.part(name, work);
    return work(this.#trace.context);
  }

  async #startIt(context: Context): Promise<void> {
    const { attempt } = this.lease;
    const runtime = this.#runtime;
    const launch = this.#launch;
    if (runtime === undefined || launch === undefined) return;
    const fresh = this.#life.phase === "STARTING";
    const { leases } = this.#context;
    if (fresh && !(await leases.untilStartable(attempt, this.#stopped.signal))) {
      if (this.#leaving.signal.aborted) return;
      return this.#apply({
        kind: "refused",
        end: this.#endOf("node_lost", "the lease ended before the start"),
      });
    }
    try {
      if (fresh && runtime.kind !== "noop") {
        const { storage, checkpoints } = this.#context;
        const owner = this.#owner(context, this.#stopped.signal);
        if (this.#usesCheckpoints()) {
          const openToAll = launch.image !== undefined;
          const turn = this.#checkpointTurn(owner);
          await checkpoints.prepare(this.#ownCheckpoints(), { openToAll, turn });
        }
        await prepareFolders({ storage, lease: this.lease, owner, launch, runtime });
      }
      // One that runs already keeps the deadline that the keeper has on file.
      const killAtMs = fresh ? leases.killTime(attempt) : Number.MAX_SAFE_INTEGER;
      const started = await runtime.start(launch, killAtMs);
      if (started.kind === "refused") {
        if (fresh)
          this.#apply({ kind: "refused", end: this.#endOf(started.exitClass, started.message) });
        return;
      }
      if (runtime.kind === "process") await verifyDevices(this.#gpus);
      const isolation = `${runtime.kind}: ${started.isolation.join(", ")}`;
      this.#trace.note("running");
      this.#apply({ kind: "running", isolation });
    } catch (error) {
      if (this.#leaving.signal.aborted) return;
      await runtime
        .stop(attempt, { reason: "rejected", signal: "SIGKILL", graceMs: 0 })
        .catch(() => false);
      this.#apply({ kind: "refused", end: this.#endOf("start_failed", messageOf(error)) });
    }
  }

  async #deliver(request: StopRequest): Promise<void> {
    const delivered = await this.#runtime?.stop(this.lease.attempt, request);
    if (delivered === true) this.#apply({ kind: "delivered" });
  }

  async #keep(end: End, context: Context): Promise<void> {
    if (this.#runtime?.kind === "noop") return this.#apply({ kind: "kept", kept: nothingKept });
    try {
      const { storage, logPath } = this.#context;
      const resumes =
        this.#usesCheckpoints() && this.#leased() === undefined && mayResume(end, this.#isInGang());
      const checkpoints = resumes ? this.#launch?.checkpoints : undefined;
      const { lease } = this;
      const { log } = this.#trace;
      const owner = this.#owner(context);
      const runtime = this.#runtime;
      const kept = await keepFiles({
        ...{ storage, log, logPath, lease, owner, runtime, end, checkpoints },
      });
      this.#apply({ kind: "kept", kept });
    } catch (error) {
      // Left by the worker: the next one keeps the outputs.
      if (this.#leaving.signal.aborted) return;
      this.#apply({ kind: "keepFailed", message: `outputs were not kept: ${messageOf(error)}` });
    }
  }

  /** For calls to storage, broken off when the worker leaves or at `stop`. */
  #owner(context: Context, stop?: AbortSignal): Owner {
    return {
      project: this.lease.project,
      attempt: this.lease.attempt,
      trace: context,
      grant: () => this.lease.storageGrant,
      signal: AbortSignal.any([this.#leaving.signal, ...(stop === undefined ? [] : [stop])]),
    };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
