import type { ServiceContext } from "@fastgpu/lifecycle/service";
import type { z } from "zod";

/** A service as the composition root runs it: its schema, and its main loaded when it is wanted. */
export interface ServiceEntry {
  readonly schema: () => Promise<z.ZodObject>;
  readonly main: () => Promise<(config: never, context: ServiceContext) => Promise<void>>;
  /** Whether its clock follows the database. */
  readonly database: boolean;
}

/** Every service, in the order in which they start. */
export const services = {
  auth: {
    schema: async () => (await import("../../auth/src/config.ts")).authConfig,
    main: async () => (await import("../../auth/src/main.ts")).main,
    database: true,
  },
  storage: {
    schema: async () => (await import("../../storage/src/config.ts")).storageConfig,
    main: async () => (await import("../../storage/src/main.ts")).main,
    database: true,
  },
  billing: {
    schema: async () => (await import("../../billing/src/config.ts")).billingConfig,
    main: async () => (await import("../../billing/src/main.ts")).main,
    database: true,
  },
  monitor: {
    schema: async () => (await import("../../monitor/src/config.ts")).monitorConfig,
    main: async () => (await import("../../monitor/src/main.ts")).main,
    database: false,
  },
  scheduler: {
    schema: async () => (await import("../../scheduler/src/config.ts")).schedulerConfig,
    main: async () => (await import("../../scheduler/src/main.ts")).main,
    database: true,
  },
  gateway: {
    schema: async () => (await import("../../gateway/src/config.ts")).gatewayConfig,
    main: async () => (await import("../../gateway/src/main.ts")).main,
    database: false,
  },
  worker: {
    schema: async () => (await import("../../worker/src/config.ts")).workerConfig,
    main: async () => (await import("../../worker/src/main.ts")).main,
    database: false,
  },
} as const satisfies Record<string, ServiceEntry>;

export type ServiceName = keyof typeof services;

/** Names in the order of starting. */
export const serviceNames = Object.keys(services) as ServiceName[];

/** Whether text names a service. */
export function isServiceName(text: string): text is ServiceName {
  return text in services;
}
