/** How the run times of past tasks bend the order. */
export interface HistoryOptions {
  /** Hazard of the prior: run times are taken for Pareto with this tail index until there is history. */
  readonly priorTail: number;
  /** Tasks that the prior (and, for a queue, the whole fleet's history) counts for. */
  readonly priorTasks: number;
}

/** The shipped settings. */
export const defaultHistoryOptions: HistoryOptions = { priorTail: 0.6, priorTasks: 20 };

/** Buckets of run time: a quarter of a doubling each, from one minute up. */
const bucketsPerDoubling = 4;
const firstMs = 60_000;
const buckets = 96;
/** The best stopping time is sought at most so many buckets ahead (12 doublings). */
const horizon = 48;
/** Bounds of the width classes, in GPUs: 1, 2, 3–7, 8, more. */
const widthBounds = [1, 2, 7, 8];

/** Ends and exposures by bucket: a life table. */
interface LifeTable {
  readonly ended: Float64Array;
  readonly exposed: Float64Array;
  /** Ranks at the start of each bucket in milliseconds; undefined until asked for. */
  ranks: Float64Array | undefined;
}

const emptyTable = (): LifeTable => ({
  ended: new Float64Array(buckets),
  exposed: new Float64Array(buckets),
  ranks: undefined,
});

/**
 * The Gittins rank of a task from the run times of tasks like it: the least, over all stopping times, of expected
 * run time until then over the chance to end by then, given what it has run already (Gittins 1979; for GPU clusters
 * Tiresias, NSDI '19; ranks as in Scully, Harchol-Balter and Scheller-Wolf, SOAP, 2018). A lower rank goes first. A
 * queue's own life table leans on the fleet's, and that on a Pareto prior under which the rank is proportional to
 * the attained service: without history the order is plain least attained service.
 *
 * Ranks change only at `refresh`, so that keys in heaps stay valid between.
 */
export class ServiceHistory {
  private readonly options: HistoryOptions;
  private readonly fleet: readonly LifeTable[];
  private readonly queues = new Map<number, LifeTable>();

  constructor(options: HistoryOptions = defaultHistoryOptions) {
    this.options = options;
    this.fleet = Array.from({ length: widthBounds.length + 1 }, emptyTable);
  }

  /** Learns from a task that ended by itself after this run time. */
  observe(leaf: number, gpus: number, runMs: number): void {
    const last = bucketOf(runMs);
    for (const table of [this.fleet[widthClass(gpus)]!, this.tableOf(leaf, gpus)]) {
      for (let at = 0; at <= last; at++) table.exposed[at]! += 1;
      table.ended[last]! += 1;
    }
  }

  /** Takes what was learned since into the ranks. */
  refresh(): void {
    for (const table of this.queues.values()) table.ranks = undefined;
  }

  /** Rank of a task of a queue after this run time, in milliseconds of run time. */
  rankMs(leaf: number, gpus: number, attainedMs: number): number {
    const table = this.tableOf(leaf, gpus);
    table.ranks ??= this.ranks(table, this.fleet[widthClass(gpus)]!);
    const at = bucketOf(attainedMs);
    const from = startOf(at);
    const part = Math.min(1, (attainedMs - from) / (startOf(at + 1) - from));
    const here = table.ranks[at]!;
    return here + part * ((table.ranks[at + 1] ?? here) - here);
  }

  private tableOf(leaf: number, gpus: number): LifeTable {
    const key = leaf * (widthBounds.length + 1) + widthClass(gpus);
    let table = this.queues.get(key);
    if (table === undefined) {
      table = emptyTable();
      this.queues.set(key, table);
    }
    return table;
  }

  private ranks(own: LifeTable, fleet: LifeTable): Float64Array {
    const { priorTail, priorTasks } = this.options;
    const prior = 1 - 2 ** (-priorTail / bucketsPerDoubling);
    const hazard = new Float64Array(buckets);
    for (let at = 0; at < buckets; at++) {
      const of = (fleet.ended[at]! + priorTasks * prior) / (fleet.exposed[at]! + priorTasks);
      hazard[at] = (own.ended[at]! + priorTasks * of) / (own.exposed[at]! + priorTasks);
    }
    return Float64Array.from({ length: buckets }, (_, at) => bestRank(hazard, at));
  }
}

/** min over stopping times of E[run until then] / P(end by then), from the start of a bucket. */
function bestRank(hazard: Float64Array, from: number): number {
  let alive = 1;
  let expected = 0;
  let best = Number.POSITIVE_INFINITY;
  const until = Math.min(buckets - 1, from + horizon);
  for (let at = from; at < until; at++) {
    const width = startOf(at + 1) - startOf(at);
    const ends = alive * hazard[at]!;
    // Those that end within a bucket end halfway through it.
    expected += (alive - ends / 2) * width;
    alive -= ends;
    if (alive < 1) best = Math.min(best, expected / (1 - alive));
  }
  return best === Number.POSITIVE_INFINITY ? startOf(from) : best;
}

function bucketOf(ms: number): number {
  if (ms <= firstMs) return 0;
  return Math.min(buckets - 2, Math.floor(bucketsPerDoubling * Math.log2(ms / firstMs)) + 1);
}

/** Start of a bucket in milliseconds; the first one starts at 0. */
function startOf(bucket: number): number {
  return bucket === 0 ? 0 : firstMs * 2 ** ((bucket - 1) / bucketsPerDoubling);
}

function widthClass(gpus: number): number {
  const at = widthBounds.findIndex((bound) => gpus <= bound);
  return at < 0 ? widthBounds.length : at;
}
