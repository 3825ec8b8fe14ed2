import { newEvent, topics } from "@fastgpu/events/topics";
import { appendEvents } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import { insertOrganization } from "./store/organizations.ts";
import type { Organization } from "./store/organizations.ts";
import { insertProject } from "./store/projects.ts";
import type { Project } from "./store/projects.ts";

/** Adds an organisation and says so. The transaction's tenant must be that organisation. */
export async function addOrganization(
  tx: Tx,
  organization: Organization,
  traceparent: string,
): Promise<void> {
  const { orgId, displayName, createdMs } = organization;
  await insertOrganization(tx, organization);
  await appendEvents(tx, [
    newEvent(
      topics.organizationCreated,
      { org: orgId, displayName },
      { aggregate: orgId, aggregateRevision: 1n, occurredMs: createdMs, org: orgId, traceparent },
    ),
  ]);
}

/** Adds a project to the transaction's tenant and says so. */
export async function addProject(tx: Tx, project: Project, traceparent: string): Promise<void> {
  const { projectId, orgId, displayName, createdMs } = project;
  await insertProject(tx, project);
  await appendEvents(tx, [
    newEvent(
      topics.projectCreated,
      { project: projectId, org: orgId, displayName },
      {
        aggregate: projectId,
        aggregateRevision: 1n,
        occurredMs: createdMs,
        org: orgId,
        project: projectId,
        traceparent,
      },
    ),
  ]);
}
