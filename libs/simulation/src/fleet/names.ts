import type { OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { PlanQueue, PlanReservation } from "@fastgpu/scheduling/plan";
import { Identity } from "./identity.ts";
import type { FleetTask, FleetWorkload } from "./workload.ts";

/** A workload's names as the planner knows them. */
export interface Named {
  readonly queues: readonly PlanQueue[];
  readonly reservations: readonly PlanReservation[];
  /** Whose shares are compared: organisations, or projects where there is one organisation only. */
  readonly tenants: readonly string[];
  /** Weight of each tenant beside the others. */
  readonly weights: readonly number[];
  task(name: string): TaskId;
  org(name: string): OrgId;
  project(org: string, name: string): ProjectId;
  tenantOf(task: FleetTask): number;
}

/** Gives ids to all names of a workload, in the order in which they occur. */
export function named(workload: FleetWorkload): Named {
  const tasks = new Identity("task");
  const orgs = new Identity("org");
  const projects = new Identity("proj");
  const org = (name: string): OrgId => orgs.of(name);
  // Two organisations may each have a project of one name; an id is a project whoever names it.
  const project = (of: string, name: string): ProjectId =>
    projects.of(name.startsWith("proj-") ? name : `${of}/${name}`);
  const single = new Set(workload.tasks.map((task) => task.org)).size <= 1;
  const tenantName = (task: FleetTask): string => (single ? task.project : task.org);
  const tenants = [...new Set(workload.tasks.map(tenantName))].toSorted();
  const index = new Map(tenants.map((name, at) => [name, at]));
  const weightOf = (name: string): number =>
    workload.queues.find(
      (queue) =>
        queue.user === undefined &&
        (single ? queue.project === name : queue.org === name && queue.project === undefined),
    )?.weight ?? 1;
  return {
    queues: workload.queues.map((queue) => ({
      org: org(queue.org),
      project: queue.project === undefined ? undefined : project(queue.org, queue.project),
      user: queue.user,
      weight: queue.weight,
      guaranteedGpus: queue.guaranteedGpus ?? 0,
      limitGpus: queue.limitGpus,
      models: queue.models ?? {},
    })),
    reservations: workload.reservations.map((reservation) => ({
      id: reservation.name,
      org: org(reservation.org),
      project:
        reservation.project === undefined
          ? undefined
          : project(reservation.org, reservation.project),
      gpus: reservation.gpus,
      ...(reservation.perNode === undefined ? {} : { perNode: reservation.perNode }),
      models: reservation.models ?? [],
      startMs: reservation.startMs,
      endMs: reservation.endMs,
    })),
    tenants,
    weights: tenants.map(weightOf),
    task: (name) => (name === "" ? tasks.fresh() : tasks.of(name)),
    org,
    project,
    tenantOf: (task) => index.get(tenantName(task))!,
  };
}
