import { randomUUID } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type Reservation,
  ReservationSchema,
  ReservationStateSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { type Api, withApi } from "../api/connect.ts";
import { resourceName } from "../api/names.ts";
import { allPages } from "../api/pages.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { type View, printList, printOne } from "../output/print.ts";
import { enumName, isoTime, lastPart, span, timeMs } from "../output/values.ts";

const ownerOf = ({ name }: Reservation): string => name.replace(/\/reservations\/.*$/, "");

const view: View<Reservation> = {
  columns: [
    { header: "reservation", value: ({ name }) => lastPart(name) },
    { header: "name", value: ({ displayName }) => displayName },
    { header: "for", value: ownerOf },
    { header: "gpus", value: ({ gpus }) => String(gpus), align: "right" },
    {
      header: "per node",
      value: ({ perNode }) => (perNode > 1 ? String(perNode) : ""),
      align: "right",
    },
    { header: "models", value: ({ models }) => models.join(", ") || "any" },
    { header: "start", value: ({ startTime }) => isoTime(startTime) },
    {
      header: "length",
      value: ({ startTime, endTime }) => span(startTime, endTime),
      align: "right",
    },
    { header: "state", value: ({ state }) => enumName(ReservationStateSchema, state) },
    { header: "holds", value: ({ heldGpus }) => String(heldGpus), align: "right" },
    { header: "end", value: ({ endTime }) => isoTime(endTime), wide: true },
    { header: "by", value: ({ creator }) => creator, wide: true },
  ],
  id: ({ name }) => lastPart(name),
  json: (reservation) => toJson(ReservationSchema, reservation),
};

/** Options that say when a reservation ends; --duration counts from its start. */
interface EndOptions {
  start?: number;
  end?: number;
  duration?: number;
}

function endMs({ end, duration }: EndOptions, startMs: number): number | undefined {
  if (end !== undefined && duration !== undefined) {
    throw new CliError("--end and --duration say the same thing", { hint: "give one of them" });
  }
  return end ?? (duration === undefined ? undefined : startMs + duration);
}

/** Options of `reservation create`. */
export interface CreateReservationOptions extends CommonOptions, EndOptions {
  gpus: number;
  perNode?: number;
  model?: string[];
  name?: string;
  forOrg?: boolean;
  requestId?: string;
}

/** `reservation create --gpus N --start WHEN --duration LENGTH` */
export async function createReservation(
  context: CliContext,
  options: CreateReservationOptions,
): Promise<void> {
  const { start, gpus, perNode = 0, model = [], name = "", forOrg = false } = options;
  const end = endMs(options, start ?? context.nowMs());
  if (end === undefined) {
    throw new CliError("it has no end", { hint: "--duration 8h, or --end 2026-05-01T18:00:00Z" });
  }
  await withApi(context, options, async (api) => {
    const reservation = await api.reservations.createReservation({
      parent: await (forOrg ? api.organization() : api.project()),
      reservation: {
        ...{ displayName: name, gpus, perNode, models: model, endTime: timestampFromMs(end) },
        ...(start === undefined ? {} : { startTime: timestampFromMs(start) }),
      },
      requestId: options.requestId ?? randomUUID(),
    });
    await printOne(printOptions(context, options), view, reservation);
  });
}

/** `reservation list [OWNER] [--ended]` */
export async function listReservations(
  context: CliContext,
  options: CommonOptions & { ended?: boolean },
  typed: string | undefined,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const showEnded = options.ended ?? false;
    const list = (parent: string) =>
      allPages(
        (page) => api.reservations.listReservations({ parent, showEnded, ...page }),
        ({ reservations }) => reservations,
      );
    const items = await (typed === undefined ? byOwner(api, list) : list(typed));
    const hint = "nothing is reserved; fastgpu reservation create reserves GPUs";
    await printList(printOptions(context, options), view, items, hint);
  });
}

/** `reservation get RESERVATION` */
export async function getReservation(
  context: CliContext,
  options: CommonOptions,
  typed: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    await printOne(printOptions(context, options), view, await read(api, typed));
  });
}

/** By its full name, or a bare id. */
async function read(api: Api, typed: string): Promise<Reservation> {
  return byOwner(api, async (owner) => {
    const name = resourceName("reservations", typed, owner);
    return api.reservations.getReservation({ name });
  });
}

/** Asks as the organisation, which sees all; a key that is bound to a project as that. */
async function byOwner<T>(api: Api, ask: (owner: string) => Promise<T>): Promise<T> {
  try {
    return await ask(await api.organization());
  } catch (error) {
    if (!(error instanceof Fault) || error.reason !== "PERMISSION_DENIED") throw error;
    return ask(await api.project());
  }
}

/** Options of `reservation set`. */
export interface SetReservationOptions extends CommonOptions, EndOptions {
  gpus?: number;
  perNode?: number;
  name?: string;
}

/** `reservation set RESERVATION --gpus N --end WHEN` */
export async function setReservation(
  context: CliContext,
  options: SetReservationOptions,
  typed: string,
): Promise<void> {
  const { start, gpus, perNode, name: displayName } = options;
  await withApi(context, options, async (api) => {
    const before = await read(api, typed);
    const { name, startTime } = before;
    const from = start ?? (startTime === undefined ? 0 : timeMs(startTime));
    const end = endMs(options, from);
    const paths = [
      ...(displayName === undefined ? [] : ["display_name"]),
      ...(gpus === undefined ? [] : ["gpus"]),
      ...(perNode === undefined ? [] : ["per_node"]),
      ...(start === undefined ? [] : ["start_time"]),
      ...(end === undefined ? [] : ["end_time"]),
    ];
    if (paths.length === 0) {
      throw new CliError("there is nothing to change", {
        hint: "--gpus N, --per-node N, --start WHEN, --end WHEN, --duration LENGTH or --name TEXT",
      });
    }
    const reservation = await api.reservations.updateReservation({
      reservation: {
        ...{ name, displayName: displayName ?? "", gpus: gpus ?? 0, perNode: perNode ?? 0 },
        ...(start === undefined ? {} : { startTime: timestampFromMs(start) }),
        ...(end === undefined ? {} : { endTime: timestampFromMs(end) }),
      },
      updateMask: { paths },
    });
    await printOne(printOptions(context, options), view, reservation);
  });
}

/** `reservation delete RESERVATION` */
export async function deleteReservation(
  context: CliContext,
  options: CommonOptions,
  typed: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const { name } = await read(api, typed);
    await api.reservations.deleteReservation({ name });
    context.terminal.err(`${lastPart(name)} is given up; what runs on its GPUs goes on\n`);
  });
}
