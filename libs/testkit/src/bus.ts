import { randomBytes } from "node:crypto";
import type { Bus } from "@fastgpu/events/bus";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { quiet } from "./log.ts";
import { testNatsServer } from "./servers.ts";

/** A place of its own on the run's nats-server: subjects and stream with a prefix nobody else has. */
export async function testNats(): Promise<{ readonly url: string; readonly prefix: string }> {
  return { url: await testNatsServer(), prefix: `t${randomBytes(6).toString("hex")}` };
}

/** A connected bus over the run's nats-server. */
export async function testBus(): Promise<Bus> {
  const bus = openNatsBus({ ...(await testNats()), name: "test", log: quiet });
  await bus.connected();
  return bus;
}
