import { mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Lease, LeaseSchema } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { writeJson } from "../keeper/files.ts";
import type { Life } from "./machine.ts";

/** What a worker must remember of an attempt over a restart. */
export interface AttemptRecord {
  readonly lease: Lease;
  readonly life: Life;
  /** Journal id of the end report; the attempt is forgotten once it is acknowledged. */
  readonly endReportId: bigint | undefined;
}

/** Attempts of this worker on disk, one small file each. */
export interface Records {
  save(record: AttemptRecord): void;
  remove(attempt: string): void;
  load(): AttemptRecord[];
}

interface Row {
  lease: string;
  life: Life;
  endReportId: string | undefined;
}

/** Opens the folder of records. Files are replaced in one step, so a crash leaves the one before. */
export function openRecords(dir: string): Records {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const pathOf = (attempt: string): string => join(dir, `${attempt}.json`);
  return {
    save({ lease, life, endReportId }) {
      const row: Row = {
        lease: Buffer.from(toBinary(LeaseSchema, lease)).toString("base64"),
        life,
        endReportId: endReportId?.toString(),
      };
      writeJson(pathOf(lease.attempt), row);
    },
    remove: (attempt) => rmSync(pathOf(attempt), { force: true }),
    load: () =>
      readdirSync(dir)
        .filter((name) => name.endsWith(".json"))
        .flatMap((name) => parse(readFileSync(join(dir, name), "utf8"))),
  };
}

/** An empty file is one that a power cut left: its attempt was never taken up durably. */
function parse(text: string): AttemptRecord[] {
  if (text === "") return [];
  const row = JSON.parse(text) as Row;
  return [
    {
      lease: fromBinary(LeaseSchema, Buffer.from(row.lease, "base64")),
      life: row.life,
      endReportId: row.endReportId === undefined ? undefined : BigInt(row.endReportId),
    },
  ];
}
