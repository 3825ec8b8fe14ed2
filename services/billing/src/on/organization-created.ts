import { topics } from "@fastgpu/events/topics";
import { on } from "@fastgpu/events/consumer";
import type { EventHandler } from "@fastgpu/events/consumer";
import { parseId } from "@fastgpu/domain/ids";
import type { Billing } from "../billing.ts";

/** Opens the account of a new organisation, where no earlier call did. */
export function onOrganizationCreated(billing: Billing): EventHandler {
  return on(topics.organizationCreated, async (tx, received) => {
    for (const { event, payload } of received) {
      const org = parseId("org", payload.org);
      if (org !== undefined) await billing.organizations.open(tx, org);
      else billing.log.error({ event: event.eventId, org: payload.org }, "not an organisation");
    }
  });
}
