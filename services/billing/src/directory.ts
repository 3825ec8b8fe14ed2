import {
  OrganizationService,
  ProjectService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import type { Directory } from "./organizations.ts";

/** How long auth may take to answer, in milliseconds: a hold waits for it. */
const TIMEOUT_MS = 2_000;

const patience = { timeoutMs: TIMEOUT_MS, waitForReady: false } as const;

/** Asks the auth service who owns what. */
export function authDirectory(auth: Channel): Directory {
  const projects = createClient(ProjectService, auth);
  const organizations = createClient(OrganizationService, auth);
  return {
    organizationOfProject: (project) =>
      unlessMissing(async () => {
        const name = `projects/${project}`;
        const found = await projects.resolveProject({ name }, patience);
        return parseId("org", found.organization.slice("organizations/".length));
      }),
    organizationExists: async (org) => {
      const found = await unlessMissing(() =>
        organizations.getOrganization({ name: `organizations/${org}` }, patience),
      );
      return found !== undefined;
    },
  };
}

async function unlessMissing<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof Fault && error.reason === "NOT_FOUND") return undefined;
    throw error;
  }
}
