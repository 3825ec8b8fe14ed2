import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { toJson } from "@bufbuild/protobuf";
import { TaskSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { describe, expect, test } from "vitest";
import { CliError } from "../errors/cli-error.ts";
import { taskFromText } from "./from-file.ts";
import { type SpecOptions, taskFromOptions } from "./from-options.ts";

const nameOf = (collection: string, id: string): string => `projects/p/${collection}/${id}`;
const fromOptions = (options: SpecOptions, command: string[] = [], base?: string) =>
  toJson(
    TaskSchema,
    taskFromOptions(options, command, {
      base: base === undefined ? undefined : taskFromText(base, "/specs"),
      nameOf,
    }),
  );
const fromText = (text: string) => toJson(TaskSchema, taskFromText(text, "/specs"));

function refusal(build: () => unknown): CliError {
  try {
    build();
  } catch (error) {
    if (error instanceof CliError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

describe("a task from options", () => {
  test("is a process where there is no image, a container where there is one", () => {
    expect(fromOptions({ gpus: 1 }, ["nvidia-smi", "-L"])).toEqual({
      spec: { process: { command: ["nvidia-smi", "-L"] }, resources: { gpu: { count: 1 } } },
    });
    expect(fromOptions({ image: "busybox" })).toEqual({
      spec: { container: { image: "busybox" }, resources: {} },
    });
  });

  test("carries every option", () => {
    const options: SpecOptions = {
      image: "i",
      name: "n",
      env: { A: "1" },
      label: { team: "v" },
      workdir: "/w",
      gpus: 2,
      gpuModel: ["H200", "H100"],
      gpuMemory: 40_960n,
      cpu: 500n,
      memory: 512n,
      disk: 20_480n,
      array: 10_000,
      parallel: 64,
      maxRuntime: 7_200_000,
      stopGrace: 1_500,
      simulated: "forbid",
      retries: 0,
      output: ["*.json"],
      input: ["art-1:data/in.csv"],
      dependsOn: ["task-1", "task-2:ended"],
      priority: -5,
      startAfter: Date.parse("2026-05-01T08:00:00Z"),
      preemptible: true,
    };
    expect(fromOptions(options, ["python", "train.py"])).toEqual({
      displayName: "n",
      labels: { team: "v" },
      spec: {
        container: { image: "i", command: ["python", "train.py"], workingDir: "/w" },
        env: { A: "1" },
        resources: {
          gpu: { count: 2, models: ["H200", "H100"], minMemoryMib: "40960" },
          cpuMillis: "500",
          memoryMib: "512",
          diskMib: "20480",
        },
        array: { count: 10_000, parallelism: 64 },
        dependsOn: [
          { task: "projects/p/tasks/task-1", condition: "DEPENDENCY_CONDITION_SUCCEEDED" },
          { task: "projects/p/tasks/task-2", condition: "DEPENDENCY_CONDITION_ENDED" },
        ],
        retry: { maxRetries: 0 },
        maxRuntime: "7200s",
        stopGrace: "1.500s",
        simulated: "SIMULATED_POLICY_FORBID",
        outputs: ["*.json"],
        inputs: [{ artifact: "projects/p/artifacts/art-1", path: "data/in.csv" }],
        priority: -5,
        startAfter: "2026-05-01T08:00:00Z",
        preemptible: true,
      },
    });
  });

  test("naming a model means one GPU", () => {
    expect(fromOptions({ gpuModel: ["H200"] }, ["x"])).toMatchObject({
      spec: { resources: { gpu: { count: 1, models: ["H200"] } } },
    });
  });

  test("lies over the file's task: options win, maps and lists are added to", () => {
    const base =
      "display_name: old\nlabels: {a: '1'}\nspec:\n  container: {image: i, command: [x]}\n  env: {A: '1', B: '2'}\n  resources: {gpu: {count: 4}, cpu_millis: 100}\n  outputs: [a]\n";
    expect(
      fromOptions({ name: "new", gpus: 1, env: { B: "3" }, output: ["b"] }, ["y"], base),
    ).toEqual({
      displayName: "new",
      labels: { a: "1" },
      spec: {
        container: { image: "i", command: ["y"] },
        env: { A: "1", B: "3" },
        resources: { gpu: { count: 1 }, cpuMillis: "100" },
        outputs: ["a", "b"],
      },
    });
  });

  test.each([
    [{}, "there is nothing to run"],
    [{ parallel: 3 }, "--parallel without an array"],
    [{ input: ["art-1"] }, "ARTIFACT:PATH is wanted"],
    [{ dependsOn: ["task-1:done"] }, '"done" is not a condition'],
  ] as [SpecOptions, string][])("%j is refused", (options, message) => {
    const command = message.startsWith("there is nothing") ? [] : ["x"];
    expect(refusal(() => fromOptions(options, command)).message).toContain(message);
  });
});

describe("a task from a file", () => {
  test("takes names as in the .proto and as in JSON, short enum values, durations with units", () => {
    const expected = {
      spec: {
        process: { command: ["a", "3"] },
        env: { SEED: "7" },
        maxRuntime: "5400s",
        stopGrace: "0.500s",
        simulated: "SIMULATED_POLICY_FORBID",
        retry: { retryOn: ["EXIT_CLASS_OOM_GPU", "EXIT_CLASS_USER_EXIT"] },
      },
    };
    expect(
      fromText(
        "spec:\n  process: {command: [a, 3]}\n  env: {SEED: 7}\n  max_runtime: 1h30m\n  stop_grace: 500ms\n  simulated: forbid\n  retry: {retry_on: [oom-gpu, USER_EXIT]}\n",
      ),
    ).toEqual(expected);
    expect(fromText(JSON.stringify(expected))).toEqual(expected);
  });

  test("starts a process's relative directory at the file's folder and leaves a container's alone", () => {
    expect(fromText("spec: {process: {command: [x], working_dir: .}}")).toMatchObject({
      spec: { process: { workingDir: "/specs" } },
    });
    expect(fromText("spec: {container: {image: i, working_dir: app}}")).toMatchObject({
      spec: { container: { workingDir: "app" } },
    });
  });

  test.each([
    [
      "spec: {proces: {command: [x]}}",
      "spec.proces: there is no such field",
      "process instead of proces",
    ],
    ["spec: {process: {comand: [x]}}", "spec.process.comand", "command instead of comand"],
    ["spec: {simulated: forbit}", "spec.simulated", "spec.simulated: forbid"],
    ["spec: {retry: {retry_on: [everything]}}", "spec.retry.retry_on[0]", undefined],
    ["spec: {max_runtime: soon}", "spec.max_runtime", undefined],
    ["spec: 5", "spec is not understood", undefined],
    ["spec: {process: {command: x}}", "spec.process.command", undefined],
    ["spec: {env: [a]}", "spec.env", undefined],
    ["- a", "the file is not understood", undefined],
    ["a: [", "neither YAML nor JSON", undefined],
    ["spec: {resources: {gpu: {count: many}}}", "it is not a task", undefined],
    ["spec: {process: {command: [x]}, container: {image: i}}", "it is not a task", undefined],
  ])("%j is refused at the right place", (text, message, hint) => {
    const error = refusal(() => fromText(text));
    expect(error.message).toContain(message);
    expect(error.hint).toBe(hint);
    expect(error.exitCode).toBe(64);
  });
});

describe("the examples' specs", () => {
  const read = (name: string) => {
    const file = fileURLToPath(new URL(`../../../../examples/${name}/task.yaml`, import.meta.url));
    return taskFromText(readFileSync(file, "utf8"), dirname(file));
  };

  test("digits asks for one GPU, simulated or not, and runs as a process in its own folder", () => {
    const { spec } = read("digits");
    expect(spec?.resources?.gpu?.count).toBe(1);
    expect(spec?.simulated).toBe(1);
    expect(spec?.runtime.case).toBe("process");
    expect(spec?.runtime.value).toMatchObject({
      workingDir: expect.stringMatching(/^\/.*\/examples\/digits$/),
    });
  });

  test("cuda forbids simulated GPUs", () => {
    expect(read("cuda").spec).toMatchObject({ simulated: 2, resources: { gpu: { count: 1 } } });
  });
});
