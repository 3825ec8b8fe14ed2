import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ExitClass, TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { Fault } from "@fastgpu/domain/fault";
import { anId } from "@fastgpu/testkit/factories";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runCli } from "./run-cli.ts";
import { type Script, type ScriptedGateway, aTask, startGateway } from "./scripted-gateway.ts";

const content = randomBytes(700_000);
const sha256 = createHash("sha256").update(content).digest("hex");

let folder: string;
let gateway: ScriptedGateway;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cli-files-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true, force: true });
  await gateway.server.close(0);
});

describe("data put", () => {
  /** Takes an upload whose connection breaks once after `breakAfter` bytes, of which it keeps `kept`. */
  function uploads(
    breakAfter: number,
    kept: number,
  ): { script: Script; got: () => Buffer; offsets: number[] } {
    let stored = Buffer.alloc(0);
    const offsets: number[] = [];
    let broken = false;
    const script: Script = {
      artifacts: {
        async uploadArtifact(requests) {
          let header = { displayName: "", sha256: "", offset: 0n };
          for await (const { part } of requests) {
            if (part.case === "header") {
              header = part.value;
              offsets.push(Number(header.offset));
              expect(Number(header.offset)).toBe(stored.length);
            } else if (part.case === "data") {
              stored = Buffer.concat([stored, part.value]);
              if (!broken && stored.length >= breakAfter) {
                broken = true;
                stored = stored.subarray(0, kept);
                throw new Fault("DRAINING", "shutting down");
              }
            }
          }
          return {
            name: `${gateway.project}/artifacts/${anId("art")}`,
            displayName: header.displayName,
            sha256: header.sha256,
            sizeBytes: BigInt(stored.length),
          };
        },
        async getUpload() {
          if (kept === 0) throw new Fault("NOT_FOUND", "the upload is not known");
          return { committedBytes: BigInt(kept) };
        },
      },
    };
    return { script, got: () => stored, offsets };
  }

  test.each([
    [300_000, 262_144],
    [1, 0],
  ])("goes on at what the platform kept after a break at byte %d", async (breakAfter, kept) => {
    const upload = uploads(breakAfter, kept);
    gateway = await startGateway(upload.script);
    writeFileSync(join(folder, "data.bin"), content);
    const result = await runCli(["data", "put", join(folder, "data.bin")], {
      address: gateway.address,
    });
    expect(result.code).toBe(0);
    expect(JSON.parse(result.stdout)).toMatchObject({ displayName: "data.bin", sha256 });
    expect(upload.offsets).toEqual([0, kept]);
    expect(upload.got().equals(content)).toBe(true);
    expect(result.stderr).toContain(`the upload goes on at byte ${kept}`);
  });

  test("refuses a folder, a file that is not there, and standard input without a name", async () => {
    gateway = await startGateway({});
    for (const [file, message] of [
      [folder, "is not a file"],
      [join(folder, "none"), "cannot be read"],
      ["-", "standard input has no name"],
    ] as const) {
      const result = await runCli(["data", "put", file], { address: gateway.address });
      expect(result.code).toBe(64);
      expect(result.stderr).toContain(message);
    }
  });
});

/** Serves `content` in pieces, breaking off once in the middle. */
function downloads(): NonNullable<Script["artifacts"]> & { offsets: number[] } {
  const offsets: number[] = [];
  return {
    offsets,
    getArtifact: async ({ name }) => ({
      name,
      displayName: "../../etc/data.bin",
      sizeBytes: BigInt(content.length),
      sha256,
    }),
    downloadArtifact: async function* ({ offset }) {
      offsets.push(Number(offset));
      for (let at = Number(offset); at < content.length; at += 100_000) {
        yield { data: content.subarray(at, at + 100_000) };
        if (offsets.length === 1 && at >= 200_000)
          throw new Fault("UNAVAILABLE", "gone", { retryAfterMs: 1 });
      }
    },
  };
}

