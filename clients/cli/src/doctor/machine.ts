import { accessSync, constants, existsSync, statfsSync } from "node:fs";
import { availableParallelism, freemem, totalmem, userInfo } from "node:os";
import { dirname, resolve } from "node:path";
import { spawnSync } from "node:child_process";
import { binarySize } from "../output/values.ts";
import type { Check } from "./check.ts";
import { portHolder } from "./port-holder.ts";

const MIB = 1024 * 1024;
/** The whole platform idles below this; tasks come on top. */
const NEEDED_MEMORY = 400 * MIB;
const NEEDED_DISK = 1024 * MIB;
const LOW_DISK = 5 * 1024 * MIB;
/** Gateway, workers' port and metrics. */
const PORTS = [7600, 7601, 7602];

/** Checks of what every part needs, GPUs aside. */
export async function checkMachine(dataDir: string): Promise<Check[]> {
  return [
    checkSystem(),
    checkMemory(),
    checkDisk(dataDir),
    ...(await Promise.all(PORTS.map(checkPort))),
    checkUser(),
    checkEngine(),
    await checkSandbox(),
  ];
}

/** What keeps process tasks apart here, found by trying it. */
async function checkSandbox(): Promise<Check> {
  const name = "process tasks";
  const { probeMachine } = await import("@fastgpu/worker/probe");
  const { processes, isolation, limits } = await probeMachine();
  if (!processes) {
    return {
      name,
      status: "warning",
      detail: "cannot be kept apart on this machine",
      hint: "install util-linux (setpriv, prlimit, unshare)",
    };
  }
  const parts = [
    `namespaces: ${isolation.join(", ") || "none"}`,
    `enforced by control groups: ${limits.join(", ") || "nothing"}`,
  ];
  return { name, status: isolation.length > 0 ? "ok" : "warning", detail: parts.join("; ") };
}

function checkSystem(): Check {
  const detail = `${process.platform} ${process.arch}, ${availableParallelism()} cores, Node ${process.versions.node}`;
  if (process.platform === "linux") return { name: "system", status: "ok", detail };
  return {
    name: "system",
    status: "failed",
    detail,
    hint: "workers and the platform run on Linux",
  };
}

function checkMemory(): Check {
  const detail = `${binarySize(freemem())} free of ${binarySize(totalmem())}`;
  if (freemem() >= NEEDED_MEMORY) return { name: "memory", status: "ok", detail };
  return {
    name: "memory",
    status: "warning",
    detail,
    hint: `the platform wants ${binarySize(NEEDED_MEMORY)}`,
  };
}

function checkDisk(dataDir: string): Check {
  const name = "data directory";
  const place = nearestExisting(resolve(dataDir));
  try {
    accessSync(place, constants.W_OK);
  } catch {
    return {
      name,
      status: "failed",
      detail: `${place} cannot be written`,
      hint: "--data DIR names another one",
    };
  }
  const { bavail, bsize } = statfsSync(place);
  const free = bavail * bsize;
  const detail = `${dataDir}, ${binarySize(free)} free`;
  if (free < NEEDED_DISK)
    return { name, status: "failed", detail, hint: `${binarySize(NEEDED_DISK)} are needed` };
  if (free < LOW_DISK)
    return { name, status: "warning", detail, hint: "images and outputs will need more" };
  return { name, status: "ok", detail };
}

function nearestExisting(path: string): string {
  return existsSync(path) || path === dirname(path) ? path : nearestExisting(dirname(path));
}

async function checkPort(port: number): Promise<Check> {
  const name = `port ${port}`;
  const holder = await portHolder(port);
  if (holder === undefined) return { name, status: "ok", detail: "free" };
  return {
    name,
    status: "warning",
    detail: `held by ${holder}`,
    hint: "fine where that is FastGPU itself; else stop it or set another port in fastgpu.yaml",
  };
}

function checkUser(): Check {
  const { uid, username } = userInfo();
  const detail = uid === 0 ? "root" : username;
  return {
    name: "user",
    status: "ok",
    detail: `${detail}: ${uid === 0 ? "limits by cgroup and container hardening are available" : "works; some limits of process tasks need root"}`,
  };
}

function checkEngine(): Check {
  const name = "container engine";
  for (const engine of ["podman", "docker"]) {
    const { status, stdout } = spawnSync(engine, ["--version"], {
      encoding: "utf8",
      timeout: 10_000,
    });
    if (status === 0) return { name, status: "ok", detail: stdout.trim() };
  }
  return {
    name,
    status: "warning",
    detail: "neither podman nor docker is found: tasks with an image do not run here, processes do",
    hint: "apt-get install podman",
  };
}
