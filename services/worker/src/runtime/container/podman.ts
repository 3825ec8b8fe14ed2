import type { EngineAddress } from "../../keeper/wire.ts";
import {
  type ContainerRequest,
  type CreateResult,
  type Engine,
  defaultPids,
  insidePaths,
  limitOf,
  userNamespace,
} from "./engine.ts";
import { pullTimeoutMs, readPull } from "./failures.ts";
import { type EngineHttp, createEngineHttp, messageOf } from "./http.ts";
import { ensurePodmanService } from "./service.ts";

const api = "/v4.0.0/libpod";

/** Podman by its own API: the Docker-compatible one drops device requests silently. */
export function createPodman(address: EngineAddress): Engine {
  let rootless: boolean | undefined;
  const http = createEngineHttp(address.socket, () => ensurePodmanService(address.socket));
  const act = async (
    name: string,
    verb: string,
  ): Promise<{ kind: "done" } | { kind: "failed"; message: string }> => {
    const reply = await http.call("POST", `${api}/containers/${name}/${verb}`);
    // 304: already in that state.
    return reply.status < 400 ? { kind: "done" } : { kind: "failed", message: messageOf(reply) };
  };
  return {
    address,
    readLog: undefined,
    async version() {
      const reply = await http.call("GET", `${api}/version`);
      const body = reply.body as { Version?: string };
      return `podman ${body.Version ?? "?"}`;
    },
    async create(request) {
      rootless ??= await isRootless(http);
      return create(http, specOf(request, rootless));
    },
    async pull(image) {
      const path = `${api}/images/pull?reference=${encodeURIComponent(image)}`;
      return readPull(await http.call("POST", path, undefined, AbortSignal.timeout(pullTimeoutMs)));
    },
    init: (name) => act(name, "init"),
    start: (name) => act(name, "start"),
    async inspect(name) {
      const reply = await http.call("GET", `${api}/containers/${name}/json`);
      if (reply.status === 404) return undefined;
      if (reply.status >= 400) throw new Error(messageOf(reply));
      return viewOf(reply.body);
    },
    async wait(name, signal) {
      const path = `${api}/containers/${name}/wait?condition=exited&condition=stopped`;
      const reply = await http.call("POST", path, undefined, signal);
      if (reply.status >= 400) throw new Error(messageOf(reply));
      return Number(reply.body);
    },
    async signal(name, signal) {
      await http.call("POST", `${api}/containers/${name}/kill?signal=${signal}`);
    },
    remove: (name) => remove(http, name),
    async list(label) {
      const filters = encodeURIComponent(JSON.stringify({ label: [label] }));
      const reply = await http.call("GET", `${api}/containers/json?all=true&filters=${filters}`);
      if (reply.status >= 400) throw new Error(messageOf(reply));
      return (reply.body as { Names: string[] }[]).flatMap((c) => c.Names);
    },
    async importImage(name, tar) {
      const reference = encodeURIComponent(name);
      const reply = await http.upload(`${api}/images/import?reference=${reference}`, tar);
      if (reply.status >= 400) throw new Error(messageOf(reply));
    },
    [Symbol.dispose]: () => http.close(),
  };
}

const hookVariables = [
  "LD_PRELOAD",
  "LD_AUDIT",
  "CUDA_MPS_PIPE_DIRECTORY",
  "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
  "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT",
  "NVIDIA_VISIBLE_DEVICES",
  "NVIDIA_GPU_MEMORY_LIMIT",
];

/** An ordinary user's podman: root inside is that user outside, by a user namespace that is there already. */
async function isRootless(http: EngineHttp): Promise<boolean> {
  const reply = await http.call("GET", `${api}/info`);
  const body = reply.body as { host?: { security?: { rootless?: boolean } } };
  return body.host?.security?.rootless === true;
}

