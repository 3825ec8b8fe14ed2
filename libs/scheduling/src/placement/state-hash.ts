import type { Cluster } from "./cluster.ts";
import { createStateDraft } from "./states.ts";

/** FNV-1a over 32-bit words, with a final avalanche. */
function mix(hash: number, word: number): number {
  const next = Math.imul(hash ^ word, 0x01000193);
  return next ^ (next >>> 15);
}

function mixText(hash: number, text: string): number {
  let next = mix(hash, text.length);
  for (let i = 0; i < text.length; i++) next = mix(next, text.charCodeAt(i));
  return next;
}

/**
 * A digest of what is free on every node, as 16 hex digits: equal for two clusters with the
 * same nodes and the same resources in use, however they came to be so. For comparing a
 * rebuilt state with the live one; not a defence against forgery.
 */
export function stateHash(cluster: Cluster): string {
  const draft = createStateDraft(cluster.states.mostGpus);
  let low = 0;
  let high = 0;
  for (const { spec, slot, order } of cluster.nodes) {
    if (slot < 0) continue;
    cluster.states.read(slot, draft);
    const position = spec.gpus.map((_, gpu) => order.indexOf(gpu));
    for (const seed of [0x811c9dc5, 0x2545f491]) {
      let hash = mixText(seed, spec.id);
      hash = mix(mix(hash, draft.schedulable), draft.cpuMillis);
      hash = mix(mix(hash, draft.memoryMib), draft.diskMib);
      for (const [gpu, { model, mig: inSlices }] of spec.gpus.entries()) {
        const at = position[gpu]!;
        hash = mixText(hash, model);
        hash = mix(mix(hash, draft.freeMilli[at]!), draft.freeMib[at]!);
        const owner = draft.owner[at]!;
        const tenant = inSlices === undefined ? cluster.shapes.ownerName(owner) : String(owner);
        hash = mixText(hash, tenant);
      }
      if (seed === 0x811c9dc5) low = (low + hash) | 0;
      else high = (high + hash) | 0;
    }
  }
  const hex = (word: number): string => (word >>> 0).toString(16).padStart(8, "0");
  return hex(high) + hex(low);
}
