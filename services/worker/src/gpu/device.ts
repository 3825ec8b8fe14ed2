/** A GPU as the worker announces it. */
export interface GpuDevice {
  /** Position on this node, from 0. */
  readonly index: number;
  /** The vendor's identity; made and kept by the worker for a simulated one. */
  readonly uuid: string;
  readonly model: string;
  readonly memoryMib: number;
  readonly simulated: boolean;
  /** PCI address as the kernel's log names it; undefined for simulated ones. */
  readonly pciBusId: string | undefined;
  /** Device node; undefined for simulated ones. */
  readonly devicePath: string | undefined;
}

/** Figures of one GPU at one moment; a figure that the device does not give is undefined. */
export interface GpuFigures {
  readonly utilizationPercent: number | undefined;
  readonly memoryUsedMib: number | undefined;
  readonly memoryFreeMib: number | undefined;
  readonly temperatureCelsius: number | undefined;
  readonly powerWatts: number | undefined;
  readonly smClockMhz: number | undefined;
  readonly memoryClockMhz: number | undefined;
  readonly totalEnergyMillijoules: number | undefined;
  /** The last XID error, 0 where there was none. */
  readonly xid: number | undefined;
}

/** The GPUs of a node. */
export interface GpuInventory extends Disposable {
  readonly devices: readonly GpuDevice[];
  /** Newest figures of the device at `index`. */
  read(index: number): GpuFigures;
  /** The last XID of the device at `index` and when it was seen; undefined where there was none. */
  lastXid(index: number): { readonly xid: number; readonly atBootMs: number } | undefined;
}
