import { existsSync, readFileSync, readdirSync } from "node:fs";
import type { GpuDevice, GpuFigures, GpuInventory } from "./device.ts";

/** NVML's answer for "done". */
const success = 0;
const clockSm = 1;
const clockMemory = 2;
const temperatureGpu = 0;

type Native = (...args: unknown[]) => number;

/** The few calls of NVML that a worker makes. */
interface Nvml {
  readonly shutdown: Native;
  readonly count: Native;
  readonly handle: Native;
  readonly uuid: Native;
  readonly name: Native;
  readonly memory: Native;
  readonly utilization: Native;
  readonly temperature: Native;
  readonly power: Native;
  readonly clock: Native;
  readonly energy: Native;
  readonly minor: Native;
  readonly pci: Native;
}

interface Memory {
  total: number | bigint;
  free: number | bigint;
  used: number | bigint;
}

/**
 * The NVIDIA GPUs of this machine by NVML, or undefined where its library is missing or refuses to start. The library
 * is loaded at run time: nothing of NVIDIA is needed to build or to run without GPUs.
 */
export async function openNvml(library?: string): Promise<GpuInventory | undefined> {
  // The binding alone costs memory and time at start: not where nothing of NVIDIA's is in the machine.
  if (library === undefined && !hasNvidiaHardware()) return undefined;
  const { default: koffi } = await import("koffi");
  let loaded: ReturnType<typeof koffi.load>;
  try {
    loaded = koffi.load(library ?? "libnvidia-ml.so.1");
  } catch {
    return undefined;
  }
  const init = loaded.func("int nvmlInit_v2()") as Native;
  if (init() !== success) return undefined;
  const nvml = bind(loaded, koffi);
  const devices: GpuDevice[] = [];
  const handles: unknown[] = [];
  const count = readNumber(nvml.count) ?? 0;
  for (let index = 0; index < count; index += 1) {
    const out = [null];
    if (nvml.handle(index, out) !== success) continue;
    const [handle] = out;
    handles.push(handle);
    devices.push(describe(nvml, handle, handles.length - 1));
  }
  return {
    devices,
    read: (index) => readFigures(nvml, handles[index]),
    lastXid: () => undefined,
    [Symbol.dispose]() {
      nvml.shutdown();
    },
  };
}

/** A driver, its devices, Windows' GPU bridge, or a PCI device of NVIDIA whose driver is not loaded yet. */
function hasNvidiaHardware(): boolean {
  const signs = ["/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg"];
  return signs.some((path) => existsSync(path)) || nvidiaPciDevices().length > 0;
}

function nvidiaPciDevices(): string[] {
  const bus = "/sys/bus/pci/devices";
  if (!existsSync(bus)) return [];
  return readdirSync(bus).filter((device) => {
    try {
      return readFileSync(`${bus}/${device}/vendor`, "utf8").trim() === "0x10de";
    } catch {
      return false;
    }
  });
}

