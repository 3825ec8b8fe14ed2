import { transaction, withTenant, type Tenant } from "@fastgpu/postgres/transaction";
import type { Scheduler } from "../scheduler.ts";

/** Runs reads under row-level security. */
export function inTenant<T>(
  s: Scheduler,
  tenant: Tenant,
  read: Parameters<typeof transaction<T>>[1],
): Promise<T> {
  return transaction(
    s.api,
    async (tx) => {
      await withTenant(tx, tenant);
      return read(tx);
    },
    { readOnly: true },
  );
}

/** The tenant of what belongs to a project, or to an organisation with all its projects. */
export const tenantOfOwner = (owner: {
  readonly org: Tenant["org"];
  readonly project: Exclude<Tenant["project"], "all"> | undefined;
}): Tenant => ({ org: owner.org, project: owner.project ?? "all" });
