import type { ProjectId } from "@fastgpu/domain/ids";

/** What a platform of an experiment is started with. */
export interface PlatformSetting {
  readonly directory: string;
  readonly ports: { readonly gateway: number; readonly workers: number; readonly metrics: number };
  /** Runtimes of its workers: `noop` or `process`, … */
  readonly runtime: string;
  readonly gpus: number;
  readonly workers: number;
  readonly split: boolean;
  /** CPU that each worker claims to have, in thousandths of a core; undefined = what is there. */
  readonly cpuMillis?: number | undefined;
}

/** What such a platform tells once it is ready. */
export interface StartedPlatform {
  /** host:port of the gateway. */
  readonly address: string;
  /** Folder of the services' unix sockets. */
  readonly sockets: string;
  /** At the first start only. */
  readonly firstKey: string | undefined;
  readonly project: ProjectId;
  readonly auditorUrl: string;
  /** Superuser's URL of its database server. */
  readonly adminUrl: string;
  /** Processes of split services, the database and the broker. */
  readonly pids: readonly number[];
}
