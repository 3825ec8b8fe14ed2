import type { Clock } from "@fastgpu/domain/clock";
import type { NodeId, TaskId } from "@fastgpu/domain/ids";
import type { BatchWriter } from "@fastgpu/postgres/batch-writer";
import type { Pool } from "@fastgpu/postgres/pool";
import type { PageTokens } from "@fastgpu/rpc/page-token";
import type { Client } from "@fastgpu/rpc/client";
import type { ProjectService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import type { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { Logger } from "@fastgpu/telemetry/log";
import type { SchedulerConfig } from "./config.ts";
import type { LogBroker } from "./session/log-broker.ts";
import type { Sessions } from "./session/sessions.ts";
import type { Watchers } from "./session/watchers.ts";
import type { KnownModels } from "./submit/known-models.ts";
import type { KnownPrices } from "./submit/known-prices.ts";
import type { SubmitWriter } from "./submit/writer.ts";
import type { AttemptEvent } from "./transition/fold.ts";

/** What the handlers of one scheduler process share. */
export interface Scheduler {
  readonly config: SchedulerConfig;
  readonly replica: string;
  /** Raised by a restore of the database. */
  readonly incarnation: number;
  /** Under row-level security. */
  readonly api: Pool;
  /** Bypasses it: cycle, sessions, batch writers after authorisation. */
  readonly core: Pool;
  readonly clock: Clock;
  readonly log: Logger;
  readonly pageTokens: PageTokens;
  readonly sessions: Sessions;
  readonly logs: LogBroker;
  readonly watchers: Watchers;
  /** Durable tasks, many in one statement. */
  readonly submits: SubmitWriter;
  readonly models: KnownModels;
  readonly prices: KnownPrices;
  /** Durable reports, many in one transaction. */
  readonly reports: BatchWriter<readonly AttemptEvent[], void>;
  readonly billing: Client<typeof BillingService>;
  readonly projects: Client<typeof ProjectService>;
  readonly storage: Client<typeof ArtifactService>;
  /** Call after a commit: wakes the cycle, the sessions, the watchers and the relay. */
  changed(what: { tasks: Iterable<TaskId>; nodes: Iterable<NodeId> }): void;
}
