import { Fault } from "@fastgpu/domain/fault";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { nearest } from "@fastgpu/lifecycle/nearest";
import type { Tx } from "@fastgpu/postgres/transaction";
import { bundlesOn, reservable, type NodeGpus } from "@fastgpu/scheduling/reservable";
import { countGpusByNode, readModels } from "../store/nodes.ts";
import { readQueue, unchangedQueue, type StoredQueue } from "../store/queues.ts";
import {
  lockReservations,
  readOpenReservations,
  type StoredReservation,
} from "../store/fleet-reservations.ts";

/** Reservations that are not over, of one organisation with its projects. */
const mostOfOrganization = 100;

/**
 * Whether a reservation can stand beside all others: the fleet has its GPUs, at every moment of it; its owner may hold
 * so many; and, unless the operator of the platform asks, its organisation is guaranteed as much anyway. Keeps other
 * changes out until the transaction ends. Throws INVALID_FIELD, LIMIT_EXCEEDED, QUOTA_EXCEEDED.
 */
export async function checkReservation(
  tx: Tx,
  wanted: StoredReservation,
  of: { nowMs: number; operator: boolean; before: StoredReservation | undefined },
): Promise<void> {
  await lockReservations(tx);
  // Giving up a part is always allowed, whatever the fleet has become meanwhile.
  if (of.before !== undefined && isWithin(wanted, of.before)) return;
  const open = await readOpenReservations(tx, of.nowMs);
  const others = open.filter(({ id }) => id !== wanted.id);
  const own = others.filter(({ org }) => org === wanted.org);
  if (own.length >= mostOfOrganization) {
    const message = `the organisation has ${own.length} reservations, at most ${mostOfOrganization}`;
    throw new Fault("LIMIT_EXCEEDED", message, { hint: "delete what is not needed any more" });
  }
  await checkFleet(tx, wanted, others);
  const overall = await queueOf(tx, wanted.org, undefined);
  checkLimit(overall, wanted);
  if (wanted.project !== undefined)
    checkLimit(await queueOf(tx, wanted.org, wanted.project), wanted);
  if (!of.operator) checkGuarantee(overall, wanted, own);
}

async function queueOf(tx: Tx, org: OrgId, project: ProjectId | undefined): Promise<StoredQueue> {
  const owner = { org, project, user: undefined };
  return (await readQueue(tx, owner)) ?? unchangedQueue(owner);
}

/** Whether a reservation takes nothing that it did not have before. */
function isWithin(after: StoredReservation, before: StoredReservation): boolean {
  return (
    after.gpus <= before.gpus &&
    (after.perNode ?? 1) === (before.perNode ?? 1) &&
    after.startMs >= before.startMs &&
    after.endMs <= before.endMs &&
    after.models.toSorted().join("\n") === before.models.toSorted().join("\n")
  );
}

async function checkFleet(
  tx: Tx,
  wanted: StoredReservation,
  others: readonly StoredReservation[],
): Promise<void> {
  const nodes = await countGpusByNode(tx);
  const { models, gpus } = wanted;
  if (models.length > 0) await checkKnown(tx, models);
  const counts = nodes.flatMap((node) => [...node]).filter(([model]) => mayHave(wanted, model));
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const kind = models.length === 0 ? "" : ` of ${models.join(" or ")}`;
  if (gpus > total) {
    throw Fault.invalid(
      "reservation.gpus",
      `is ${gpus}, and the fleet has ${total}${kind}`,
      total > 0 ? `at most ${total}, or other models` : "`fastgpu gpu list` shows the GPUs",
    );
  }
  checkShape(wanted, nodes, kind);
  const left = reservable(wanted, others, nodes);
  if (gpus <= left.gpus) return;
  const at = new Date(left.atMs).toISOString();
  const where = wanted.perNode === undefined ? "" : `, ${wanted.perNode} on one node each,`;
  const message = `only ${left.gpus} GPUs${kind}${where} are not reserved at ${at}: ${gpus} are too many`;
  throw new Fault("QUOTA_EXCEEDED", message, {
    hint:
      left.gpus > 0
        ? `at most ${left.gpus}, or another time; \`fastgpu reservation list\` shows your own`
        : "another time, or other models; `fastgpu reservation list` shows your own",
  });
}

