import type { EngineAddress } from "../../keeper/wire.ts";
import { type ContainerRequest, type Engine, defaultPids, insidePaths, limitOf } from "./engine.ts";
import { pullTimeoutMs, readPull } from "./failures.ts";
import { type EngineHttp, createEngineHttp, messageOf } from "./http.ts";
import { readFileSync } from "node:fs";

const api = "/v1.41";

/** Docker by its API. User namespaces are the daemon's choice there (userns-remap), not ours. */
export function createDocker(address: EngineAddress): Engine {
  const http = createEngineHttp(address.socket, () => Promise.resolve());
  let profileAsPath: boolean | undefined;
  return {
    address,
    async version() {
      const reply = await http.call("GET", `${api}/version`);
      const body = reply.body as { Version?: string };
      return `docker ${body.Version ?? "?"}`;
    },
    async create(request) {
      const path = `${api}/containers/create?name=${request.launch.name}`;
      profileAsPath ??= await isPodman(http);
      const reply = await http.call("POST", path, bodyOf(request, profileAsPath));
      const message = messageOf(reply);
      if (reply.status === 201) return { kind: "created" };
      if (reply.status === 409 || message.includes("already in use")) return { kind: "exists" };
      if (reply.status === 404 || message.includes("image not known")) {
        return { kind: "no_image", message };
      }
      return { kind: "failed", message };
    },
    async pull(image) {
      // Without a tag the engine would fetch all of them; a digest names one image by itself.
      const [, tag] = splitTag(image);
      const name = image.includes("@") || tag !== undefined ? image : `${image}:latest`;
      const path = `${api}/images/create?fromImage=${encodeURIComponent(name)}`;
      return readPull(await http.call("POST", path, undefined, AbortSignal.timeout(pullTimeoutMs)));
    },
    init: () => Promise.resolve({ kind: "done" }),
    async start(name) {
      const reply = await http.call("POST", `${api}/containers/${name}/start`);
      return reply.status < 400 ? { kind: "done" } : { kind: "failed", message: messageOf(reply) };
    },
    async inspect(name) {
      const reply = await http.call("GET", `${api}/containers/${name}/json`);
      if (reply.status === 404) return undefined;
      if (reply.status >= 400) throw new Error(messageOf(reply));
      return viewOf(reply.body);
    },
    async wait(name, signal) {
      const path = `${api}/containers/${name}/wait`;
      const reply = await http.call("POST", path, undefined, signal);
      if (reply.status >= 400) throw new Error(messageOf(reply));
      return (reply.body as { StatusCode: number }).StatusCode;
    },
    async signal(name, signal) {
      await http.call("POST", `${api}/containers/${name}/kill?signal=${signal}`);
    },
    async remove(name) {
      for (let triesLeft = 20; ; triesLeft -= 1) {
        const reply = await http.call("DELETE", `${api}/containers/${name}?force=true&v=true`);
        if (reply.status < 400 || reply.status === 404) return;
        if (triesLeft === 0) throw new Error(messageOf(reply));
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },
    async list(label) {
      const filters = encodeURIComponent(JSON.stringify({ label: [label] }));
      const reply = await http.call("GET", `${api}/containers/json?all=true&filters=${filters}`);
      if (reply.status >= 400) throw new Error(messageOf(reply));
      const containers = reply.body as { Names: string[] }[];
      return containers.flatMap((c) => c.Names.map((name) => name.replace(/^\//, "")));
    },
    async importImage(name, tar) {
      const [repository, tag = "latest"] = splitTag(name);
      const query = `fromSrc=-&repo=${encodeURIComponent(repository)}&tag=${tag}`;
      const reply = await http.upload(`${api}/images/create?${query}`, tar);
      if (reply.status >= 400) throw new Error(messageOf(reply));
    },
    readLog: (from, onLine) => readLog(http, from, onLine),
    [Symbol.dispose]: () => http.close(),
  };
}

/** `name:tag` without mistaking a registry's port for a tag. */
function splitTag(name: string): [repository: string, tag?: string] {
  const colon = name.lastIndexOf(":");
  if (colon <= name.lastIndexOf("/")) return [name];
  return [name.slice(0, colon), name.slice(colon + 1)];
}

function bodyOf(request: ContainerRequest, profileAsPath: boolean): Record<string, unknown> {
  const { launch } = request;
  const { cpuMillis, memoryMib, pids } = launch.limits;
  const memory = memoryMib * 1024 * 1024;
  return {
    Image: launch.image,
    ...(request.command.length === 0 ? {} : { Cmd: request.command }),
    Env: Object.entries(launch.env).map(([name, value]) => `${name}=${value}`),
    WorkingDir: launch.workdir ?? insidePaths.work,
    Labels: request.labels,
    HostConfig: {
      NetworkMode: launch.network,
      CapDrop: ["ALL"],
      SecurityOpt: [
        "no-new-privileges",
        `seccomp=${profileAsPath ? request.seccompPath : readFileSync(request.seccompPath, "utf8")}`,
      ],
      ReadonlyRootfs: true,
      Tmpfs: { "/tmp": "rw,nosuid,nodev,mode=1777" },
      Binds: [
        `${request.workDir}:${insidePaths.work}:rw`,
        `${request.ioDir}:${insidePaths.io}:rw`,
        ...(launch.checkpoints === undefined
          ? []
          : [`${launch.checkpoints}:${insidePaths.checkpoints}:rw`]),
      ],
      Ulimits: [
        { Name: "nofile", ...ulimitOf("Max open files") },
        { Name: "nproc", ...ulimitOf("Max processes") },
      ],
      PidsLimit: pids === 0 ? defaultPids : pids,
      ...(memory === 0 ? {} : { Memory: memory, MemorySwap: memory }),
      ...(cpuMillis === 0 ? {} : { CpuPeriod: 100_000, CpuQuota: cpuMillis * 100 }),
      ...(launch.devices.length === 0
        ? {}
        : { DeviceRequests: [{ Driver: "cdi", DeviceIDs: launch.devices }] }),
    },
  };
}

function ulimitOf(name: string): { Soft: number; Hard: number } {
  const { soft, hard } = limitOf(name);
  return { Soft: soft, Hard: hard };
}

/** Podman behind Docker's socket takes the path of a seccomp profile, Docker its content. */
async function isPodman(http: EngineHttp): Promise<boolean> {
  const reply = await http.call("GET", `${api}/version`);
  const { Components: components = [] } = reply.body as { Components?: { Name?: string }[] };
  return components.some(({ Name: name }) => name?.startsWith("Podman") === true);
}

function viewOf(body: unknown): NonNullable<Awaited<ReturnType<Engine["inspect"]>>> {
  const { Id: id, State: state } = body as {
    Id: string;
    State: { Status: string; Pid: number; ExitCode: number; OOMKilled: boolean };
  };
  const ended = ["exited", "dead", "removing", "stopped"].includes(state.Status);
  return {
    id,
    state: ended ? "ended" : state.Status === "created" ? "created" : "running",
    pid: state.Pid,
    exitCode: state.ExitCode,
    oomKilled: state.OOMKilled,
  };
}

/** Docker keeps the log itself: frames of 8 header bytes, each line with its time in front. */
async function readLog(
  http: EngineHttp,
  from: Parameters<NonNullable<Engine["readLog"]>>[0],
  onLine: (stream: "stdout" | "stderr", timeNs: bigint, data: Buffer) => void,
): Promise<void> {
  const since = `${from.sinceNs / 1_000_000_000n}`;
  const query = `follow=${from.follow}&stdout=true&stderr=true&timestamps=true&since=${since}`;
  const response = await http.stream(`${api}/containers/${from.name}/logs?${query}`, from.signal);
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of response) {
    rest = Buffer.concat([rest, chunk as Buffer]);
    while (rest.length >= 8) {
      const length = rest.readUInt32BE(4);
      if (rest.length < 8 + length) break;
      const stream = rest[0] === 2 ? "stderr" : "stdout";
      const line = parseStamped(rest.subarray(8, 8 + length));
      if (line !== undefined && line.timeNs > from.sinceNs) onLine(stream, line.timeNs, line.data);
      rest = rest.subarray(8 + length);
    }
  }
}

/** `2026-11-21T22:40:00.123456789Z text` as nanoseconds since the epoch and the text. */
export function parseStamped(bytes: Buffer): { timeNs: bigint; data: Buffer } | undefined {
  const space = bytes.indexOf(32);
  if (space === -1) return undefined;
  const match = /^(.*T\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(
    bytes.toString("latin1", 0, space),
  );
  if (match === null) return undefined;
  const seconds = Date.parse(`${match[1] ?? ""}${match[3] ?? "Z"}`);
  const fraction = BigInt((match[2] ?? "0").padEnd(9, "0"));
  return {
    timeNs: BigInt(seconds) * 1_000_000n + fraction,
    data: Buffer.from(bytes.subarray(space + 1)),
  };
}
