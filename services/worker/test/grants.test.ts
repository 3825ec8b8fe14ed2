import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ExitClass } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { newId } from "@fastgpu/domain/ids";
import { expect, test } from "vitest";
import { type Peer, project, startPeer } from "./peer.ts";
import { endOf, shell, startWorker, waitForFile } from "./worker-child.ts";

/** Resolves once the worker has been told of these grants: what is sent to it afterwards finds them. */
async function tell(peer: Peer, attempt: string, grant: string): Promise<void> {
  peer.newGrants = [{ attempt, grant }];
  const before = peer.heartbeats;
  await peer.until(() => peer.heartbeats > before);
}

/** Calls to storage from here on. */
function callsAfter(peer: Peer): () => Peer["storageCalls"] {
  const from = peer.storageCalls.length;
  return () => peer.storageCalls.slice(from);
}

const methodsOf = (calls: Peer["storageCalls"]): Set<string> =>
  new Set(calls.map(({ method }) => method));
const grantsOf = (calls: Peer["storageCalls"]): Set<string> =>
  new Set(calls.map(({ grant }) => grant));

const saving =
  'echo saved > "$FASTGPU_CHECKPOINT_DIR/x"; echo ready; while [ ! -e go ]; do sleep 0.02; done; ' +
  'echo made > "$FASTGPU_OUTPUT_DIR/y"';

test("every call to storage carries the attempt's newest grant: the lease's, then what heartbeats bring", async () => {
  await using peer = await startPeer();
  await using worker = await startWorker(peer);
  const task = newId("task", Date.now(), randomBytes(10));
  const one = peer.lease(shell(saving), { task });
  await peer.report(one, "running");
  await waitForFile(join(worker.directory, "checkpoints", task, "x"), "saved\n");
  peer.stop(one, ExitClass.PREEMPTED, 200);
  const { checkpointDigest } = endOf(await peer.report(one, "ended"));
  expect(methodsOf(peer.storageCalls)).toEqual(new Set(["storeArtifact", "putManifest"]));
  expect(grantsOf(peer.storageCalls)).toEqual(new Set([`grant of ${one}`]));

  const fetched = callsAfter(peer);
  const inputs = [{ artifact: `projects/${project}/artifacts/art-1`, path: "in" }];
  const checkpoint = { manifestDigest: checkpointDigest, epoch: 5n };
  const two = peer.lease({ ...shell(saving), inputs }, { task, epoch: 6n, checkpoint });
  await peer.report(two, "running");
  expect(methodsOf(fetched())).toEqual(new Set(["fetchManifest", "fetchArtifact"]));
  expect(grantsOf(fetched())).toEqual(new Set([`grant of ${two}`]));
  const kept = callsAfter(peer);
  await tell(peer, two, "renewed");
  writeFileSync(join(worker.directory, "attempts", two, "work", "go"), "");
  expect(endOf(await peer.report(two, "ended")).exitClass).toBe(ExitClass.OK);
  expect(methodsOf(kept())).toEqual(new Set(["storeArtifact", "putManifest"]));
  expect(grantsOf(kept())).toEqual(new Set(["renewed"]));
});

test("a worker that was killed goes on with the grants of its new session", async () => {
  await using peer = await startPeer();
  const first = await startWorker(peer);
  const { directory } = first;
  const attempt = peer.lease(shell(saving));
  await peer.report(attempt, "running");
  await first.kill("SIGKILL");
  await using _second = await startWorker(peer, directory);
  await tell(peer, attempt, "of the second session");
  writeFileSync(join(directory, "attempts", attempt, "work", "go"), "");
  expect(endOf(await peer.report(attempt, "ended")).manifestDigest).not.toBe("");
  expect(grantsOf(peer.storageCalls)).toEqual(new Set(["of the second session"]));
});

test("a file whose grant has ended waits for the next one; an attempt without a lease's grant sends none", async () => {
  await using peer = await startPeer();
  await using _worker = await startWorker(peer);
  peer.endedGrants.add("old");
  const late = peer.lease(shell('echo made > "$FASTGPU_OUTPUT_DIR/y"'), { storageGrant: "old" });
  await peer.until(() => peer.storageCalls.some(({ grant }) => grant === "old"));
  peer.newGrants = [{ attempt: late, grant: "new" }];
  expect(endOf(await peer.report(late, "ended"))).toMatchObject({ exitClass: ExitClass.OK });
  expect(peer.manifests.length).toBe(1);
  const calls = callsAfter(peer);
  const plain = peer.lease(shell("echo said"), { storageGrant: "" });
  await peer.report(plain, "ended");
  expect(grantsOf(calls())).toEqual(new Set([""]));
});
