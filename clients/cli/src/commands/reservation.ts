import { repeated, timeMs, durationMs, wholeNumber } from "../parse/quantities.ts";
import type { Definition, Runner } from "./define.ts";

const gpus = wholeNumber(1, 1_000_000);
const named = "resv-…, or its full name";

/** `reservation`: GPUs kept for a time. */
export function addReservationCommands(runner: Runner): void {
  const reservation = runner.group("reservation", "GPUs kept for a time in the future");

  const create = reservation.remote("create", "reserve GPUs for the project, or the organisation");
  create.command
    .requiredOption("--gpus <number>", "how many GPUs", gpus)
    .option("--per-node <number>", "so many of them on one node each, for gangs", gpus)
    .option("--model <model>", "a model that will do; repeatable; default: any", repeated)
    .option("--start <when>", "a time, or so long from now; default: at once", timeMs)
    .option("--name <text>", "a name for people")
    .option("--for-org", "for all projects of the organisation, not the one project")
    .option("--request-id <uuid>", "repeat a request safely");
  endOptions(create);
  create.run(async () => ({ run: (await import("../run/reservation.ts")).createReservation }));

  const list = reservation.remote("list", "list the reservations of the organisation");
  list.command
    .argument("[owner]", "organizations/ORGANIZATION or projects/PROJECT")
    .option("--ended", "also those that are over");
  list.run(async () => ({ run: (await import("../run/reservation.ts")).listReservations }));

  const get = reservation.remote("get", "show a reservation");
  get.command.argument("<reservation>", named);
  get.run(async () => ({ run: (await import("../run/reservation.ts")).getReservation }));

  const set = reservation.remote("set", "change a reservation: end it sooner, make it smaller");
  set.command
    .argument("<reservation>", named)
    .option("--gpus <number>", "how many GPUs", gpus)
    .option("--per-node <number>", "so many of them on one node each; 1: wherever they lie", gpus)
    .option("--start <when>", "a time, or so long from now; only before it has begun", timeMs)
    .option("--name <text>", "a name for people");
  endOptions(set);
  set.run(async () => ({ run: (await import("../run/reservation.ts")).setReservation }));

  const remove = reservation.remote("delete", "give a reservation up; what runs goes on");
  remove.command.argument("<reservation>", named);
  remove.run(async () => ({ run: (await import("../run/reservation.ts")).deleteReservation }));
}

function endOptions({ command }: Definition): void {
  command
    .option("--end <when>", "a time, or so long from now", timeMs)
    .option("--duration <duration>", "so long after its start, for example 8h", durationMs);
}
