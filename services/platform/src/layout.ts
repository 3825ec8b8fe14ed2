import { join } from "node:path";
import type { ServiceUrls } from "@fastgpu/postgres/provision";
import type { DataDir } from "./data-dir.ts";
import type { databaseServices } from "./data-dir.ts";
import type { Sections } from "./settings.ts";

/** Ports of a platform; 0 is any free one. */
export interface Ports {
  readonly gateway: number;
  readonly workers: number;
  readonly metrics: number;
}

/** The ports that everybody knows. */
export const defaultPorts: Ports = { gateway: 7600, workers: 7601, metrics: 7602 };

/** What is known once database and broker run. */
export interface Backing {
  readonly data: DataDir;
  readonly urls: Readonly<Record<string, ServiceUrls>>;
  readonly natsUrl: string;
  readonly ports: Ports;
}

/** The unix socket of a service. */
export function socketOf(data: DataDir, service: string): string {
  return join(data.sockets, `${service}.sock`);
}

/** The configuration of a platform on one machine: services on unix sockets, the public ports on loopback. */
export function composedSections(backing: Backing): Sections {
  const { data, natsUrl, ports } = backing;
  const address = (service: string): string => `unix:${socketOf(data, service)}`;
  const common = (service: string) => ({
    listen: { path: socketOf(data, service) },
    natsUrl,
    serviceKeys: data.publicKeys,
    privateKeyPem: data.privateKeys[service],
  });
  const stored = (service: (typeof databaseServices)[number]) => {
    const urls = backing.urls[service];
    return {
      ...common(service),
      database: { api: urls?.api, core: urls?.core },
      masterKeyFile: data.masterKeyFile,
    };
  };
  const producers = { scheduler: address("scheduler"), auth: address("auth") };
  return {
    auth: {
      ...stored("auth"),
      producers: {
        scheduler: producers.scheduler,
        billing: address("billing"),
        storage: address("storage"),
      },
      auditWitnessFile: join(data.path, "keys", "audit-witness.log"),
    },
    storage: {
      ...stored("storage"),
      ...producers,
      directory: join(data.path, "storage"),
    },
    billing: { ...stored("billing"), auth: producers.auth, producers },
    monitor: {
      ...common("monitor"),
      auth: producers.auth,
      scheduler: producers.scheduler,
      metrics: { host: "127.0.0.1", port: ports.metrics },
    },
    scheduler: {
      ...stored("scheduler"),
      workerListen: { host: "127.0.0.1", port: ports.workers },
      auth: producers.auth,
      billing: address("billing"),
      storage: address("storage"),
      policyFile: join(data.path, "policy.yaml"),
      recordingDirectory: join(data.path, "recordings"),
    },
    gateway: {
      port: ports.gateway,
      upstreams: {
        auth: producers.auth,
        scheduler: producers.scheduler,
        billing: address("billing"),
        monitor: address("monitor"),
        storage: address("storage"),
      },
    },
  };
}
