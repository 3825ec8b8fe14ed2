import { randomBytes } from "node:crypto";
import { chmodSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ExitClass } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { newId } from "@fastgpu/domain/ids";
import { expect, test } from "vitest";
import { openEngine } from "../src/runtime/container/open.ts";
import { address, busyboxTar, image, skipReason } from "./container-image.ts";
import { type Peer, startPeer } from "./peer.ts";
import { endOf, freshDirectory, shell, startWorker, waitForFile } from "./worker-child.ts";

const aTask = () => newId("task", Date.now(), randomBytes(10));

/** Says a count, keeps it in its checkpoint, and stays until it is stopped. */
const counting =
  'd=$FASTGPU_CHECKPOINT_DIR; mkdir -p "$d/deep"; n=$(cat "$d/deep/n" 2>/dev/null || echo 0); ' +
  'echo "count $((n+1))"; echo $((n+1)) > "$d/deep/n"; while :; do sleep 0.05; done';

/** The digest of the checkpoint that an attempt has left in storage. */
async function stopped(peer: Peer, attempt: string): Promise<string> {
  peer.stop(attempt, ExitClass.PREEMPTED, 200);
  const end = endOf(await peer.report(attempt, "ended"));
  expect(end.exitClass).toBe(ExitClass.PREEMPTED);
  return end.checkpointDigest;
}

test("what a stopped task has saved is in storage, and it goes on from there on another worker", async () => {
  await using peer = await startPeer();
  const task = aTask();
  const first = await startWorker(peer);
  const one = peer.lease(shell(counting), { task });
  await peer.report(one, "running");
  await waitForFile(join(first.directory, "checkpoints", task, "deep", "n"), "1\n");
  const digest = await stopped(peer, one);
  expect(peer.checkpoints).toMatchObject([
    { digest, attempt: one, checkpoint: { task, member: 0, epoch: 1n, resumedDigest: "" } },
  ]);
  expect(peer.checkpoints[0]?.files.map(({ path }) => path)).toEqual(["deep/n"]);
  await first.kill("SIGKILL");

  const joinToken = "of the second";
  await using second = await startWorker(peer, freshDirectory(), { joinToken });
  const checkpoint = { manifestDigest: digest, epoch: 1n };
  const two = peer.lease(shell(counting), { task, epoch: 1n, checkpoint });
  await peer.report(two, "running");
  await waitForFile(join(second.directory, "checkpoints", task, "deep", "n"), "2\n");
  await stopped(peer, two);
  expect(peer.checkpoints[1]?.checkpoint).toMatchObject({ resumedDigest: digest });
  expect(peer.files.get("checkpoint/deep/n")?.content.toString()).toBe("2\n");
  expect(peer.files.get("output.log")?.content.includes("count 2")).toBe(true);
});

test("a good end stores no checkpoint and leaves none; one of a gang does both, for the gang may be tried again", async () => {
  await using peer = await startPeer();
  await using worker = await startWorker(peer);
  const save = shell('echo x > "$FASTGPU_CHECKPOINT_DIR/x"');
  const task = aTask();
  const plain = peer.lease(save, { task });
  expect(endOf(await peer.report(plain, "ended")).checkpointDigest).toBe("");
  await peer.until(() => readdirSync(join(worker.directory, "attempts")).length === 0);
  expect(readdirSync(join(worker.directory, "checkpoints"))).toEqual([]);
  const attempt = newId("att", Date.now(), randomBytes(10));
  const gang = { rank: 3, size: 4, nodes: ["a", "b", "c", "d"] };
  peer.lease(save, { attempt: `${attempt}-3`, task, gang });
  const end = endOf(await peer.report(`${attempt}-3`, "ended"));
  expect(end.exitClass).toBe(ExitClass.OK);
  expect(peer.checkpoints).toMatchObject([
    { digest: end.checkpointDigest, checkpoint: { task, member: 3 } },
  ]);
});

test("a checkpoint that cannot be fetched is no reason to start anew: the attempt ends as start_failed, to be tried again", async () => {
  await using peer = await startPeer();
  await using worker = await startWorker(peer);
  const checkpoint = { manifestDigest: "f".repeat(64), epoch: 1n };
  const attempt = peer.lease(shell("echo ran"), { epoch: 2n, checkpoint });
  const end = endOf(await peer.report(attempt, "ended"));
  expect(end).toMatchObject({ exitClass: ExitClass.START_FAILED });
  expect(peer.files.get("output.log")).toBeUndefined();
  await peer.until(() => readdirSync(join(worker.directory, "attempts")).length === 0);
});

test.skipIf(skipReason !== undefined)(
  "a container's user, who is none of the host's, reads and goes on with what was fetched",
  async () => {
    await using peer = await startPeer();
    if (address === undefined) throw new Error("no engine");
    using engine = openEngine(address);
    await engine.importImage(image, busyboxTar());
    const command = ["/bin/sh", "-c", counting];
    const spec = { runtime: { case: "container", value: { image, command } } } as const;
    const task = aTask();
    const digests: string[] = [];
    for (const count of [1, 2]) {
      const directory = freshDirectory();
      // The engine's containers are users of their own.
      chmodSync(directory, 0o711);
      const more = { runtime: "auto", engine: address, joinToken: `of ${count}` };
      await using _worker = await startWorker(peer, directory, more);
      const [before] = digests;
      const checkpoint = before === undefined ? undefined : { manifestDigest: before, epoch: 1n };
      const attempt = peer.lease(spec, { task, ...(checkpoint && { checkpoint }) });
      await peer.report(attempt, "running");
      await waitForFile(join(directory, "checkpoints", task, "deep", "n"), `${count}\n`);
      digests.push(await stopped(peer, attempt));
      expect(peer.files.get("checkpoint/deep/n")?.content.toString()).toBe(`${count}\n`);
    }
  },
);
