import type { Clock } from "@fastgpu/domain/clock";

/** Options of {@link cachedProjects}. */
export interface CachedProjectsOptions {
  /** Asks the owner: the organisation id of a project id, or undefined where there is none. */
  readonly load: (projectId: string) => Promise<string | undefined>;
  readonly clock: Clock;
  /** How long an absence is remembered, in milliseconds. Default 5,000. */
  readonly absentMs?: number;
}

/** Projects remembered. A project never changes its organisation, so what is known stays known. */
const remembered = 100_000;

/** The directory of projects in front of auth's ResolveProject; loads of one id are shared. */
export function cachedProjects(
  options: CachedProjectsOptions,
): (projectId: string) => Promise<string | undefined> | string | undefined {
  const { clock, load, absentMs = 5_000 } = options;
  const known = new Map<string, string>();
  const absentUntil = new Map<string, number>();
  const loading = new Map<string, Promise<string | undefined>>();

  async function ask(projectId: string): Promise<string | undefined> {
    try {
      const org = await load(projectId);
      if (org === undefined) remember(absentUntil, projectId, clock.nowMs() + absentMs);
      else remember(known, projectId, org);
      return org;
    } finally {
      loading.delete(projectId);
    }
  }

  return (projectId) => {
    const org = known.get(projectId);
    if (org !== undefined) return org;
    const until = absentUntil.get(projectId);
    if (until !== undefined && clock.nowMs() < until) return undefined;
    absentUntil.delete(projectId);
    let answer = loading.get(projectId);
    if (answer === undefined) {
      answer = ask(projectId);
      loading.set(projectId, answer);
    }
    return answer;
  };
}

function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= remembered) break;
    map.delete(oldest);
  }
}
