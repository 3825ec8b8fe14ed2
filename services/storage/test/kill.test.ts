import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { eventually, namedSignals } from "@fastgpu/testkit/signals";
import { collectBytes, MIB, sha256, storageWorld, uploadOf } from "./running-storage.ts";
import type { StorageWorld } from "./running-storage.ts";

async function startProcess(world: StorageWorld): Promise<ChildProcess> {
  const file = join(world.config.directory, "..", "config.json");
  await writeFile(file, JSON.stringify(world.config));
  const script = fileURLToPath(new URL("./storage-process.ts", import.meta.url));
  const child = fork(script, [file], {
    execArgv: [],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  await Promise.race([
    once(child, "message"),
    once(child, "exit").then(([code]) => Promise.reject(new Error(`storage ended with ${code}`))),
  ]);
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

test("a service killed again and again during an upload loses nothing it called durable, and the file is whole", async () => {
  await using world = await storageWorld();
  const tenant = world.newTenant();
  const content = randomBytes(24 * MIB + 321);
  const header = { parent: tenant.parent, uploadId: randomUUID(), sha256: sha256(content) };
  let durable = 0;
  for (let run = 0; run < 3; run += 1) {
    const child = await startProcess(world);
    const client = world.as(ArtifactService, "project_editor", tenant);
    const committed = async (): Promise<number> => {
      const known = await client
        .getUpload({ parent: tenant.parent, uploadId: header.uploadId })
        .catch(() => undefined);
      return Number(known?.committedBytes ?? 0);
    };
    const offset = await committed();
    expect(offset).toBeGreaterThanOrEqual(durable);
    const signals = namedSignals();
    const goal = offset + 5 * MIB;
    const broken = client.uploadArtifact(
      (async function* () {
        let at = offset;
        for await (const message of uploadOf(content, { ...header, offset })) {
          yield message;
          at += message.part.case === "data" ? message.part.value.length : 0;
          if (at > goal + 2 * MIB) await signals.fired("never");
        }
      })(),
    );
    broken.catch(() => undefined);
    durable = await eventually("progress is durable", async () => {
      const bytes = await committed();
      return bytes > offset ? bytes : undefined;
    });
    await kill(child);
    await expect(broken).rejects.toThrow();
  }
  const child = await startProcess(world);
  const client = world.as(ArtifactService, "project_editor", tenant);
  const known = await client.getUpload({ parent: tenant.parent, uploadId: header.uploadId });
  expect(Number(known.committedBytes)).toBeGreaterThanOrEqual(durable);
  const offset = Number(known.committedBytes);
  const artifact = await client.uploadArtifact(uploadOf(content, { ...header, offset }));
  expect(artifact).toMatchObject({ sha256: header.sha256, sizeBytes: BigInt(content.length) });
  const bytes = await collectBytes(client.downloadArtifact({ name: artifact.name }));
  expect(bytes.equals(content)).toBe(true);
  await kill(child);

  // The answer was given: the artifact survives that kill too.
  const last = await startProcess(world);
  const again = await collectBytes(
    client.downloadArtifact({ name: artifact.name, offset: 23n * BigInt(MIB) }),
  );
  expect(again.equals(content.subarray(23 * MIB))).toBe(true);
  await kill(last);
}, 240_000);
