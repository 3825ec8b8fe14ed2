import type { Logger } from "@fastgpu/telemetry/log";
import { openPool } from "./pool.ts";
import type { Pool } from "./pool.ts";
import type { ServiceUrls } from "./provision.ts";

/** A service's two pools. */
export interface Database extends AsyncDisposable {
  /** Under row-level security: handlers, each transaction narrowed by `withTenant`. */
  readonly api: Pool;
  /** Bypasses it: cycle, relay, inbox, and the batch writer after authorisation. */
  readonly core: Pool;
}

/** Opens a service's pools: at most 5 connections, made when needed. */
export function openDatabase(options: {
  readonly service: string;
  readonly urls: Pick<ServiceUrls, "api" | "core">;
  readonly log: Logger;
  /** Greatest number of connections of each pool. */
  readonly max?: { readonly api: number; readonly core: number };
}): Database {
  const max = options.max ?? { api: 2, core: 3 };
  const { service, log } = options;
  const api = openPool({ url: options.urls.api, name: `${service} api`, log, max: max.api });
  const core = openPool({ url: options.urls.core, name: `${service} core`, log, max: max.core });
  return {
    api,
    core,
    async [Symbol.asyncDispose]() {
      await Promise.all([api[Symbol.asyncDispose](), core[Symbol.asyncDispose]()]);
    },
  };
}
