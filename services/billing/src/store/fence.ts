import { Fault } from "@fastgpu/domain/fault";
import type { Pool } from "@fastgpu/postgres/pool";
import { statement } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

const raise = statement(
  "raise_leader_epoch",
  "UPDATE scheduler_leader SET epoch = $1 WHERE epoch < $1",
);
const shareEpoch = statement<{ epoch: bigint }>(
  "share_leader_epoch",
  "SELECT epoch FROM scheduler_leader FOR SHARE",
);
const ownEpoch = statement<{ epoch: bigint }>(
  "own_leader_epoch",
  "SELECT epoch FROM scheduler_leader FOR UPDATE",
);

/**
 * Notes that this leader exists, before its transaction: waits for writes of older leaders that are under way, and
 * fences the later ones.
 */
export async function raiseLeaderEpoch(pool: Pool, epoch: bigint): Promise<void> {
  await pool.query(raise, [epoch]);
}

/**
 * Keeps newer leaders out until the transaction ends, or throws FENCED where one has been seen. `alone` also waits for
 * other writes of the same leader: what they do is then either done, or sees what this transaction did.
 */
export async function checkLeaderEpoch(
  tx: Tx,
  epoch: bigint,
  options: { alone: boolean },
): Promise<void> {
  const [row] = await tx.query(options.alone ? ownEpoch : shareEpoch);
  if (row === undefined || row.epoch !== epoch) {
    throw new Fault(
      "FENCED",
      `leader epoch ${epoch} has been followed by ${row?.epoch ?? "none"}`,
      {
        hint: "stop leading and stand for election again",
      },
    );
  }
}