async function create(http: EngineHttp, spec: Record<string, unknown>): Promise<CreateResult> {
  const reply = await http.call("POST", `${api}/containers/create`, spec);
  if (reply.status === 201) return { kind: "created" };
  const message = messageOf(reply);
  // Podman 4.3 answers 500 to both; later ones 409 and 404.
  if (reply.status === 409 || message.includes("already in use")) return { kind: "exists" };
  if (reply.status === 404 || message.includes("image not known")) {
    return { kind: "no_image", message };
  }
  return { kind: "failed", message };
}

/** The hardened container of one attempt. */
function specOf(request: ContainerRequest, rootless: boolean): Record<string, unknown> {
  const { launch } = request;
  const { cpuMillis, memoryMib, pids } = launch.limits;
  const memory = memoryMib * 1024 * 1024;
  const map = [{ container_id: 0, host_id: userNamespace.hostId, size: userNamespace.size }];
  const mountOptions = ["rbind", "rw", "nosuid", "nodev"];
  return {
    name: launch.name,
    image: launch.image,
    ...(request.command.length === 0 ? {} : { command: request.command }),
    env: launch.env,
    // Hooks for devices run as the host's root and read the container's environment: not the image's words there.
    ...(launch.devices.length === 0 ? {} : { unsetenv: hookVariables }),
    work_dir: launch.workdir ?? insidePaths.work,
    labels: request.labels,
    netns: { nsmode: launch.network === "host" ? "host" : "none" },
    ipcns: { nsmode: "private" },
    no_new_privileges: true,
    cap_drop: ["ALL"],
    read_only_filesystem: true,
    seccomp_profile_path: request.seccompPath,
    ...(rootless
      ? {}
      : { userns: { nsmode: "private" }, idmappings: { UIDMap: map, GIDMap: map } }),
    mounts: [
      { destination: "/tmp", type: "tmpfs", options: ["nosuid", "nodev", "mode=1777"] },
      {
        destination: insidePaths.work,
        type: "bind",
        source: request.workDir,
        options: mountOptions,
      },
      { destination: insidePaths.io, type: "bind", source: request.ioDir, options: mountOptions },
      ...(launch.checkpoints === undefined
        ? []
        : [
            {
              destination: insidePaths.checkpoints,
              type: "bind",
              source: launch.checkpoints,
              options: mountOptions,
            },
          ]),
    ],
    resource_limits: {
      pids: { limit: pids === 0 ? defaultPids : pids },
      ...(memory === 0 ? {} : { memory: { limit: memory, swap: memory } }),
      ...(cpuMillis === 0 ? {} : { cpu: { quota: cpuMillis * 100, period: 100_000 } }),
    },
    // Both must be given: the engine's defaults may exceed the hard limits of this machine.
    r_limits: [
      { type: "NOFILE", ...limitOf("Max open files") },
      { type: "NPROC", ...limitOf("Max processes") },
    ],
    devices: launch.devices.map((path) => ({ path })),
    log_configuration: { driver: "k8s-file", path: request.logPath },
  };
}

function viewOf(body: unknown): NonNullable<Awaited<ReturnType<Engine["inspect"]>>> {
  const { Id: id, State: state } = body as {
    Id: string;
    State: { Status: string; Pid: number; ExitCode: number; OOMKilled: boolean };
  };
  const ended = ["exited", "stopped", "removing", "dead"].includes(state.Status);
  const created = ["created", "configured", "initialized"].includes(state.Status);
  return {
    id,
    state: ended ? "ended" : created ? "created" : "running",
    pid: state.Pid,
    exitCode: state.ExitCode,
    oomKilled: state.OOMKilled,
  };
}

/** The engine's clean-up of an ended container may still hold its mounts: that passes. */
async function remove(http: EngineHttp, name: string): Promise<void> {
  for (let triesLeft = 20; ; triesLeft -= 1) {
    const reply = await http.call("DELETE", `${api}/containers/${name}?force=true&v=true`);
    if (reply.status < 400 || reply.status === 404) return;
    if (triesLeft === 0) throw new Error(messageOf(reply));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
