/** A GPU that a bundle may have. */
interface Usable {
  readonly model: string;
  /** Held by the bundles' owner already, and on them. */
  readonly own: boolean;
}

/** A node with those of its GPUs that will do. */
export interface Spot<G extends Usable> {
  readonly name: string;
  /** All its GPUs, whether or not they will do. */
  readonly size: number;
  readonly gpus: readonly G[];
}

/** So many GPUs of one node. */
export interface Bundle<G> {
  readonly node: string;
  readonly gpus: readonly G[];
}

/**
 * As many bundles of `size` GPUs as there are, up to so many, each on one node and all of one model, as a gang would have
 * them. Several ways, the best first: of a model that has enough, that fewest `others` may want, that the owner holds most
 * of. Nodes of which the owner holds most go first, then the smallest that will do, so that large ones are left for larger
 * bundles. None where there are no bundles at all.
 */
export function pickBundles<G extends Usable>(
  spots: readonly Spot<G>[],
  of: { size: number; count: number; others: (model: string) => number },
): Bundle<G>[][] {
  const { size, count, others } = of;
  const parts = spots.flatMap(({ name, size: all, gpus }) =>
    [...Map.groupBy(gpus, ({ model }) => model)].flatMap(([model, of]) =>
      of.length < size ? [] : [{ name, all, model, gpus: of, own: ownOf(of) }],
    ),
  );
  const models = [...Map.groupBy(parts, ({ model }) => model)].map(([model, on]) => {
    const room = on.reduce((sum, { gpus }) => sum + Math.floor(gpus.length / size), 0);
    const own = on.reduce((sum, each) => sum + each.own, 0);
    return { model, on, room: Math.min(room, count), own, wanted: others(model) };
  });
  models.sort(
    (a, b) =>
      b.room - a.room || a.wanted - b.wanted || b.own - a.own || (a.model < b.model ? -1 : 1),
  );
  return models.map(({ on }) => {
    const inOrder = on.toSorted(
      (a, b) => b.own - a.own || a.all - b.all || (a.name < b.name ? -1 : 1),
    );
    const picked: Bundle<G>[] = [];
    for (const { name: node, gpus: all } of inOrder) {
      const gpus = all.toSorted((a, b) => Number(b.own) - Number(a.own));
      for (let from = 0; from + size <= gpus.length && picked.length < count; from += size) {
        picked.push({ node, gpus: gpus.slice(from, from + size) });
      }
    }
    return picked;
  });
}

const ownOf = (gpus: readonly Usable[]): number => gpus.filter(({ own }) => own).length;

/** Of what lasts at one time the largest bundles first, then by beginning: small ones would break large ones up. */
export const byBundle = (
  a: { readonly perNode?: number | undefined; readonly startMs: number },
  b: { readonly perNode?: number | undefined; readonly startMs: number },
): number => (b.perNode ?? 0) - (a.perNode ?? 0) || a.startMs - b.startMs;

/** Whether two spans of time have a moment in common. */
export const overlap = (
  a: { readonly startMs: number; readonly endMs: number },
  b: { readonly startMs: number; readonly endMs: number },
): boolean => a.startMs < b.endMs && b.startMs < a.endMs;
