import { chmodSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createKeeperClient } from "../src/keeper/client.ts";
import { openEngine } from "../src/runtime/container/open.ts";
import { createContainerRuntime } from "../src/runtime/container/runtime.ts";
import { address, busyboxTar, image, skipReason } from "./container-image.ts";
import { farAhead, launchOf, makeFiles, makeProcessRuntime, observe } from "./harness.ts";

const script =
  'n=$(cat "$FASTGPU_CHECKPOINT_DIR/n" || echo 0); echo $((n+1)) > "$FASTGPU_CHECKPOINT_DIR/n"';
const command = ["/bin/sh", "-c", script];

test("attempts of one task as processes find what the one before left, elements each their own", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const checkpoints = join(t.files.checkpoints, "task-a");
  mkdirSync(checkpoints, { recursive: true });
  for (const name of ["att-a", "att-b"]) {
    await runtime.start(launchOf(name, command, { checkpoints }), farAhead());
    expect((await t.exit(name)).exitCode).toBe(0);
  }
  expect(readFileSync(join(checkpoints, "n"), "utf8")).toBe("2\n");
  for (const name of ["att-c", "att-d"]) {
    const array = { ranges: [[3, 6]] as const, slots: 2 };
    await runtime.start(launchOf(name, command, { checkpoints, array }), farAhead());
    expect((await t.exit(name)).exitCode).toBe(0);
  }
  const counts = [3, 4, 5].map((i) => readFileSync(join(checkpoints, String(i), "n"), "utf8"));
  expect(counts).toEqual(["2\n", "2\n", "2\n"]);
});

test("a task that names a place of its own keeps it, and none is offered where there is none", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const own = join(t.files.root, "own");
  mkdirSync(own);
  const env = { PATH: "/usr/bin:/bin", FASTGPU_CHECKPOINT_DIR: own };
  await runtime.start(launchOf("att-a", command, { env }), farAhead());
  await t.exit("att-a");
  expect(existsSync(join(own, "n"))).toBe(true);
  await runtime.start(
    launchOf("att-b", ["/bin/sh", "-c", '[ -z "${FASTGPU_CHECKPOINT_DIR+x}" ]']),
    farAhead(),
  );
  expect((await t.exit("att-b")).exitCode).toBe(0);
});

describe.skipIf(skipReason !== undefined)("in containers", () => {
  test("attempts of one task find what the one before left, elements each their own", async () => {
    const files = makeFiles();
    const keeper = createKeeperClient({ files, idleMs: 1_000 });
    if (address === undefined) throw new Error("no engine");
    const engine = openEngine(address);
    await engine.importImage(image, busyboxTar());
    const t = observe(files, keeper, createContainerRuntime({ files, keeper, engine }));
    await using runtime = t.runtime;
    const checkpoints = join(files.checkpoints, "task-a");
    mkdirSync(checkpoints, { recursive: true });
    chmodSync(checkpoints, 0o777);
    const run = async (name: string, elements: boolean): Promise<void> => {
      const array = elements ? { ranges: [[3, 5]] as const, slots: 1 } : undefined;
      await runtime.start(launchOf(name, command, { image, checkpoints, array }), farAhead());
      expect((await t.exit(name)).exitCode).toBe(0);
      await runtime.remove(name);
    };
    for (const [n, elements] of [false, false, true, true].entries()) {
      await run(`att-checkpoint${process.pid}n${n}`, elements);
    }
    const left = ["n", "3/n", "4/n"].map((path) => readFileSync(join(checkpoints, path), "utf8"));
    expect(left).toEqual(["2\n", "2\n", "2\n"]);
  });
});
