/** Prices of a GPU-hour in nano-USD, by model; `other` for every model that is not named. */
export interface Prices {
  readonly other: bigint;
  readonly models: Readonly<Record<string, bigint>>;
}

/** One dollar for each GPU-hour: the cost is then the number of billed GPU-hours. */
export const dollarPrices: Prices = { other: 1_000_000_000n, models: {} };

/** The price of GPU time by model, rounded down once for each model. */
export function costNanos(gpuMs: ReadonlyMap<string, number>, prices: Prices): bigint {
  let sum = 0n;
  for (const [model, ms] of gpuMs) {
    const price = prices.models[model] ?? prices.other;
    sum += (price * BigInt(Math.round(ms))) / 3_600_000n;
  }
  return sum;
}

/** Parses `2.5`, or `H200=3.2,A100=1.1,*=1`, in dollars a GPU-hour. */
export function parsePrices(
  text: string,
):
  | { readonly kind: "ok"; readonly prices: Prices }
  | { readonly kind: "bad"; readonly problem: string } {
  let { other } = dollarPrices;
  const models: Record<string, bigint> = {};
  for (const part of text.split(",")) {
    const at = part.lastIndexOf("=");
    const model = at < 0 ? "*" : part.slice(0, at).trim();
    const amount = /^(\d{1,9})(?:\.(\d{1,9}))?$/.exec(part.slice(at + 1).trim());
    if (amount === null || model === "") {
      const problem = `"${part.trim()}" is no price: write 2.5, or H200=3.2,*=1 (dollars a GPU-hour)`;
      return { kind: "bad", problem };
    }
    const nanos = BigInt(amount[1]!) * 1_000_000_000n + BigInt((amount[2] ?? "").padEnd(9, "0"));
    if (model === "*") other = nanos;
    else models[model] = nanos;
  }
  return { kind: "ok", prices: { other, models } };
}
