import type { Clock } from "@fastgpu/domain/clock";
import type { HealthLimits } from "./health/gpu-health.ts";
import type { Fleet } from "./samples/fleet.ts";

/** What the handlers of monitor work with. */
export interface Monitor {
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly limits: HealthLimits;
}
