import type { Logger } from "@fastgpu/telemetry/log";
import type { Tracing } from "@fastgpu/telemetry/tracing";
import type { Clock } from "@fastgpu/domain/clock";

/** What a service gets from whoever runs it: the composition root, a test, or its own process. */
export interface ServiceContext {
  /** Aborted when the service should end; `main` then resolves after a clean shutdown. */
  readonly stop: AbortSignal;
  /** Called once, when the service answers requests. */
  ready(): void;
  readonly log: Logger;
  /** Follows the database's time; SQL takes its `$now` from here. */
  readonly clock: Clock;
  readonly tracing: Tracing;
}
