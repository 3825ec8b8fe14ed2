import { parseId, type AttemptId } from "./ids.ts";

/** One member of an attempt: a gang's have ranks from 0, any other attempt is its own member 0. */
export interface Member {
  readonly attempt: AttemptId;
  /** Rank, from 0. */
  readonly member: number;
}

/** Greatest number of members in a gang. */
export const maxMembers = 1_024;

/**
 * The name of a member for workers, containers and Kubernetes: the attempt's id, from rank 1 on with the rank behind it
 * (`att-01j…-3`).
 */
export function memberName({ attempt, member }: Member): string {
  return member === 0 ? attempt : `${attempt}-${member}`;
}

/** Reads the name of a member; undefined where it is none. */
export function parseMemberName(name: string): Member | undefined {
  const whole = parseId("att", name);
  if (whole !== undefined) return { attempt: whole, member: 0 };
  const [prefix, id, rank, ...more] = name.split("-");
  const attempt = parseId("att", `${prefix}-${id}`);
  if (attempt === undefined || rank === undefined || more.length > 0) return undefined;
  const member = /^[1-9][0-9]{0,3}$/.test(rank) ? Number(rank) : maxMembers;
  return member < maxMembers ? { attempt, member } : undefined;
}
