/**
 * MIG geometry: how instances lie on a GPU's memory slices. NVIDIA's GPUs of this kind have 8 memory slices and 7
 * compute slices; a profile takes some memory slices from one of a few first slices on (NVIDIA Multi-Instance GPU User
 * Guide, "MIG Device Names" and "Supported MIG Profiles"). What is taken is a mask with one bit a memory slice. With
 * these first slices 7 compute slices are never passed: whoever takes the eighth memory slice has more of memory than
 * of compute.
 */

/** Memory slices of a GPU. */
const memorySlices = 8;

/** One kind of instance. */
export interface MigProfile {
  /** Geometry and NVIDIA's name of the profile, for example `h100-80/3g.40gb`. */
  readonly id: string;
  readonly geometry: MigGeometryName;
  readonly computeSlices: number;
  readonly memorySlices: number;
  /** First memory slices at which an instance may lie, ascending. */
  readonly starts: readonly number[];
  /** What an instance counts in thousandths of a GPU: its part of the memory slices. */
  readonly gpuMilli: number;
}

/** Compute slices, memory slices and first slices of the six profiles that all of these GPUs have. */
const forms = [
  { compute: 1, memory: 1, starts: [0, 1, 2, 3, 4, 5, 6] },
  { compute: 1, memory: 2, starts: [0, 2, 4, 6] },
  { compute: 2, memory: 2, starts: [0, 2, 4] },
  { compute: 3, memory: 4, starts: [0, 4] },
  { compute: 4, memory: 4, starts: [0] },
  { compute: 7, memory: 8, starts: [0] },
] as const;

/** Profile names by GPU, in the order of `forms`. */
const names = {
  "a100-40": ["1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"],
  "a100-80": ["1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"],
  "h100-80": ["1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"],
  "h200-141": ["1g.18gb", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"],
  "b200-180": ["1g.23gb", "1g.45gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb"],
} as const;

/** A GPU's way of being divided. */
export type MigGeometryName = keyof typeof names;

/** All profiles, by id. */
export const migProfiles: ReadonlyMap<string, MigProfile> = new Map(
  (Object.keys(names) as MigGeometryName[]).flatMap((geometry) =>
    names[geometry].map((name, at) => {
      const { compute, memory, starts } = forms[at]!;
      const id = `${geometry}/${name}`;
      const gpuMilli = (1000 * memory) / memorySlices;
      const slices = { computeSlices: compute, memorySlices: memory };
      return [id, { id, geometry, ...slices, starts, gpuMilli }] as const;
    }),
  ),
);

/** The memory slices that an instance takes, as a mask. */
export function migSlices(profile: MigProfile, start: number): number {
  return ((1 << profile.memorySlices) - 1) << start;
}

/** Whether an instance fits beside what is taken. */
export function fitsMig(profile: MigProfile, taken: number): boolean {
  return profile.starts.some((start) => (taken & migSlices(profile, start)) === 0);
}

/** Instances of one profile that fit at once beside what is taken: its places do not overlap, so counting is enough. */
export const mostMig = ({ memorySlices: memory, starts }: MigProfile, taken: number): number =>
  most({ memory, starts }, taken);

function most(
  form: { readonly memory: number; readonly starts: readonly number[] },
  taken: number,
): number {
  const mask = (1 << form.memory) - 1;
  return form.starts.filter((start) => (taken & (mask << start)) === 0).length;
}

/** What is left of a GPU for instances of every profile, by what is taken: more is better to keep. */
const roomLeft = Int32Array.from({ length: 1 << memorySlices }, (_, taken) =>
  forms.reduce((sum, form) => sum + form.memory * most(form, taken), 0),
);

/**
 * Where an instance should lie beside what is taken: at the start that leaves most room for instances of every profile,
 * the highest of equal ones, since large instances lie low. -1 where it does not fit.
 */
export function bestMigStart(profile: MigProfile, taken: number): number {
  let best = -1;
  for (const start of profile.starts) {
    const slices = migSlices(profile, start);
    if ((taken & slices) !== 0) continue;
    if (best < 0 || roomLeft[taken | slices]! >= roomLeft[taken | migSlices(profile, best)]!) {
      best = start;
    }
  }
  return best;
}
