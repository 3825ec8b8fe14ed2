import { milliOfPart, sharedGrades } from "../gpu-part.ts";
import { migProfiles } from "../placement/mig.ts";
import type { Demand, GpuPart, PlanGpu, PlanNode, SharedGrade } from "../plan.ts";
import { leastPart, type Change, type Dimension } from "./dimension.ts";

/** What is left of a GPU that is shared. */
interface Left {
  readonly milli: number;
  readonly memoryMib: number;
}

/** Distinct sizes that are tried at most. */
const maxSteps = 64;

/** Ways to ask for less of each GPU, or for less isolation: only where the fleet gives out parts. */
export function partDimensions(demand: Demand, nodes: readonly PlanNode[]): Dimension[] {
  const gpus = nodes.flatMap((node) => node.gpus);
  const grades = sharedGrades.filter((grade) => gpus.some(({ mode }) => mode?.isolation === grade));
  const { part } = demand;
  if (part === undefined && grades.length === 0) return [];
  const left = part?.kind === "mig" ? [] : nodes.flatMap(leftOf);
  return [
    { field: "isolation", steps: weaker(part, grades) },
    { field: "gpuPart", steps: smaller(part, left) },
    { field: "gpuMinMemoryMib", steps: part?.kind === "share" ? lessMemory(demand, left) : [] },
  ];
}

const withPart =
  (change: (part: GpuPart | undefined) => GpuPart): Change =>
  (task) => ({ ...task, demand: { ...task.demand, part: change(task.demand.part) } });

/** Weaker grades, one after the other. A MIG instance becomes a share of the same size: it may then meet no strangers. */
function weaker(part: GpuPart | undefined, grades: readonly SharedGrade[]): Change[] {
  if (part === undefined) return [];
  const from = part.kind === "mig" ? -1 : sharedGrades.indexOf(part.weakest);
  return grades
    .filter((grade) => sharedGrades.indexOf(grade) > from)
    .map((weakest) =>
      withPart((asked) => {
        const milli = Math.min(999, milliOfPart(asked));
        return { kind: "share", milli, weakest };
      }),
    );
}

/** Smaller parts, down to a quarter: shares as large as what is left of a GPU, instances of the same division. */
function smaller(part: GpuPart | undefined, left: readonly Left[]): Change[] {
  if (part?.kind === "mig") {
    const all = [...migProfiles.values()];
    const own = migProfiles.get(part.profile);
    const least = milliOfPart(part) * leastPart;
    return all
      .slice(0, own === undefined ? 0 : all.indexOf(own))
      .filter(({ geometry, gpuMilli }) => geometry === own?.geometry && gpuMilli >= least)
      .reverse()
      .map(({ id }) =>
        // Where another change has made it a share already, that stays one.
        withPart((asked) => (asked?.kind === "share" ? asked : { kind: "mig", profile: id })),
      );
  }
  const weakest = part?.weakest ?? "timeslice";
  const sizes = lower(
    left.map(({ milli }) => milli),
    milliOfPart(part),
  );
  return sizes.map((milli) =>
    withPart((asked) => {
      return { kind: "share", milli, weakest: asked?.kind === "share" ? asked.weakest : weakest };
    }),
  );
}

function lessMemory({ gpuMinMemoryMib }: Demand, left: readonly Left[]): Change[] {
  const sizes = lower(
    left.map(({ memoryMib }) => memoryMib),
    gpuMinMemoryMib,
  );
  return sizes.map((memoryMib) => (task) => ({
    ...task,
    demand: { ...task.demand, gpuMinMemoryMib: memoryMib },
  }));
}

/** Those below an amount but not below a quarter of it, the greatest first. */
function lower(values: readonly number[], amount: number): number[] {
  return [...new Set(values)]
    .filter((value) => value > 0 && value < amount && value >= amount * leastPart)
    .sort((a, b) => b - a)
    .slice(0, maxSteps);
}

function leftOf({ gpus, running }: PlanNode): Left[] {
  const isShared = ({ mode }: PlanGpu): boolean =>
    mode !== undefined && sharedGrades.some((grade) => grade === mode.isolation);
  return gpus.filter(isShared).map((gpu) => {
    let milli = 1000;
    let { memoryMib } = gpu;
    for (const lease of running) {
      if (!lease.gpus.includes(gpu.id)) continue;
      milli -= milliOfPart(lease.part);
      memoryMib -= lease.part?.kind === "share" ? lease.part.memoryMib : memoryMib;
    }
    return { milli, memoryMib };
  });
}
