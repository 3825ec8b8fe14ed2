import { Fault } from "@fastgpu/domain/fault";
import { parsePrices } from "@fastgpu/simulation/fleet/prices";
import { engineVersion } from "../recording/engine-version.ts";
import { readSegment } from "../recording/read-segment.ts";
import { playAll, policyOf, type Simulated, type Watching } from "../simulate/run.ts";
import { Observer } from "./observed.ts";
import type { Window } from "./replay.ts";
import { scenarioOf } from "./workload.ts";

/** A question of what another policy would have brought. */
export interface WhatIf {
  readonly paths: readonly string[];
  readonly window: Window;
  /** Policy file; "default": the shipped policy. */
  readonly policy: string;
  /** Dollars a GPU-hour; see `parsePrices`. */
  readonly prices: string | undefined;
}

/**
 * Takes the load, the run times and the outages from recordings, and plays them under the policy that was in force last
 * and under another one. Both runs are simulated, so that only the policy differs. Throws a Fault where nothing of the
 * recordings can be used.
 */
export async function simulateRecording(of: WhatIf, on: Watching): Promise<Simulated> {
  const prices = parsePrices(of.prices ?? "1");
  if (prices.kind === "bad") throw Fault.invalid("prices", prices.problem);
  const other = await policyOf(of.policy);
  const observed = await observe(of);
  const { workload, nodes, faults: injected, startMs } = scenarioOf(observed);
  const recorded = observed.policies.at(-1);
  if (recorded === undefined || workload.tasks.length === 0 || nodes.length === 0) {
    throw new Fault("NOT_FOUND", "the recordings show no task on any node in that time");
  }
  const changed = observed.policies.length - 1;
  const notes =
    changed === 0
      ? workload.notes
      : [...workload.notes, `The policy changed ${changed} times; compared is the last.`];
  const scenario = {
    ...{ nodes, injected, prices: prices.prices, seed: 1 },
    workload: { ...workload, notes },
    settings: startMs === undefined ? {} : { startMs },
  };
  return await playAll(scenario, [{ name: "recorded", policy: recorded }, other], on);
}

async function observe({ paths, window }: WhatIf): Promise<Observer> {
  const engine = await engineVersion();
  const observer = new Observer();
  const refused: string[] = [];
  for (const path of paths) {
    const segment = await readSegment(path);
    if (segment.header === undefined) {
      refused.push(`${path}: ${segment.damage}`);
      continue;
    }
    if (segment.header.engine !== engine) {
      refused.push(`${path}: engine ${segment.header.engine} recorded it, this is ${engine}`);
      continue;
    }
    try {
      for (const frame of segment.frames()) {
        if ("nowMs" in frame && frame.nowMs >= window.toMs) break;
        if (!("nowMs" in frame) || frame.nowMs >= window.fromMs) observer.see(frame);
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      refused.push(`${path}: ${error.message}`);
    }
  }
  const [first] = refused;
  if (refused.length === paths.length && first !== undefined) {
    throw new Fault("ILLEGAL_STATE", `no recording can be used: ${first}`);
  }
  return observer;
}
