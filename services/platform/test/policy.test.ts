import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  PolicyOrigin,
  type SchedulingPolicy,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import { TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { listSegments } from "@fastgpu/scheduler/recording/ring";
import { readSegment } from "@fastgpu/scheduler/recording/read-segment";
import { replaySegments } from "@fastgpu/scheduler/replay/replay";
import { expect, test } from "vitest";
import { endOf, script, testPlatform } from "./harness.ts";
import { clientsOf, type AllClients } from "./clients.ts";

/** Asks until the policy is as wanted: the leader looks once a second. */
async function untilPolicy(
  policies: AllClients["policies"],
  wanted: (policy: SchedulingPolicy) => boolean,
): Promise<SchedulingPolicy> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const policy = await policies.getSchedulingPolicy({});
    if (wanted(policy)) return policy;
    if (performance.now() > deadline) throw new Error(`it stays at revision ${policy.revision}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

test("a running platform takes its policy from a file and from calls, plans by it and is replayed with it", async () => {
  await using p = await testPlatform({ simulatedGpus: 4 });
  using operator = clientsOf(p);
  const { policies } = operator;
  const first = await policies.getSchedulingPolicy({});
  expect(first).toMatchObject({ revision: 0n, origin: PolicyOrigin.DEFAULT, source: "" });
  expect(first.effective).toMatchObject({ placement: "default" });

  const runOne = async (): Promise<void> => {
    const { name } = await p.tasks.runTask({ parent: p.parent, task: script("true", { gpus: 1 }) });
    expect((await endOf(p, name)).state).toBe(TaskState.SUCCEEDED);
  };
  await runOne();
  const file = join(p.directory, "data", "policy.yaml");
  await writeFile(file, "placement: spreading   # wide\n");
  const taken = await untilPolicy(policies, ({ revision }) => revision === 1n);
  expect(taken).toMatchObject({ origin: PolicyOrigin.FILE, updatedBy: file });
  expect(taken.source).toContain("# wide");
  await runOne();

  await writeFile(file, "placement: spreading\norder:\n  gapMdd: 1\n");
  const refused = await untilPolicy(policies, ({ fileProblem }) => fileProblem !== "");
  expect(refused).toMatchObject({ revision: 1n, effective: { placement: "spreading" } });
  expect(refused.fileProblem).toContain("policy.yaml:3: order.gapMdd is no parameter");
  expect(refused.fileProblem).toContain("did you mean gapMd?");

  const source = "placement: packing\n";
  const checked = await policies.setSchedulingPolicy({ source, validateOnly: true });
  expect(checked).toMatchObject({ revision: 1n, effective: { placement: "packing" } });
  const set = await policies.setSchedulingPolicy({ source, expectedRevision: 1n });
  expect(set).toMatchObject({ revision: 2n, origin: PolicyOrigin.CALL });
  await expect(
    policies.setSchedulingPolicy({ source, expectedRevision: 1n }),
  ).rejects.toMatchObject({ code: "ABORTED" });
  await expect(
    policies.setSchedulingPolicy({ source: "placement: x", sourceName: "mine.yaml" }),
  ).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringContaining("mine.yaml:1: placement") as string,
  });
  // The planner's life shows when the leader has it.
  const directory = join(p.directory, "data", "recordings");
  const planned = async (): Promise<string[]> => {
    const paths = await listSegments(directory);
    const segments = await Promise.all(paths.map((path) => readSegment(path)));
    return segments.flatMap((segment) =>
      segment.header === undefined
        ? []
        : [...segment.frames()].flatMap((frame) => {
            if (frame.kind === "beginning") return [frame.beginning.policy.placement];
            return frame.kind === "policy" ? [frame.policy.placement] : [];
          }),
    );
  };
  const deadline = performance.now() + 30_000;
  while (!(await planned()).includes("packing") && performance.now() < deadline) await runOne();
  expect(await planned()).toEqual(["default", "spreading", "packing"]);

  const keyFor = async (role: string): Promise<string> => {
    const apiKey = { displayName: role, role, project: "" };
    const parent = `organizations/${p.platform.org}`;
    return (await operator.keys.createApiKey({ parent, apiKey })).secret;
  };
  using admin = clientsOf(p, await keyFor("org_admin"));
  expect(await admin.policies.getSchedulingPolicy({})).toMatchObject({ revision: 2n });
  await expect(admin.policies.setSchedulingPolicy({ source })).rejects.toMatchObject({
    code: "PERMISSION_DENIED",
  });

  // A restart keeps what was set last, and does not take the refused file again.
  await p.restart();
  const again = await policies.getSchedulingPolicy({});
  expect(again).toMatchObject({ revision: 2n, effective: { placement: "packing" } });
  expect(again.fileProblem).toContain("gapMdd");
  await runOne();
  await p.platform.stop();
  const report = await replaySegments(await listSegments(directory));
  expect(report).toMatchObject({ mismatches: 0 });
  expect(report.decisions).toBeGreaterThanOrEqual(3);
}, 180_000);
