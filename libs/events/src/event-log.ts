import { create } from "@bufbuild/protobuf";
import {
  ListEventsRequestSchema,
  ListEventsResponseSchema,
} from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import type {
  ListEventsRequest,
  ListEventsResponse,
} from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import type { Clock } from "@fastgpu/domain/clock";
import { confirmConsumer, listEvents } from "@fastgpu/postgres/outbox";
import type { EventPage } from "@fastgpu/postgres/outbox";
import type { Pool } from "@fastgpu/postgres/pool";
import { fromBatch, toBatch } from "./envelope.ts";

const DEFAULT_PAGE = 1_000;

/**
 * Answers `EventLogService.ListEvents` from a service's own log. `consumer` is the calling service
 * where it is one: what it asks for after, it has applied, and retention may go on to there.
 */
export async function answerListEvents(
  options: { readonly core: Pool; readonly producer: string; readonly clock: Clock },
  request: ListEventsRequest,
  consumer: string | undefined,
): Promise<ListEventsResponse> {
  if (consumer !== undefined) {
    const nowMs = options.clock.nowMs();
    await confirmConsumer(options.core, { consumer, seq: request.afterSeq, nowMs });
  }
  const limit = request.pageSize === 0 ? DEFAULT_PAGE : request.pageSize;
  const page = await listEvents(options.core, request.afterSeq, limit);
  return create(ListEventsResponseSchema, {
    batch: toBatch(options.producer, page),
    headSeq: page.headSeq,
  });
}

/** Turns a typed client's `listEvents` into the inbox's way to fill gaps. */
export function fetchEvents(
  list: (request: ListEventsRequest) => Promise<ListEventsResponse>,
): (afterSeq: bigint) => Promise<EventPage> {
  return async (afterSeq) => {
    const response = await list(create(ListEventsRequestSchema, { afterSeq }));
    const run =
      response.batch === undefined ? { incarnation: 0, events: [] } : fromBatch(response.batch);
    return { ...run, headSeq: response.headSeq };
  };
}
