import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { checkGpus } from "./gpu.ts";
import { checkMachine } from "./machine.ts";
import { portHolder } from "./port-holder.ts";

test("a taken port names its holder, a free one nobody", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const holder = await portHolder(port);
  expect(holder).toContain(process.argv0);
  expect(holder).toContain(`(pid ${process.pid})`);
  await new Promise((resolve) => server.close(resolve));
  expect(await portHolder(port)).toBeUndefined();
});

test("a data directory that cannot be made is in the way", async () => {
  const checks = await checkMachine("/proc/fastgpu");
  expect(checks.find(({ name }) => name === "data directory")).toMatchObject({ status: "failed" });
  expect(checks.find(({ name }) => name === "system")).toMatchObject({ status: "ok" });
});

test("without NVML the GPUs are said to be missing, and nothing is computed", async () => {
  const checks = await checkGpus("libfastgpu-no-such-library.so");
  expect(checks.map(({ name }) => name)).toEqual(["driver", "gpus"]);
  expect(checks[1]).toMatchObject({
    status: "warning",
    detail: "NVML (libnvidia-ml.so.1) is not found",
  });
});
