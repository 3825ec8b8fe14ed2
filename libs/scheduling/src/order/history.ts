/** How the run times of past tasks, and of a task's neighbours, make its rank. */
export interface HistoryOptions {
  /** Run times are taken for Pareto with this tail index until there is history. */
  readonly priorTail: number;
  /** Tasks that the prior counts for beside the fleet's history, and the fleet's beside a queue's. */
  readonly priorTasks: number;
  /** Tasks that a queue's history counts for beside a task's neighbours. */
  readonly tableTasks: number;
  /** A neighbour counts e times less for each so many tasks that started between. */
  readonly neighbourLag: number;
  /** A neighbour of the next width class counts so many thousandths of one of the same. */
  readonly neighbourWidthMilli: number;
}

/** Buckets of run time: a quarter of a doubling each, from one minute up. */
const bucketsPerDoubling = 4;
const firstMs = 60_000;
const buckets = 96;
/** The best stopping time is sought at most so many buckets ahead (6 doublings). */
const horizon = 24;
/** Bounds of the width classes, in GPUs: 1, 2, 3–7, 8, more. */
const widthBounds = [1, 2, 7, 8];
const classes = widthBounds.length + 1;
/** Neighbours that count for less than this are not looked at. */
const leastWeight = 0.01;
/** A line of neighbours keeps at most so many; older tasks go by the tables alone. */
const longestLine = 8_192;

/** One task that has started: what its neighbours learn from it. */
export interface Life {
  readonly leaf: number;
  readonly widthClass: number;
  /** Order of the first start over all tasks, and within the line (counted from its first task ever). */
  readonly sequence: number;
  readonly index: number;
  /** Bucket of the run time attained by the last refresh, or of the whole run time. */
  bucket: number;
  /** It ended by itself: the bucket is where. */
  ended: boolean;
  /** Rank at the last refresh, in milliseconds of run time; undefined before the first one. */
  rankMs: number | undefined;
}

/** The tasks of one queue and width class in the order of their first start. */
interface Line {
  lives: Life[];
  /** Tasks dropped from the front. */
  dropped: number;
}

/** Ends and exposures by bucket: a life table. */
interface LifeTable {
  readonly ended: Float64Array;
  readonly exposed: Float64Array;
}

const emptyTable = (): LifeTable => ({
  ended: new Float64Array(buckets),
  exposed: new Float64Array(buckets),
});

/**
 * The Gittins rank of a task from the run times of tasks like it: the least, over all stopping times, of expected
 * run time until then over the chance to end by then, given what it has run already (Gittins 1979; for GPU clusters
 * Tiresias, NSDI '19; ranks as in Scully, Harchol-Balter and Scheller-Wolf, SOAP, 2018). A lower rank goes first.
 *
 * The hazard rests on four layers, each leaning on the next: the neighbours of the task (those of its queue that
 * started shortly before or after it, those of other widths for less), its queue's life table, the fleet's, a Pareto
 * prior. Neighbours count while they run or wait too, as having outlived what they have run (Kaplan and Meier, 1958):
 * tasks come in batches of similar run times, and one of a batch is a scout for the others.
 *
 * Ranks change only at `refresh`, so that keys in heaps stay valid between.
 */
export class ServiceHistory {
  private readonly options: HistoryOptions;
  private readonly fleet = Array.from({ length: classes }, emptyTable);
  private readonly tables = new Map<number, LifeTable>();
  private readonly lines = new Map<number, Line>();
  private readonly ended = new Float64Array(buckets);
  private readonly exposed = new Float64Array(buckets);
  private sequence = 0;

  constructor(options: HistoryOptions) {
    this.options = options;
  }

  /** A task started for the first time. */
  enter(leaf: number, gpus: number): Life {
    const widthClass = classOf(gpus);
    const line = this.lineOf(leaf, widthClass);
    const life: Life = {
      leaf,
      widthClass,
      sequence: this.sequence++,
      index: line.dropped + line.lives.length,
      bucket: 0,
      ended: false,
      rankMs: undefined,
    };
    line.lives.push(life);
    if (line.lives.length > longestLine) {
      line.dropped += line.lives.length >> 1;
      line.lives = line.lives.slice(line.lives.length >> 1);
    }
    return life;
  }

  /** A task ended by itself after this run time: all that come after learn from it. */
  end(life: Life, runMs: number): void {
    life.bucket = bucketOf(runMs);
    life.ended = true;
    for (const table of [this.fleet[life.widthClass]!, this.tableOf(life)]) {
      for (let at = 0; at <= life.bucket; at++) table.exposed[at]! += 1;
      table.ended[life.bucket]! += 1;
    }
  }

  /** Renews the ranks of tasks, given the run time that each has attained, in milliseconds. */
  refresh(attained: ReadonlyMap<Life, number>): void {
    for (const [life, ms] of attained) life.bucket = bucketOf(ms);
    for (const [life, ms] of attained) life.rankMs = this.rank(life, ms);
  }