const mayHave = ({ models }: StoredReservation, model: string): boolean =>
  models.length === 0 || models.includes(model);

/** Whether the fleet has so many nodes that are large enough, with nothing else reserved. */
function checkShape(wanted: StoredReservation, nodes: readonly NodeGpus[], kind: string): void {
  const { gpus, perNode } = wanted;
  if (perNode === undefined) return;
  const sizes = nodes.flatMap((node) =>
    [...node].flatMap(([model, count]) => (mayHave(wanted, model) ? [count] : [])),
  );
  const largest = Math.max(0, ...sizes);
  if (perNode > largest) {
    throw Fault.invalid(
      "reservation.per_node",
      `is ${perNode}, and no node has more than ${largest} GPUs of one model${kind}`,
      `at most ${largest}; \`fastgpu node list\` shows the nodes`,
    );
  }
  const most = bundlesOn(wanted, nodes) * perNode;
  if (gpus <= most) return;
  throw Fault.invalid(
    "reservation.gpus",
    `is ${gpus}, and the fleet has ${most} GPUs${kind} that are ${perNode} of one model on one node each`,
    `at most ${most}, or fewer on one node`,
  );
}

async function checkKnown(tx: Tx, models: readonly string[]): Promise<void> {
  const known = await readModels(tx);
  const at = models.findIndex((model) => !known.includes(model));
  if (at < 0 || known.length === 0) return;
  const close = nearest(models[at]!, known) ?? known[0];
  throw Fault.invalid(
    `reservation.models[${at}]`,
    `no GPU of the fleet is or was a ${JSON.stringify(models[at])}`,
    `for example ${JSON.stringify(close)}; \`fastgpu gpu list\` shows the models`,
  );
}

/** What its owner may never hold cannot be kept for it. */
function checkLimit(row: StoredQueue, { gpus, models }: StoredReservation): void {
  const limits = models.map((model) => row.models[model]?.limitGpus ?? Number.POSITIVE_INFINITY);
  const ofModels = models.length === 0 ? Infinity : limits.reduce((sum, each) => sum + each, 0);
  const limit = Math.min(row.limitGpus ?? Number.POSITIVE_INFINITY, ofModels);
  if (gpus <= limit) return;
  const who = row.project === undefined ? "the organisation" : "the project";
  throw new Fault("QUOTA_EXCEEDED", `${who} never holds more than ${limit} of these GPUs`, {
    hint: `at most ${limit}, or raise the limit first: fastgpu queue set --limit GPUS`,
  });
}

/** With all others of the organisation at any moment of it: no more than it is guaranteed, over all or by model. */
function checkGuarantee(
  { guaranteedGpus, models }: StoredQueue,
  wanted: StoredReservation,
  own: readonly StoredReservation[],
): void {
  // How they lie is no matter of what is guaranteed.
  const flat = (span: StoredReservation) => ({ ...span, perNode: undefined });
  const ofAny = (span: StoredReservation) => ({ ...flat(span), models: [] });
  const any = [new Map([["", guaranteedGpus]])];
  const overall = reservable(ofAny(wanted), own.map(ofAny), any).gpus;
  const byModel = new Map(
    Object.entries(models).map(([model, share]) => [model, share.guaranteedGpus]),
  );
  const least = Math.max(overall, reservable(flat(wanted), own.map(flat), [byModel]).gpus);
  if (wanted.gpus <= least) return;
  const message = `of what the organisation is guaranteed, ${least} GPUs are left to reserve then`;
  throw new Fault("QUOTA_EXCEEDED", message, {
    hint:
      "`fastgpu queue get organizations/ORGANIZATION` shows its guarantee; beyond that the operator of the platform " +
      "reserves",
  });
}
