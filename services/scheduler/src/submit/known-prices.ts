import type { Clock } from "@fastgpu/domain/clock";
import { Fault } from "@fastgpu/domain/fault";
import { formatNanos } from "@fastgpu/domain/money";
import { gpuSkus, skuOf, type GpuForSale, type GpuSku } from "@fastgpu/ledger/sku";
import type { Logger } from "@fastgpu/telemetry/log";
import type { FundingTimes } from "../cycle/money.ts";
import { leastHoldNanos } from "../explain/funds.ts";
import type { ParsedTask } from "../spec/task-spec.ts";

/** Refuses tasks whose max_cost could not pay for a lease anywhere. */
export interface KnownPrices {
  /**
   * Throws INVALID_FIELD, with the least that would do, where max_cost does not cover the first lease on any GPU of the fleet,
   * now or before, that the task accepts (where there is none: on any of the price list): it would only end with class
   * `budget` once there is room. A kind without a price, and prices that cannot be had, refuse nothing.
   */
  check(task: Priced & Pick<ParsedTask, "maxCostNanos">): Promise<void>;
  /**
   * Tells the least that a first lease costs, in nano-USD, by prices that are at most a minute old; undefined where some
   * kind of GPU that would do has no known price.
   */
  leastCosts(): Promise<(task: Priced) => bigint | undefined>;
}

/** What a price depends on. */
export type Priced = Pick<ParsedTask, "demand" | "replicas" | "stopGraceMs">;

/** What a lease may cost. */
interface Known {
  /** Prices of one GPU and hour in nano-USD, by SKU. */
  readonly hourlyNanos: ReadonlyMap<string, bigint>;
  /** Kinds of GPU that were ever in the fleet. */
  readonly kinds: readonly GpuForSale[];
}

/** A refusal rests on prices that are not older than this, in milliseconds. */
const freshMs = 5_000;
/** Older ones are read again meanwhile. */
const staleMs = 60_000;

/**
 * Keeps a copy of the price list, so that a submit asks nobody: only the first with a max_cost does, and one that would be
 * refused by an old copy.
 */
export function createKnownPrices(of: {
  readonly load: () => Promise<Known>;
  readonly times: FundingTimes;
  readonly clock: Clock;
  readonly log: Logger;
}): KnownPrices {
  const { load, times, clock, log } = of;
  let known: (Known & { readonly atMs: number }) | undefined;
  let loading: Promise<void> | undefined;
  const read = async (): Promise<void> => {
    const atMs = clock.nowMs();
    try {
      known = { ...(await load()), atMs };
    } catch (err) {
      log.warn({ err }, "no prices from billing: a max_cost is checked at the first lease only");
    } finally {
      loading = undefined;
    }
  };
  const youngerThan = (ageMs: number): boolean =>
    known !== undefined && clock.nowMs() - known.atMs < ageMs;
  return {
    async leastCosts() {
      if (!youngerThan(staleMs)) await (loading ??= read());
      const prices = youngerThan(staleMs) ? known : undefined;
      // Tasks of a kind share their demand.
      const last = new Map<Priced["demand"], Priced & { readonly nanos: bigint | undefined }>();
      return ({ demand, replicas, stopGraceMs }) => {
        const alike = last.get(demand);
        if (alike?.replicas === replicas && alike.stopGraceMs === stopGraceMs) return alike.nanos;
        const nanos = prices && leastOf({ demand, replicas, stopGraceMs }, prices, times);
        last.set(demand, { demand, replicas, stopGraceMs, nanos });
        return nanos;
      };
    },
    async check(task) {
      if (task.maxCostNanos === undefined || task.demand.gpuCount === 0) return;
      const falls = (): bigint | undefined => {
        const least = known && leastOf(task, known, times);
        return least !== undefined && task.maxCostNanos! < least ? least : undefined;
      };
      if (known === undefined || (falls() !== undefined && !youngerThan(freshMs))) {
        await (loading ??= read());
      } else if (!youngerThan(staleMs)) loading ??= read();
      const least = youngerThan(freshMs) ? falls() : undefined;
      if (least === undefined) return;
      throw Fault.invalid(
        "task.spec.max_cost.nanos",
        `${formatNanos(task.maxCostNanos)} USD does not cover a lease on any GPU that would do: the cheapest needs ` +
          `${formatNanos(least)} USD`,
        `--max-cost ${formatNanos(least)} or more; \`fastgpu task quote\` says what it can cost at most`,
      );
    },
  };
}

/** The least that a first lease costs, in nano-USD; undefined where some kind of GPU that would do has no price. */
function leastOf(task: Priced, of: Known, times: FundingTimes): bigint | undefined {
  const { demand, replicas, stopGraceMs } = task;
  const { gpuModels, simulatedOk } = demand;
  const inFleet = of.kinds.filter(
    ({ model, simulated }) =>
      (gpuModels.length === 0 || gpuModels.includes(model)) && (simulatedOk || !simulated),
  );
  const skus = inFleet.length > 0 ? new Set(inFleet.map(skuOf)) : skusFor(demand);
  const quantity = demand.gpuCount * replicas;
  let least: bigint | undefined;
  for (const sku of skus) {
    const hourlyNanos = of.hourlyNanos.get(sku);
    if (hourlyNanos === undefined) return undefined;
    const nanos = leastHoldNanos([{ hourlyNanos, quantity }], stopGraceMs, times);
    if (least === undefined || nanos < least) least = nanos;
  }
  return least;
}

/** Units of sale of the GPUs that a task accepts. */
function skusFor({ gpuModels, simulatedOk }: ParsedTask["demand"]): readonly GpuSku[] {
  const real =
    gpuModels.length > 0
      ? gpuModels.map((model) => skuOf({ model, simulated: false }))
      : gpuSkus.filter((sku) => sku !== "gpu.simulated");
  return simulatedOk ? [...real, "gpu.simulated"] : real;
}