  private rank(life: Life, attainedMs: number): number {
    const from = bucketOf(attainedMs);
    const until = Math.min(buckets - 1, from + horizon);
    this.ended.fill(0, from, until);
    this.exposed.fill(0, from, until);
    for (let widthClass = 0; widthClass < classes; widthClass++) {
      const steps = Math.abs(widthClass - life.widthClass);
      const weight = (this.options.neighbourWidthMilli / 1000) ** steps;
      if (weight >= leastWeight) this.listen({ life, widthClass, weight, from, until });
    }
    return this.bestRank(life, attainedMs, from, until);
  }

  /** Adds up what the neighbours of one width class have seen from one bucket until another. */
  private listen(of: {
    readonly life: Life;
    readonly widthClass: number;
    readonly weight: number;
    readonly from: number;
    readonly until: number;
  }): void {
    const { life, widthClass, from, until } = of;
    const line = this.lines.get(life.leaf * classes + widthClass);
    if (line === undefined) return;
    const { lives } = line;
    const { neighbourLag } = this.options;
    const here =
      widthClass === life.widthClass ? life.index - line.dropped : firstAfter(lives, life.sequence);
    const reach = Math.floor(neighbourLag * Math.log(of.weight / leastWeight));
    const last = Math.min(lives.length - 1, here + reach);
    for (let at = Math.max(0, here - reach); at <= last; at++) {
      const other = lives[at]!;
      if (other === life || other.bucket < from) continue;
      const weight = of.weight * Math.exp(-Math.abs(at - here) / neighbourLag);
      const seen = Math.min(until, other.ended ? other.bucket + 1 : other.bucket);
      for (let bucket = from; bucket < seen; bucket++) this.exposed[bucket]! += weight;
      if (other.ended && other.bucket < until) this.ended[other.bucket]! += weight;
    }
  }

  /** min over stopping times of E[run until then] / P(end by then), given what has been run. */
  private bestRank(life: Life, attainedMs: number, from: number, until: number): number {
    const { priorTail, priorTasks, tableTasks } = this.options;
    const prior = 1 - 2 ** (-priorTail / bucketsPerDoubling);
    const fleet = this.fleet[life.widthClass]!;
    const own = this.tableOf(life);
    let alive = 1;
    let expected = 0;
    let best = Number.POSITIVE_INFINITY;
    for (let at = from; at < until; at++) {
      const ofFleet = (fleet.ended[at]! + priorTasks * prior) / (fleet.exposed[at]! + priorTasks);
      const ofQueue = (own.ended[at]! + priorTasks * ofFleet) / (own.exposed[at]! + priorTasks);
      const hazard = (this.ended[at]! + tableTasks * ofQueue) / (this.exposed[at]! + tableTasks);
      const whole = startOf(at + 1) - startOf(at);
      // Of the bucket that it is in, what is left.
      const width = at === from ? startOf(at + 1) - attainedMs : whole;
      const ends = alive * (1 - (1 - Math.min(hazard, 0.999)) ** (width / whole));
      // Those that end within a bucket end halfway through it.
      expected += (alive - ends / 2) * width;
      alive -= ends;
      if (alive < 1) best = Math.min(best, expected / (1 - alive));
    }
    return best === Number.POSITIVE_INFINITY ? attainedMs : best;
  }

  private tableOf({ leaf, widthClass }: Life): LifeTable {
    const key = leaf * classes + widthClass;
    let table = this.tables.get(key);
    if (table === undefined) {
      table = emptyTable();
      this.tables.set(key, table);
    }
    return table;
  }

  private lineOf(leaf: number, widthClass: number): Line {
    const key = leaf * classes + widthClass;
    let line = this.lines.get(key);
    if (line === undefined) {
      line = { lives: [], dropped: 0 };
      this.lines.set(key, line);
    }
    return line;
  }
}

/** Index of the first task of a line that started after a moment. */
function firstAfter(lives: readonly Life[], sequence: number): number {
  let low = 0;
  let high = lives.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lives[middle]!.sequence < sequence) low = middle + 1;
    else high = middle;
  }
  return low;
}

function bucketOf(ms: number): number {
  if (ms <= firstMs) return 0;
  return Math.min(buckets - 2, Math.floor(bucketsPerDoubling * Math.log2(ms / firstMs)) + 1);
}

/** Starts of the buckets in milliseconds; the first one starts at 0. */
const starts = Float64Array.from({ length: buckets + 1 }, (_, bucket) =>
  bucket === 0 ? 0 : firstMs * 2 ** ((bucket - 1) / bucketsPerDoubling),
);

const startOf = (bucket: number): number => starts[bucket]!;

function classOf(gpus: number): number {
  const at = widthBounds.findIndex((bound) => gpus <= bound);
  return at < 0 ? classes - 1 : at;
}
