import { Flow } from "./flow.ts";
import { byBundle, overlap, pickBundles } from "./planning/bundles.ts";

/** GPUs wanted for a time. */
export interface Span {
  readonly gpus: number;
  /** So many of them on one node each, all of one model; absent: wherever they lie. */
  readonly perNode?: number | undefined;
  /** Models that will do; empty: any. */
  readonly models: readonly string[];
  readonly startMs: number;
  readonly endMs: number;
}

/** GPUs of one node by model. */
export type NodeGpus = ReadonlyMap<string, number>;

/** The scarcest moment of a time. */
export interface Reservable {
  /** Most GPUs that can be had at every moment of it. */
  readonly gpus: number;
  /** Beginning of the first moment at which there are no more. */
  readonly atMs: number;
}

/**
 * How many GPUs a span can have beside others at each of its moments, of these GPUs by model. Others keep what they
 * have, but may have it of whichever of their models leaves most room: a greatest flow from spans over models, of the
 * others first. Spans of several GPUs on one node each have nodes picked for them first, as the plan does.
 */
export function reservable(
  wanted: Span,
  others: readonly Span[],
  nodes: readonly NodeGpus[],
): Reservable {
  const beside = others.filter((other) => overlap(other, wanted));
  // Between two beginnings there is only ever more room.
  const moments = [wanted.startMs, ...beside.map(({ startMs }) => startMs)]
    .filter((atMs) => atMs >= wanted.startMs)
    .toSorted((a, b) => a - b);
  let least: Reservable = { gpus: Number.POSITIVE_INFINITY, atMs: wanted.startMs };
  for (const atMs of new Set(moments)) {
    const then = beside.filter(({ startMs, endMs }) => startMs <= atMs && atMs < endMs);
    const gpus = isBundled(wanted) ? bundledAt(wanted, then, nodes) : roomAt(wanted, then, nodes);
    if (gpus < least.gpus) least = { gpus, atMs };
  }
  return least;
}

const isBundled = ({ perNode = 1 }: Span): boolean => perNode > 1;

/** The most GPUs of a span that needs them several on one node: with those others still have theirs. */
function bundledAt(wanted: Span, others: readonly Span[], nodes: readonly NodeGpus[]): number {
  const { perNode = 1 } = wanted;
  const before = serve(others, nodes, [wanted]);
  let low = 0;
  let high = bundlesOn(wanted, nodes);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    const all = serve([{ ...wanted, gpus: middle * perNode }, ...others], nodes);
    if (all.bundled - middle >= before.bundled && all.got >= before.got) low = middle;
    else high = middle - 1;
  }
  return low * perNode;
}

/** So many bundles of a span's size there are on nodes of one model with nothing on them. */
export function bundlesOn(
  { perNode = 1, models: own }: Pick<Span, "perNode" | "models">,
  nodes: readonly NodeGpus[],
): number {
  const byModel = new Map<string, number>();
  for (const [model, gpus] of nodes.flatMap((node) => [...node])) {
    if (own.length > 0 && !own.includes(model)) continue;
    byModel.set(model, (byModel.get(model) ?? 0) + Math.floor(gpus / perNode));
  }
  return Math.max(0, ...byModel.values());
}

/** Bundles that spans get, GPUs that the others get, and what is left then; `also` are wanted too, but not served. */
function serve(spans: readonly Span[], nodes: readonly NodeGpus[], also: readonly Span[] = []) {
  const sizes = nodes.map((node) => [...node.values()].reduce((sum, count) => sum + count, 0));
  let left: readonly NodeGpus[] = nodes;
  let bundled = 0;
  for (const span of spans.filter(isBundled).toSorted(byBundle)) {
    const { gpus, perNode: size = 1, models } = span;
    const spots = left.map((node, at) => ({
      name: String(at).padStart(9, "0"),
      size: sizes[at]!,
      gpus: [...node].flatMap(([model, count]) =>
        models.length > 0 && !models.includes(model)
          ? []
          : Array.from({ length: count }, () => ({ model, own: false })),
      ),
    }));
    const rivals = [...spans, ...also].filter((other) => other !== span);
    const wantedBy = (model: string): number =>
      rivals.reduce((sum, each) => sum + (mayHave(each, model) ? each.gpus : 0), 0);
    const [bundles = []] = pickBundles(spots, { size, count: gpus / size, others: wantedBy });
    bundled += bundles.length;
    const taken = new Map<number, NodeGpus>();
    for (const { node, gpus: own } of bundles) {
      const at = Number(node);
      const counts = new Map(taken.get(at) ?? left[at]);
      const { model } = own[0]!;
      counts.set(model, counts.get(model)! - own.length);
      taken.set(at, counts);
    }
    left = left.map((node, at) => taken.get(at) ?? node);
  }
  const supply = new Map<string, number>();
  for (const [model, gpus] of left.flatMap((node) => [...node])) {
    supply.set(model, (supply.get(model) ?? 0) + gpus);
  }
  const models = [...supply.keys()];
  const flow = new Flow([...supply.values()]);
  const columnsOf = (span: Span): number[] =>
    models.flatMap((model, at) => (mayHave(span, model) ? [at] : []));
  // Spans of the same models are one: few lists of models are different.
  const merged = Map.groupBy(
    spans.filter((span) => !isBundled(span)),
    (span) => JSON.stringify(span.models.toSorted()),
  );
  let got = 0;
  for (const alike of merged.values()) {
    const all = alike.reduce((sum, { gpus }) => sum + gpus, 0);
    got += flow.add(columnsOf(alike[0]!), all).got;
  }
  const more = (span: Span): number => flow.add(columnsOf(span), Number.POSITIVE_INFINITY).got;
  return { bundled, got, more };
}

const mayHave = ({ models }: Span, model: string): boolean =>
  models.length === 0 || models.includes(model);

const roomAt = (wanted: Span, others: readonly Span[], nodes: readonly NodeGpus[]): number =>
  serve(others, nodes, [wanted]).more(wanted);
