import { randomBytes } from "node:crypto";
import type { Bus } from "@fastgpu/events/bus";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import type { NatsBusOptions } from "@fastgpu/events/nats-bus";
import { quiet } from "./log.ts";
import { testNatsServer } from "./servers.ts";

/** Options for `openNatsBus`. */
export type TestNats = Required<Pick<NatsBusOptions, "url" | "prefix" | "streamBytes">>;

/** A place of its own on the run's nats-server: subjects and stream with a prefix nobody else has. */
export async function testNats(): Promise<TestNats> {
  const prefix = `t${randomBytes(6).toString("hex")}`;
  return { url: await testNatsServer(), prefix, streamBytes: 16 * 1024 * 1024 };
}

/** A connected bus over the run's nats-server. */
export async function testBus(): Promise<Bus> {
  const bus = openNatsBus({ ...(await testNats()), name: "test", log: quiet });
  await bus.connected();
  return bus;
}
