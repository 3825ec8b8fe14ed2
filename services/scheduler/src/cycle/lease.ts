import type { GpuId, TaskId } from "@fastgpu/domain/ids";
import { transaction } from "@fastgpu/postgres/transaction";
import { gpusOfPlacement, type Placement } from "@fastgpu/scheduling/plan";
import { newId } from "../new-id.ts";
import type { StoredGpu } from "../store/nodes.ts";
import { askHolds } from "./ask-holds.ts";
import { commitLeases, type Committed, type FundedPlacement } from "./commit.ts";
import type { CycleContext } from "./context.ts";
import type { Mirror } from "./mirror.ts";
import { pricedMembers } from "./money.ts";
import { endSpent } from "./spent.ts";

/** Holds, commits and gives back; answers the tasks that wait for money. */
export async function lease(
  c: CycleContext,
  placements: readonly Placement[],
  nowMs: number,
): Promise<ReadonlyMap<TaskId, string>> {
  if (placements.length === 0) return new Map();
  const gpus = gpusOf(c.mirror);
  const asked = placements.map((placement) => ({ attempt: newId("att", nowMs), placement }));
  const { open, blocked, spent } = await askHolds(c, asked, gpus);
  const funded = asked.flatMap(({ attempt, placement }): FundedPlacement[] => {
    const hold = open.get(attempt);
    if (gpusOfPlacement(placement).length > 0 && hold === undefined) return [];
    const members = pricedMembers(placement, gpus, hold?.priceVersions ?? new Map());
    return [{ attempt, placement, fundedMs: hold?.fundedMs, members }];
  });
  c.figures.counts.leasesUnfunded += asked.length - funded.length;
  if (funded.length > 0) await commit(c, funded);
  for (const id of await endSpent(c, spent, nowMs)) blocked.delete(id);
  return blocked;
}

async function commit(c: CycleContext, funded: readonly FundedPlacement[]): Promise<void> {
  const { leaderEpoch, startLeaseSpan } = c;
  const at = { leaderEpoch, nowMs: c.clock.nowMs(), startLeaseSpan };
  const committed = await transaction(c.core, (tx) => commitLeases(tx, funded, at));
  c.figures.counts.leases += committed.leased.length;
  c.figures.counts.leasesRejected += committed.rejected.length;
  const unused = committed.rejected.filter((each) => each.fundedMs !== undefined);
  if (unused.length > 0)
    await c.holds.void(
      c.leaderEpoch,
      unused.map((each) => each.attempt),
    );
  await noteLeases(c, funded, committed);
}

/**
 * Takes our own leases into the mirror. A plain task that was leased waits no more, which needs no read; what they
 * took of the nodes is read with the next news of these nodes, before the next plan.
 */
async function noteLeases(
  c: CycleContext,
  funded: readonly FundedPlacement[],
  { leased, rejected }: Committed,
): Promise<void> {
  const nodes = [
    ...new Set(funded.flatMap(({ placement }) => placement.members.map(({ node }) => node))),
  ];
  c.mirror.noteLeased(
    leased.flatMap(({ placement: { task } }) => (task.array === undefined ? [task.id] : [])),
  );
  const doubtful = [...rejected, ...leased.filter(({ placement }) => placement.task.array)];
  const again = [...new Set(doubtful.map(({ placement }) => placement.task.id))];
  await c.mirror.refresh(c.core, { tasks: again, nodes: [] });
  c.dirty.noteNodes(nodes);
  const tasks = [...new Set(funded.map(({ placement }) => placement.task.id))];
  c.changed({ tasks, nodes });
}

/** Every GPU of the fleet, by id. */
export function gpusOf(mirror: Mirror): ReadonlyMap<GpuId, StoredGpu> {
  const all = new Map<GpuId, StoredGpu>();
  for (const { gpus } of mirror.nodes.values()) for (const gpu of gpus) all.set(gpu.id, gpu);
  return all;
}
