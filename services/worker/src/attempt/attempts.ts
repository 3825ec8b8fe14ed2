import type { Progress } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type {
  AttemptProgress,
  Lease,
  LiveAttempt,
  Stop,
  StorageGrant,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import {
  AttemptProgressSchema,
  LiveAttemptSchema,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { create } from "@bufbuild/protobuf";
import { bootMs } from "../boot-time.ts";
import type { Journal } from "../journal/journal.ts";
import type { LeaseBook } from "../lease/book.ts";
import type { Runtime, RuntimeEvent } from "../runtime/port.ts";
import { exitClassFromWire, stateToWire } from "../session/wire.ts";
import { nothingKept, type Life } from "./machine.ts";
import { parseProgress, tellsOfCheckpoint } from "./progress.ts";
import type { AttemptRecord, Records } from "./records.ts";
import { journalReport } from "./reporter.ts";
import { type AttemptContext, type RunningAttempt, createRunningAttempt } from "./running.ts";

/** Everything that this worker has taken up and the scheduler has not yet acknowledged the end of. */
export interface Attempts extends AsyncDisposable {
  /** What the Hello lists. */
  live(): LiveAttempt[];
  /** Takes up leases; one that is here already changes nothing. */
  take(leases: readonly Lease[]): void;
  stop(stops: readonly Stop[]): void;
  /** Takes up new storage grants. */
  grant(grants: readonly StorageGrant[]): void;
  /** After a Welcome: goes on with these, kills all others. */
  reconcile(adopted: ReadonlySet<string>): void;
  /** The scheduler has every report up to this one. */
  acknowledged(upTo: bigint): void;
  /** Newest progress since the last call. */
  takeProgress(): AttemptProgress[];
  /** True while an attempt here can still write to its log. */
  isLive(attempt: string): boolean;
  has(attempt: string): boolean;
  /** Called with the attempt's id whenever its log grew or it ended. */
  onLog(listener: (attempt: string) => void): void;
  /** Stops everything and resolves when all ends are journalled. */
  stopAll(): Promise<void>;
  /** How many run; for simulated figures and for the drain. */
  readonly size: number;
}

/** Options of {@link createAttempts}. */
export interface AttemptsOptions extends Omit<AttemptContext, "journalled"> {
  readonly records: Records;
  readonly journal: Journal;
  readonly leases: LeaseBook;
  readonly runtimes: readonly Runtime[];
}

const superviseMs = 200;
const rememberedStops = 10_000;

/** Starts the attempts' keeper-side bookkeeping and adopts what an earlier worker left. */
export async function createAttempts(options: AttemptsOptions): Promise<Attempts> {
  const manager = new Manager(options);
  await manager.adopt();
  return manager;
}

class Manager implements Attempts {
  readonly #options: AttemptsOptions;
  readonly #running = new Map<string, RunningAttempt>();
  readonly #progress = new Map<string, AttemptProgress>();
  /** What each attempt wrote last: it goes with its end, whenever the last heartbeat was. */
  readonly #lastProgress = new Map<string, Progress>();
  /** When attempts told of a checkpoint that no heartbeat has carried yet, on the boot clock. */
  readonly #saved = new Map<string, number>();
  readonly #stoppedEarly = new Set<string>();
  readonly #overdue = new Set<string>();
  #ended: { readonly id: bigint; readonly attempt: RunningAttempt }[] = [];
  readonly #logListeners: ((attempt: string) => void)[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(options: AttemptsOptions) {
    this.#options = options;
    for (const runtime of options.runtimes) {
      runtime.subscribe((event) => this.#onRuntime(event));
    }
    this.#timer = setInterval(() => this.#supervise(), superviseMs);
    this.#timer.unref();
  }

  get size(): number {
    return this.#running.size;
  }

  /** What the records name goes on where it stands; what only a runtime knows is nobody's and is removed. */
  async adopt(): Promise<void> {
    const { records, runtimes, journal } = this.#options;
    const pending = new Set(journal.pending().map((entry) => entry.id));
    const saved = records.load();
    const known = new Map(saved.map((record) => [record.lease.attempt, record]));
    for (const runtime of runtimes) {
      for (const { name, outcome } of await runtime.list()) {
        if (known.has(name)) continue;
        if (outcome === undefined) await runtime.stop(name, killNow);
        await runtime.remove(name).catch(() => undefined);
      }
    }
    for (const record of saved) this.#resume(record, pending);
  }

  #resume(record: AttemptRecord, pending: ReadonlySet<bigint>): void {
    const { lease, life, endReportId } = record;
    const acknowledged = endReportId !== undefined && !pending.has(endReportId);
    const attempt = this.#create(lease, life, endReportId);
    if (acknowledged) void attempt.forget();
    else attempt.resume();
    if (endReportId !== undefined && !acknowledged) this.#awaitAck(endReportId, attempt);
  }

  #create(lease: Lease, life?: Life, endReportId?: bigint): RunningAttempt {
    const { leases } = this.#options;
    leases.add(lease.attempt, Number(lease.leaseEndMs));
    const attempt = createRunningAttempt(
      {
        ...this.#options,
        // Each report is a step of the attempt's life: who waits for its log looks whether it has ended.
        journalled: (effect) => {
          setImmediate(() => this.#tellLog(lease.attempt));
          return journalReport(
            this.#options.journal,
            { ...lease, progress: this.#lastProgress.get(lease.attempt) },
            effect,
          );
        },
      },
      {
        lease,
        life,
        endReportId,
        onEnded: (id) => this.#awaitAck(id, attempt),
        onForgotten: () => {
          this.#running.delete(lease.attempt);
          this.#progress.delete(lease.attempt);
          this.#saved.delete(lease.attempt);
          this.#lastProgress.delete(lease.attempt);
          this.#overdue.delete(lease.attempt);
          leases.remove(lease.attempt);
          this.#tellLog(lease.attempt);
        },
      },
    );
    this.#running.set(lease.attempt, attempt);
    return attempt;
  }

  #awaitAck(id: bigint, attempt: RunningAttempt): void {
    const last = this.#ended.at(-1);
    this.#ended.push({ id, attempt });
    if (last !== undefined && last.id > id) this.#ended.sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  live(): LiveAttempt[] {
    return [...this.#running.values()].map((attempt) =>
      create(LiveAttemptSchema, {
        attempt: attempt.lease.attempt,
        epoch: attempt.lease.epoch,
        state: stateToWire(attempt.phase),
      }),
    );
  }

  take(leases: readonly Lease[]): void {
    for (const lease of leases) {
      if (this.#running.has(lease.attempt) || this.#stoppedEarly.has(lease.attempt)) continue;
      this.#create(lease).begin();
    }
  }

  stop(stops: readonly Stop[]): void {
    for (const { attempt, epoch, reason, graceMs } of stops) {
      const running = this.#running.get(attempt);
      const exitClass = exitClassFromWire(reason);
      if (running !== undefined) {
        if (running.lease.epoch === epoch) running.stop(exitClass, Number(graceMs));
        continue;
      }
      // Stopped before its lease came here: it must not start when that comes late.
      if (this.#stoppedEarly.has(attempt)) continue;
      this.#stoppedEarly.add(attempt);
      for (const oldest of this.#stoppedEarly) {
        if (this.#stoppedEarly.size <= rememberedStops) break;
        this.#stoppedEarly.delete(oldest);
      }
      const message = "stopped before it came to the worker";
      const end = { exitClass, exitCode: undefined, message, goneBootMs: bootMs(), elements: [] };
      void journalReport(
        this.#options.journal,
        { attempt, epoch },
        { do: "reportEnded", end, kept: nothingKept },
      );
    }
  }

  grant(grants: readonly StorageGrant[]): void {
    for (const { attempt, grant } of grants) this.#running.get(attempt)?.granted(grant);
  }

  reconcile(adopted: ReadonlySet<string>): void {
    for (const attempt of this.#running.values()) {
      // An ended one only waits for its acknowledgement, which comes fenced or not.
      if (!adopted.has(attempt.lease.attempt) && attempt.phase !== "ENDED") attempt.abandon();
    }
  }

  acknowledged(upTo: bigint): void {
    this.#options.journal.acknowledge(upTo);
    // End reports have ascending ids, in the order in which they were journalled.
    let over = 0;
    for (const { id, attempt } of this.#ended) {
      if (id > upTo) break;
      over += 1;
      void attempt.forget();
    }
    this.#ended = this.#ended.slice(over);
  }

  takeProgress(): AttemptProgress[] {
    for (const [attempt, atMs] of this.#saved) {
      const lease = this.#running.get(attempt)?.lease;
      if (lease === undefined) continue;
      const { epoch } = lease;
      const message =
        this.#progress.get(attempt) ?? create(AttemptProgressSchema, { attempt, epoch });
      message.savedAgoMs = BigInt(bootMs() - atMs);
      this.#progress.set(attempt, message);
    }
    this.#saved.clear();
    const newest = [...this.#progress.values()];
    this.#progress.clear();
    return newest;
  }

  isLive(attempt: string): boolean {
    const phase = this.#running.get(attempt)?.phase;
    return phase !== undefined && phase !== "FINALIZING" && phase !== "ENDED";
  }

  has(attempt: string): boolean {
    return this.#running.has(attempt);
  }

  onLog(listener: (attempt: string) => void): void {
    this.#logListeners.push(listener);
  }

  async stopAll(): Promise<void> {
    const all = [...this.#running.values()];
    for (const attempt of all) attempt.stop("preempted", attempt.graceMs);
    await Promise.all(all.map((attempt) => attempt.ended));
  }

  #onRuntime(event: RuntimeEvent): void {
    const attempt = this.#running.get(event.name);
    if (attempt === undefined) return;
    switch (event.kind) {
      case "exited":
        attempt.exited(event.outcome);
        this.#tellLog(event.name);
        return;
      case "log":
        this.#tellLog(event.name);
        return;
      case "progress":
      case "elements": {
        if (tellsOfCheckpoint(event, attempt.lease)) this.#saved.set(event.name, bootMs());
        const progress = parseProgress(event, attempt.lease);
        if (progress === undefined) return;
        const { epoch } = attempt.lease;
        const message = create(AttemptProgressSchema, { attempt: event.name, epoch, progress });
        this.#progress.set(event.name, message);
        if (message.progress !== undefined) this.#lastProgress.set(event.name, message.progress);
        return;
      }
    }
  }

  #tellLog(attempt: string): void {
    for (const listener of this.#logListeners) listener(attempt);
  }

  /** Stops what has come to the end of its lease on the worst reading of the server's clock. */
  #supervise(): void {
    for (const { attempt, unfunded } of this.#options.leases.overdue()) {
      if (this.#overdue.has(attempt)) continue;
      this.#overdue.add(attempt);
      const reason = unfunded ? "budget" : "node_lost";
      this.#running.get(attempt)?.stop(reason, this.#options.leaseGraceMs);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    for (const attempt of this.#running.values()) attempt.detach();
    await Promise.allSettled([...this.#running.values()].map((attempt) => attempt.settled()));
  }
}

const killNow = { reason: "node_lost", signal: "SIGKILL", graceMs: 0 } as const;
