/**
 * Roles and what they may do. Permissions are `resource.verb`, the same words that RPCs declare in their proto option;
 * a role is bound to one organisation or one project, except the operator's, which is bound to the platform.
 */
export const roles = [
  "platform_operator",
  "org_admin",
  "project_editor",
  "project_viewer",
  "worker",
  "service",
] as const;
export type Role = (typeof roles)[number];

const view = [
  "projects.get",
  "tasks.get",
  "tasks.list",
  "tasks.logs",
  "nodes.list",
  "gpus.list",
  "billing.read",
  "metrics.read",
  "artifacts.get",
  "artifacts.list",
  "queues.read",
  "reservations.read",
  "policy.read",
] as const;

const edit = ["tasks.create", "tasks.cancel", "artifacts.create", "images.import"] as const;

const administer = [
  "organizations.get",
  "projects.create",
  "projects.list",
  "keys.create",
  "keys.list",
  "keys.revoke",
  "audit.read",
  "queues.manage",
  "reservations.manage",
] as const;

const operate = [
  "organizations.create",
  "organizations.list",
  "workers.invite",
  "prices.manage",
  "policy.manage",
  "billing.credit",
  "events.read",
  "scheduler.status",
] as const;

const work = ["worker.session", "worker.logs", "artifacts.store"] as const;
const serve = [
  "billing.read",
  "metrics.read",
  "holds.write",
  "events.read",
  "scheduler.status",
  "directory.read",
  "organizations.get",
  "projects.list",
  "artifacts.get",
  "nodes.list",
] as const;

export type Permission =
  | (typeof view)[number]
  | (typeof edit)[number]
  | (typeof administer)[number]
  | (typeof operate)[number]
  | (typeof work)[number]
  | (typeof serve)[number];

/** The permissions of each role. */
export const permissionsOfRole: Readonly<Record<Role, ReadonlySet<string>>> = {
  platform_operator: new Set<Permission>([...view, ...edit, ...administer, ...operate]),
  org_admin: new Set<Permission>([...view, ...edit, ...administer]),
  project_editor: new Set<Permission>([...view, ...edit]),
  project_viewer: new Set<Permission>(view),
  worker: new Set<Permission>(work),
  service: new Set<Permission>(serve),
};