describe("data get", () => {
  test("goes on where it broke, checks the whole, and leaves no draft", async () => {
    const artifacts = downloads();
    gateway = await startGateway({ artifacts });
    const file = join(folder, "out.bin");
    const result = await runCli(["data", "get", anId("art"), file], { address: gateway.address });
    expect(result.code).toBe(0);
    expect(readFileSync(file).equals(content)).toBe(true);
    expect(artifacts.offsets).toEqual([0, 300_000]);
    expect(readdirSync(folder)).toEqual(["out.bin"]);
  });

  test("prints to standard output on request", async () => {
    const { offsets: _offsets, ...artifacts } = downloads();
    const text = Buffer.from("plain text\n");
    gateway = await startGateway({
      artifacts: {
        ...artifacts,
        getArtifact: async ({ name }) => ({
          name,
          displayName: "t",
          sizeBytes: BigInt(text.length),
          sha256: createHash("sha256").update(text).digest("hex"),
        }),
        downloadArtifact: async function* () {
          yield { data: text };
        },
      },
    });
    const result = await runCli(["data", "get", anId("art"), "-"], { address: gateway.address });
    expect(result).toMatchObject({ code: 0, stdout: "plain text\n" });
  });

  test("refuses content that is not what its checksum says, and leaves nothing", async () => {
    gateway = await startGateway({
      artifacts: {
        ...downloads(),
        getArtifact: async ({ name }) => ({
          name,
          displayName: "x",
          sizeBytes: BigInt(content.length),
          sha256: "0".repeat(64),
        }),
      },
    });
    const result = await runCli(["data", "get", anId("art"), join(folder, "out.bin")], {
      address: gateway.address,
    });
    expect(result.code).toBe(74);
    expect(result.stderr).toContain("arrived damaged");
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("task result", () => {
  const withFiles = (paths: string[]): Script => ({
    artifacts: downloads(),
    tasks: {
      getTask: async ({ name }) =>
        aTask(gateway, {
          name,
          state: TaskState.SUCCEEDED,
          exitClass: ExitClass.OK,
          result: {
            files: paths.map((path) => ({
              path,
              sizeBytes: BigInt(content.length),
              sha256,
              artifact: `${gateway.project}/artifacts/${anId("art")}`,
            })),
          },
        }),
    },
  });

  test("lists the files, and fetches them into a directory", async () => {
    gateway = await startGateway(withFiles(["model.bin", "deep/metrics.bin"]));
    const list = await runCli(["task", "result", anId("task")], { address: gateway.address });
    expect((JSON.parse(list.stdout) as { path: string }[]).map((file) => file.path)).toEqual([
      "model.bin",
      "deep/metrics.bin",
    ]);
    const fetched = await runCli(["task", "result", anId("task"), "--dir", join(folder, "out")], {
      address: gateway.address,
    });
    expect(fetched.code).toBe(0);
    expect(readFileSync(join(folder, "out/deep/metrics.bin")).equals(content)).toBe(true);
  });

  test.each(["../escape", "/tmp/escape", "a/../../escape"])(
    "writes nothing at all where a file is called %j",
    async (evil) => {
      gateway = await startGateway(withFiles(["good.bin", evil]));
      const result = await runCli(["task", "result", anId("task"), "--dir", join(folder, "out")], {
        address: gateway.address,
      });
      expect(result.code).toBe(65);
      expect(result.stderr).toContain("leads out of the directory");
      expect(existsSync(join(folder, "out"))).toBe(false);
    },
  );

  test("names the nearest file where there is none of that name", async () => {
    gateway = await startGateway(withFiles(["model.json"]));
    const result = await runCli(["task", "result", anId("task"), "modle.json"], {
      address: gateway.address,
    });
    expect(result.code).toBe(66);
    expect(result.stderr).toContain("try: model.json");
  });

  test("of a task that still runs is refused with what to do", async () => {
    gateway = await startGateway({
      tasks: { getTask: async ({ name }) => aTask(gateway, { name, state: TaskState.RUNNING }) },
    });
    const result = await runCli(["task", "result", anId("task")], { address: gateway.address });
    expect(result.code).toBe(65);
    expect(result.stderr).toContain("it is RUNNING");
    expect(result.stderr).toContain("--wait");
  });
});
