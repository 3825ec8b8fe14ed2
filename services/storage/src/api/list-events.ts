import type { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { answerListEvents } from "@fastgpu/events/event-log";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { StorageParts } from "../parts.ts";

/** The log of this service's events. A service that reads it confirms what it has applied by what it asks for. */
export function listEvents(parts: StorageParts): Handler<typeof EventLogService.method.listEvents> {
  const { clock, db } = parts;
  return async (request, { principal }) => {
    const consumer =
      principal.kind === "service" ? principal.id.slice("service:".length) : undefined;
    return answerListEvents({ core: db.core, producer: "storage", clock }, request, consumer);
  };
}
