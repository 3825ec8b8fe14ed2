import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binarySize } from "../output/values.ts";
import { exampleFolder } from "../run/example-folder.ts";
import type { Check } from "./check.ts";

const BUILD_LIMIT_MS = 120_000;
const RUN_LIMIT_MS = 60_000;

/** Checks of the GPUs: the driver, each device, and a computation whose result is compared with the CPU's. */
export async function checkGpus(library?: string): Promise<Check[]> {
  const { openNvml } = await import("@fastgpu/worker/gpu/nvml");
  using inventory = await openNvml(library);
  if (inventory === undefined || inventory.devices.length === 0) {
    return [
      checkDriver(),
      {
        name: "gpus",
        status: "warning",
        detail:
          inventory === undefined ? "NVML (libnvidia-ml.so.1) is not found" : "NVML lists none",
        hint: "fastgpu start simulates two; a worker alone never simulates unasked",
      },
    ];
  }
  const devices = inventory.devices.map((device): Check => {
    const { temperatureCelsius, powerWatts, memoryUsedMib } = inventory.read(device.index);
    const figures = [
      binarySize(BigInt(device.memoryMib) * 1_048_576n),
      memoryUsedMib === undefined ? "" : `${memoryUsedMib} MiB used`,
      temperatureCelsius === undefined ? "" : `${temperatureCelsius} °C`,
      powerWatts === undefined ? "" : `${Math.round(powerWatts)} W`,
      device.uuid,
    ];
    return {
      name: `gpu ${device.index}`,
      status: "ok",
      detail: [device.model, ...figures.filter(Boolean)].join(", "),
    };
  });
  return [checkDriver(), ...devices, computeOnGpu()];
}

function checkDriver(): Check {
  const name = "driver";
  try {
    const version = /Kernel Module(?: for \S+)? +([\d.]+)/.exec(
      readFileSync("/proc/driver/nvidia/version", "utf8"),
    )?.[1];
    return { name, status: "ok", detail: `NVIDIA ${version ?? "of unknown version"}` };
  } catch {
    return { name, status: "warning", detail: "no NVIDIA kernel driver is loaded" };
  }
}

/** Runs the CUDA example: the ready-made one of a bundle, else one built here where nvcc is found. */
function computeOnGpu(): Check {
  const name = "computation";
  const folder = exampleFolder("cuda");
  if (folder === undefined)
    return { name, status: "warning", detail: "the CUDA example is not part of this installation" };
  const ready = join(folder, "bin", "fastgpu-cuda-example");
  if (existsSync(ready)) return runExample(ready);
  const build = mkdtempSync(join(tmpdir(), "fastgpu-doctor-"));
  try {
    const made = spawnSync("make", ["-s", "-C", folder, `BUILD=${build}`], {
      encoding: "utf8",
      timeout: BUILD_LIMIT_MS,
    });
    if (made.status === 0) return runExample(join(build, "fastgpu-cuda-example"));
    const why = made.error?.message ?? made.stderr.trim().split("\n")[0] ?? "";
    return {
      name,
      status: "warning",
      detail: `not checked: ${why}`,
      hint: "install the CUDA toolkit to check a computation",
    };
  } finally {
    rmSync(build, { recursive: true, force: true });
  }
}

function runExample(program: string): Check {
  const name = "computation";
  const { status, stdout, stderr, error } = spawnSync(program, [], {
    encoding: "utf8",
    timeout: RUN_LIMIT_MS,
  });
  const lines =
    stdout
      ?.trim()
      .split("\n")
      .map((line) => line.replaceAll(/ +/g, " ")) ?? [];
  if (status === 0) return { name, status: "ok", detail: lines.slice(1).join("; ") };
  const why = error?.message ?? (stderr.trim() || lines.at(-1) || `exit code ${status}`);
  return { name, status: "failed", detail: why };
}
