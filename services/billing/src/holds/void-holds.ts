import type { AttemptId } from "@fastgpu/domain/ids";
import { voidHold } from "@fastgpu/ledger/hold";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Billing } from "../billing.ts";
import { currency, lockAccounts } from "../store/accounts.ts";
import { checkLeaderEpoch, raiseLeaderEpoch } from "../store/fence.ts";
import { lockHolds, orgsOfHolds, rememberVoided, writeHolds } from "../store/holds.ts";
import type { HoldRow } from "../store/holds.ts";
import { record } from "../store/transfers.ts";
import type { Entry } from "../store/transfers.ts";
import { transferIds } from "../transfer-ids.ts";
import { entriesOf, toHold, withHold } from "./hold-mapping.ts";

/**
 * Gives holds back for attempts that were never leased. One whose hold has not arrived yet (a create that timed out) is
 * remembered, so that the late create finds it closed. Throws FENCED where a newer leader has been seen.
 */
export async function voidHolds(
  billing: Billing,
  leaderEpoch: bigint,
  attempts: readonly AttemptId[],
): Promise<void> {
  await raiseLeaderEpoch(billing.db.core, leaderEpoch);
  await transaction(billing.db.core, async (tx) => {
    // Alone: creates under way must be over, or they would slip between our look and our note.
    await checkLeaderEpoch(tx, leaderEpoch, { alone: true });
    await lockAccounts(tx, await orgsOfHolds(tx, attempts), ["revenue"]);
    const holds = await lockHolds(tx, attempts);
    const nowMs = billing.clock.nowMs();
    const nextId = transferIds(nowMs);
    const changed: HoldRow[] = [];
    const entries: Entry[] = [];
    for (const row of holds.values()) {
      if (row.status !== "open") continue;
      const step = voidHold(toHold(row, []), nextId);
      changed.push(withHold(row, step.hold));
      entries.push(...entriesOf(row, step.transfers));
    }
    await writeHolds(tx, changed, nowMs);
    await record(tx, entries, { currency, nowMs });
    const unknown = [...new Set(attempts)].filter((attempt) => !holds.has(attempt));
    await rememberVoided(tx, unknown, nowMs);
  });
}
