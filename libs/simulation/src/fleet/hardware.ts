import type { FleetFault } from "./faults.ts";
import { endAttempt } from "./ends.ts";
import type { GpuRun, NodeRun } from "./node-run.ts";
import type { FleetSimulation } from "./simulation.ts";
import type { Attempt } from "./task-run.ts";

/** A fault happens. The scheduler hears of it as it does in the service: by a report, or by a lease that ends. */
export function beginFault(sim: FleetSimulation, fault: FleetFault): void {
  const node = sim.nodes[fault.node];
  if (node === undefined) throw new RangeError(`there is no node ${fault.node} to fail`);
  sim.events.add(sim.nowMs + fault.lastsMs, { kind: "fault_over", fault });
  switch (fault.kind) {
    case "node_loss":
      for (const attempt of node.held.keys()) die(sim, attempt);
      return goDown(sim, node);
    case "disconnect":
      return goDown(sim, node);
    case "drain":
      sim.events.add(sim.nowMs + Math.min(fault.graceMs, fault.lastsMs), {
        kind: "drain_over",
        fault,
      });
      return sim.onNode(node, () => node.draining++);
    case "gpu_fault":
      return breakGpu(sim, node, fault.gpu);
  }
}

/** What was out is back. */
export function endFault(sim: FleetSimulation, fault: FleetFault): void {
  const node = sim.nodes[fault.node]!;
  switch (fault.kind) {
    case "node_loss":
    case "disconnect":
      node.down--;
      return node.down === 0 ? comeBack(sim, node) : undefined;
    case "drain":
      return sim.onNode(node, () => node.draining--);
    case "gpu_fault":
      return sim.onNode(node, () => node.gpus[fault.gpu]!.broken--);
  }
}

/** The grace of a drain is over: what still runs there goes on elsewhere. */
export function stopForDrain(sim: FleetSimulation, index: number): void {
  const node = sim.nodes[index]!;
  if (node.draining === 0) return;
  for (const attempt of [...node.held.keys()]) sim.stop(attempt, "preempted");
}

/** The lease of a node that is out of reach has ended: what ran there counts as lost. */
export function giveUpNode(sim: FleetSimulation, node: NodeRun, outage: number): void {
  if (node.down === 0 || node.outage !== outage) return;
  sim.onNode(node, () => (node.lost = true));
  for (const attempt of [...node.held.keys()]) lose(sim, attempt);
}

function goDown(sim: FleetSimulation, node: NodeRun): void {
  node.down++;
  if (node.down > 1) return;
  node.outage++;
  const atMs = sim.nowMs + sim.options.settings.leaseMs;
  sim.events.add(atMs, { kind: "lease_end", node, outage: node.outage });
}

/** The processes of an attempt are dead, and nobody knows yet. */
function die(sim: FleetSimulation, attempt: Attempt): void {
  attempt.deadMs ??= sim.nowMs;
  if (attempt.next !== undefined) sim.events.cancel(attempt.next);
  attempt.next = undefined;
}

/** Ends what is dead; of a gang that lives on elsewhere the other members are stopped first. */
function lose(sim: FleetSimulation, attempt: Attempt): void {
  if (attempt.stopping !== undefined) return endAttempt(sim, attempt, attempt.stopping.class);
  attempt.deadMs ??= sim.nowMs;
  if (attempt.nodes.every((node) => node.lost)) endAttempt(sim, attempt, "node_lost");
  else sim.stop(attempt, "node_lost");
}

function breakGpu(sim: FleetSimulation, node: NodeRun, at: number): void {
  const gpu = node.gpus[at];
  if (gpu === undefined) throw new RangeError(`node ${node.index} has no GPU ${at} to fail`);
  const holders = new Set(gpu.holders.map(({ attempt }) => attempt));
  sim.onNode(node, () => gpu.broken++);
  for (const attempt of holders) failOn(sim, node, { gpu, attempt });
}

/** A GPU under an attempt has failed. */
function failOn(
  sim: FleetSimulation,
  node: NodeRun,
  { gpu, attempt }: { readonly gpu: GpuRun; readonly attempt: Attempt },
): void {
  if (attempt.stopping !== undefined || attempt.deadMs !== undefined) return;
  attempt.faultyGpu = gpu.id;
  if (node.down > 0) {
    die(sim, attempt);
    attempt.unreported = "gpu_fault";
  } else if (attempt.nodes.length > 1) {
    sim.stop(attempt, "gpu_fault");
  } else {
    endAttempt(sim, attempt, "gpu_fault");
  }
}

/** A node is in reach again and tells what became of its attempts. */
function comeBack(sim: FleetSimulation, node: NodeRun): void {
  if (node.lost) sim.onNode(node, () => (node.lost = false));
  for (const attempt of [...node.held.keys()]) {
    if (attempt.nodes.some((other) => other.down > 0 && !other.lost)) continue;
    if (attempt.next !== undefined) continue;
    if (attempt.stopping !== undefined) endAttempt(sim, attempt, attempt.stopping.class);
    else if (attempt.unreported !== undefined) endAttempt(sim, attempt, attempt.unreported);
    else if (attempt.deadMs !== undefined) endDead(sim, attempt);
    else if (attempt.runningMs === undefined) sim.begin(attempt);
  }
}

function endDead(sim: FleetSimulation, attempt: Attempt): void {
  if (new Set(attempt.nodes).size === 1) endAttempt(sim, attempt, "node_lost");
  else sim.stop(attempt, "node_lost");
}
