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
    schema: async () => (await import("@fastgpu/auth/config")).authConfig,
    main: async () => (await import("@fastgpu/auth/main")).main,
    database: true,
  },
  storage: {
    schema: async () => (await import("@fastgpu/storage/config")).storageConfig,
    main: async () => (await import("@fastgpu/storage/main")).main,
    database: true,
  },
  billing: {
    schema: async () => (await import("@fastgpu/billing/config")).billingConfig,
    main: async () => (await import("@fastgpu/billing/main")).main,
    database: true,
  },
  monitor: {
    schema: async () => (await import("@fastgpu/monitor/config")).monitorConfig,
    main: async () => (await import("@fastgpu/monitor/main")).main,
    database: false,
  },
  scheduler: {
    schema: async () => (await import("@fastgpu/scheduler/config")).schedulerConfig,
    main: async () => (await import("@fastgpu/scheduler/main")).main,
    database: true,
  },
  gateway: {
    schema: async () => (await import("@fastgpu/gateway/config")).gatewayConfig,
    main: async () => (await import("@fastgpu/gateway/main")).main,
    database: false,
  },
  worker: {
    schema: async () => (await import("@fastgpu/worker/config")).workerConfig,
    main: async () => (await import("@fastgpu/worker/main")).main,
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
