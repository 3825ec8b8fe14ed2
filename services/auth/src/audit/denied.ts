import type { Clock } from "@fastgpu/domain/clock";
import type { OrgId } from "@fastgpu/domain/ids";
import type { DeniedCalls } from "@fastgpu/events/denied-calls";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { appendAudit, platformChain } from "../store/audit-events.ts";

/** Chains counts of refused calls, each in the organisation of the caller. */
export function chainDeniedCalls(
  core: Pool,
  clock: Clock,
): (denied: readonly DeniedCalls[]) => Promise<void> {
  return async (denied) => {
    const timeMs = clock.nowMs();
    const byOrg = new Map<OrgId, DeniedCalls[]>();
    for (const one of denied) {
      const org = one.org ?? platformChain;
      byOrg.set(org, [...(byOrg.get(org) ?? []), one]);
    }
    await transaction(core, async (tx) => {
      for (const org of [...byOrg.keys()].toSorted()) {
        const facts = (byOrg.get(org) ?? []).map(({ principal, method, count }) => ({
          timeMs,
          principal,
          method,
          resource: "",
          project: "",
          requestId: "",
          deniedCalls: count,
        }));
        await appendAudit(tx, org, facts);
      }
    });
  };
}
