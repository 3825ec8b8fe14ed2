import { usdNanos, wholeNumber } from "../parse/quantities.ts";
import type { Runner } from "./define.ts";

/** `billing`: what was spent and what is left. */
export function addBillingCommands(runner: Runner): void {
  const billing = runner.group("billing", "balance, usage and prices");

  const balance = billing.remote("balance", "credit, what is held for running work, what is left");
  balance.run(async () => ({ run: (await import("../run/billing.ts")).showBalance }));

  const credit = billing.remote(
    "credit",
    "add credit to an organisation's account, as the operator",
  );
  credit.command
    .argument("<amount>", "in USD, exact to nine decimals, for example 25 or 0.010833334", usdNanos)
    .addHelpText("after", "\nExample:\n  fastgpu billing credit 25 --org ORG\n");
  credit.run(async () => ({ run: (await import("../run/billing.ts")).grantCredit }));

  const usage = billing.remote("usage", "rated usage, newest first");
  usage.command
    .option("--task <task>", "only of this task")
    .option("--limit <n>", "greatest number of records; 0: all", wholeNumber(0, 1_000_000), 100);
  usage.run(async () => ({ run: (await import("../run/billing.ts")).listUsage }));

  const prices = billing.remote("prices", "the price book as it stands");
  prices.run(async () => ({ run: (await import("../run/billing.ts")).listPrices }));
}
