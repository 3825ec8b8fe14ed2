/**
 * What the command line needs of services/platform, which runs the services: the two meet in
 * `src/run/platform.ts` and nowhere else.
 */
export interface PlatformOptions {
  /** Data directory; absent: the platform's default. */
  dataDir?: string | undefined;
  /** fastgpu.yaml; absent: DATA/fastgpu.yaml where there is one. */
  configFile?: string | undefined;
  split?: boolean | undefined;
  /** Number of simulated GPUs where there is no real one. */
  gpus?: number | undefined;
  runtime?: string | undefined;
  insecure?: boolean | undefined;
  env: Readonly<Record<string, string | undefined>>;
}

/** A first key and whose it is; made once, at the first start. */
export interface FirstKey {
  key: string;
  /** `organizations/{organization}` */
  organization: string;
  /** `projects/{project}` */
  project: string;
}

/** A platform that serves. */
export interface RunningPlatform {
  /** Host and port of the gateway. */
  address: string;
  dataDir: string;
  firstKey: FirstKey | undefined;
  /** Rejects when a part of it has failed for good. */
  failed: Promise<never>;
  /** Ends it; without `stopTasks` process tasks go on under their keeper until their leases end. */
  stop(options: { stopTasks: boolean }): Promise<void>;
}
