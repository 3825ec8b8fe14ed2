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
  /** Ends it. */
  stop(): Promise<void>;
}
