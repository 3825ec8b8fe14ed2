import { timestampMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import type { Reservation } from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { plainText } from "@fastgpu/domain/text";
import type { StoredReservation } from "../store/fleet-reservations.ts";

/** What a caller says of a reservation. */
export type Asked = Pick<
  StoredReservation,
  "displayName" | "gpus" | "perNode" | "models" | "startMs" | "endMs"
>;

/** Limits of one reservation. */
export const reservationLimits = { gpus: 1_000_000, days: 366 } as const;
const longestMs = reservationLimits.days * 86_400_000;

/** A beginning that is no longer past than this is taken to be now: the caller's clock, and the way here. */
const lateMs = 60_000;

/** A new reservation as asked for. Throws INVALID_FIELD. */
export function parseReservation(asked: Reservation | undefined, nowMs: number): Asked {
  if (asked === undefined) throw Fault.invalid("reservation", "is required");
  const { displayName, gpus, perNode, models, startTime, endTime } = asked;
  return checked({
    ...{ displayName, gpus, models, perNode: shapeOf(perNode) },
    startMs: startTime === undefined ? nowMs : startOf(startTime, nowMs),
    endMs: endOf(endTime, nowMs),
  });
}

/** A reservation with the fields changed that a mask names. Throws INVALID_FIELD, ILLEGAL_STATE. */
export function changedReservation(
  before: StoredReservation,
  of: { reservation: Reservation; paths: readonly string[] },
  nowMs: number,
): Asked {
  const { reservation, paths } = of;
  if (before.endMs <= nowMs) {
    throw new Fault("ILLEGAL_STATE", "the reservation is over", { hint: "make a new one" });
  }
  if (paths.length === 0) throw Fault.invalid("update_mask", maskHint);
  let after: Asked = before;
  for (const path of paths) {
    if (path === "display_name") after = { ...after, displayName: reservation.displayName };
    else if (path === "gpus") after = { ...after, gpus: reservation.gpus };
    else if (path === "per_node") after = { ...after, perNode: shapeOf(reservation.perNode) };
    else if (path === "models") after = { ...after, models: reservation.models };
    else if (path === "end_time") after = { ...after, endMs: endOf(reservation.endTime, nowMs) };
    else if (path === "start_time") {
      after = { ...after, startMs: newStartOf(before, reservation.startTime, nowMs) };
    } else throw Fault.invalid("update_mask", `has no field ${path} to change; ${maskHint}`);
  }
  return checked(after);
}

/** One GPU on a node lies on any. */
const shapeOf = (perNode: number): number | undefined => (perNode > 1 ? perNode : undefined);

const maskHint = "must name display_name, gpus, per_node, models, start_time or end_time";

function newStartOf(
  before: StoredReservation,
  startTime: Timestamp | undefined,
  nowMs: number,
): number {
  if (before.startMs <= nowMs) {
    throw new Fault("ILLEGAL_STATE", "the reservation has begun: its start cannot be changed", {
      hint: "change its end, or delete it",
    });
  }
  return startTime === undefined ? nowMs : startOf(startTime, nowMs);
}

function startOf(time: Timestamp, nowMs: number): number {
  const ms = timestampMs(time);
  if (!(ms >= nowMs - lateMs)) {
    throw Fault.invalid(
      "reservation.start_time",
      "must not be in the past",
      "leave it out for a reservation that begins at once",
    );
  }
  if (ms > nowMs + longestMs) {
    const description = `must be within ${reservationLimits.days} days from now`;
    throw Fault.invalid("reservation.start_time", description);
  }
  return Math.max(ms, nowMs);
}

function endOf(time: Timestamp | undefined, nowMs: number): number {
  if (time === undefined) throw Fault.invalid("reservation.end_time", "is required");
  const ms = timestampMs(time);
  if (ms > nowMs) return ms;
  const hint = "to end one that lasts, delete it: what runs on its GPUs goes on";
  throw Fault.invalid("reservation.end_time", "must be after now", hint);
}

function checked(asked: Asked): Asked {
  const { displayName, gpus, perNode, models, startMs, endMs } = asked;
  plainText("reservation.display_name", displayName);
  if (gpus < 1 || gpus > reservationLimits.gpus) {
    const most = reservationLimits.gpus.toLocaleString("en-US");
    throw Fault.invalid("reservation.gpus", `must be 1 to ${most}`);
  }
  if (perNode !== undefined && gpus % perNode !== 0) {
    const most = Math.floor(gpus / perNode) * perNode;
    throw Fault.invalid(
      "reservation.per_node",
      `is ${perNode}, which does not divide ${gpus} GPUs`,
      `${most > 0 ? `${most} or ` : ""}${most + perNode} GPUs are whole nodes of ${perNode}`,
    );
  }
  for (const [at, model] of models.entries()) {
    plainText(`reservation.models[${at}]`, model);
    if (models.indexOf(model) < at) {
      throw Fault.invalid(`reservation.models[${at}]`, "is named twice");
    }
  }
  if (endMs <= startMs) {
    throw Fault.invalid("reservation.end_time", "must be after start_time");
  }
  if (endMs - startMs > longestMs) {
    const description = `must be within ${reservationLimits.days} days from start_time`;
    throw Fault.invalid("reservation.end_time", description);
  }
  return asked;
}