function bind(
  library: ReturnType<(typeof import("koffi"))["default"]["load"]>,
  koffi: (typeof import("koffi"))["default"],
): Nvml {
  // Types are registered once a process under a name, so anonymous ones serve repeated opens.
  const memory = koffi.struct({ total: "uint64_t", free: "uint64_t", used: "uint64_t" });
  const utilization = koffi.struct({ gpu: "uint32_t", memory: "uint32_t" });
  const pci = koffi.struct({
    busIdLegacy: koffi.array("char", 16),
    domain: "uint32_t",
    bus: "uint32_t",
    device: "uint32_t",
    pciDeviceId: "uint32_t",
    pciSubSystemId: "uint32_t",
    busId: koffi.array("char", 32),
  });
  const device = "void *";
  const uint = koffi.out(koffi.pointer("uint32_t"));
  const text = koffi.out(koffi.pointer("char"));
  const call = (name: string, args: unknown[]): Native => {
    try {
      return library.func(name, "int", args as never[]) as Native;
    } catch {
      // An older driver without this call: every use answers "not found".
      return () => 13;
    }
  };
  return {
    shutdown: call("nvmlShutdown", []),
    count: call("nvmlDeviceGetCount_v2", [uint]),
    handle: call("nvmlDeviceGetHandleByIndex_v2", ["uint32_t", koffi.out(koffi.pointer("void *"))]),
    uuid: call("nvmlDeviceGetUUID", [device, text, "uint32_t"]),
    name: call("nvmlDeviceGetName", [device, text, "uint32_t"]),
    memory: call("nvmlDeviceGetMemoryInfo", [device, koffi.out(koffi.pointer(memory))]),
    utilization: call("nvmlDeviceGetUtilizationRates", [
      device,
      koffi.out(koffi.pointer(utilization)),
    ]),
    temperature: call("nvmlDeviceGetTemperature", [device, "int", uint]),
    power: call("nvmlDeviceGetPowerUsage", [device, uint]),
    clock: call("nvmlDeviceGetClockInfo", [device, "int", uint]),
    energy: call("nvmlDeviceGetTotalEnergyConsumption", [
      device,
      koffi.out(koffi.pointer("uint64_t")),
    ]),
    minor: call("nvmlDeviceGetMinorNumber", [device, uint]),
    pci: call("nvmlDeviceGetPciInfo_v3", [device, koffi.out(koffi.pointer(pci))]),
  };
}

function describe(nvml: Nvml, handle: unknown, index: number): GpuDevice {
  const memory: Memory[] = [{ total: 0, free: 0, used: 0 }];
  nvml.memory(handle, memory);
  const minor = readNumber(nvml.minor, handle);
  const path = minor === undefined ? undefined : `/dev/nvidia${minor}`;
  const pci = [{ busId: "" }];
  const hasPci = nvml.pci(handle, pci) === success;
  return {
    index,
    uuid: readText(nvml.uuid, handle, 96),
    model: readText(nvml.name, handle, 96),
    memoryMib: mibOf(memory[0]?.total ?? 0),
    simulated: false,
    pciBusId: hasPci ? cut(pci[0]?.busId) : undefined,
    devicePath: path !== undefined && existsSync(path) ? path : undefined,
  };
}

function readFigures(nvml: Nvml, handle: unknown): GpuFigures {
  const memory: Memory[] = [{ total: 0, free: 0, used: 0 }];
  const hasMemory = nvml.memory(handle, memory) === success;
  const rates = [{ gpu: 0, memory: 0 }];
  const hasRates = nvml.utilization(handle, rates) === success;
  const milliwatts = readNumber(nvml.power, handle);
  return {
    utilizationPercent: hasRates ? rates[0]?.gpu : undefined,
    memoryUsedMib: hasMemory ? mibOf(memory[0]?.used ?? 0) : undefined,
    memoryFreeMib: hasMemory ? mibOf(memory[0]?.free ?? 0) : undefined,
    temperatureCelsius: readNumber(nvml.temperature, handle, temperatureGpu),
    powerWatts: milliwatts === undefined ? undefined : milliwatts / 1_000,
    smClockMhz: readNumber(nvml.clock, handle, clockSm),
    memoryClockMhz: readNumber(nvml.clock, handle, clockMemory),
    totalEnergyMillijoules: readNumber(nvml.energy, handle),
    xid: undefined,
  };
}

/** A call whose last argument receives a number; undefined where the device does not give it. */
function readNumber(call: Native, ...args: unknown[]): number | undefined {
  const out: (number | bigint)[] = [0];
  return call(...args, out) === success ? Number(out[0]) : undefined;
}

function readText(call: Native, handle: unknown, bytes: number): string {
  const buffer = Buffer.alloc(bytes);
  return call(handle, buffer, bytes) === success ? cut(buffer.toString("latin1")) : "";
}

function cut(text: string | undefined): string {
  return (text ?? "").split("\0")[0] ?? "";
}

function mibOf(bytes: number | bigint): number {
  return Number(BigInt(bytes) / 1_048_576n);
}
