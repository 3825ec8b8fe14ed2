import {
  AttemptState,
  ExitClass,
  TaskState,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCli } from "./run-cli.ts";
import { type ScriptedGateway, aTask, startGateway } from "./scripted-gateway.ts";

const id = `task-${"1".padStart(26, "0")}`;
const attempt = (name: string, more: object) => ({
  ...{ name: `projects/p/tasks/${id}/attempts/${name}`, node: "nodes/node-a", ...more },
});
const members = [
  { rank: 0, node: "nodes/node-a", state: AttemptState.ENDED, exitClass: ExitClass.GANG_STOPPED },
  {
    ...{ rank: 1, node: "nodes/node-b", state: AttemptState.ENDED },
    ...{ exitClass: ExitClass.USER_EXIT, exitCode: 3, message: "exit code 3" },
  },
];

let gateway: ScriptedGateway;
const asked: { rank?: number | undefined }[] = [];
beforeAll(async () => {
  gateway = await startGateway({
    tasks: {
      getTask: async ({ name }) =>
        aTask(gateway, {
          ...{ name, state: TaskState.FAILED, exitClass: ExitClass.USER_EXIT, exitCode: 3 },
          spec: { replicas: 2, topology: { within: 3, spreadOver: 1 } },
        }),
      listAttempts: async ({ pageToken }) =>
        pageToken === ""
          ? { attempts: [attempt("att-1", { state: AttemptState.ENDED })], nextPageToken: "2" }
          : { attempts: [attempt("att-2", { state: AttemptState.ENDED, members })] },
      readLogs: async function* (request) {
        asked.push(request);
        yield { records: [{ stream: 1, data: Buffer.from("hello\n"), rank: request.rank ?? 0 }] };
      },
    },
  });
});
afterAll(() => gateway.server.close(0));
const cli = (...args: string[]) => runCli(args, { address: gateway.address });

test("task get shows a gang with the members of its newest attempt", async () => {
  const { stdout } = await cli("task", "get", id, "-o", "table");
  expect(stdout).toMatch(/^gang: +2 members within one rack, no two in one node$/m);
  const lines = stdout.split("\n").map((line) => line.trim().split(/ {2,}/));
  expect(lines).toContainEqual(["0", "ENDED", "GANG_STOPPED", "-", "node-a", "-", "-", "-", "-"]);
  expect(lines).toContainEqual([
    ...["1", "ENDED", "USER_EXIT", "3", "node-b", "-", "-", "-", "exit code 3"],
  ]);
});

test("task attempts lists all of them, as a table and as the API has them", async () => {
  const { stdout } = await cli("task", "attempts", id, "-o", "table");
  expect(stdout).toMatch(/^att-1 +ENDED .* node-a /m);
  expect(stdout).toMatch(/^att-2 +ENDED .* 2 members on 2 nodes /m);
  const json = JSON.parse((await cli("task", "attempts", id)).stdout) as { members?: object[] }[];
  expect(json.map((each) => each.members?.length)).toEqual([undefined, 2]);
});

test("task logs --rank asks for one member, and records say whose they are", async () => {
  const { stdout } = await cli("task", "logs", id, "--rank", "1", "-o", "ndjson");
  expect(asked.at(-1)?.rank).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ rank: 1, text: "hello\n" });
  await cli("task", "logs", id);
  expect(asked.at(-1)?.rank).toBeUndefined();
});
