import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { NodeService } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { PolicyService } from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import { QueueService } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { ReservationService } from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { StatusService } from "@fastgpu/contracts/fastgpu/scheduler/v1/status_service_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { WorkerSessionService } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { answerListEvents } from "@fastgpu/events/event-log";
import { service, type BoundService } from "@fastgpu/rpc/handlers";
import { batchRunTasks } from "./api/batch-run-tasks.ts";
import { cancelTask } from "./api/cancel-task.ts";
import { connect } from "./api/connect.ts";
import { createReservation } from "./api/create-reservation.ts";
import { createTask } from "./api/create-task.ts";
import { deleteReservation } from "./api/delete-reservation.ts";
import { explainTask } from "./api/explain-task.ts";
import { getNode } from "./api/get-node.ts";
import { getQueue } from "./api/get-queue.ts";
import { getReservation } from "./api/get-reservation.ts";
import { getSchedulerStatus } from "./api/get-scheduler-status.ts";
import { getSchedulingPolicy } from "./api/get-scheduling-policy.ts";
import { getTask } from "./api/get-task.ts";
import { listAttempts } from "./api/list-attempts.ts";
import { listGpus } from "./api/list-gpus.ts";
import { listNodes } from "./api/list-nodes.ts";
import { listQueues } from "./api/list-queues.ts";
import { listReservations } from "./api/list-reservations.ts";
import { listTasks } from "./api/list-tasks.ts";
import { quoteTask } from "./api/quote-task.ts";
import { readLogs } from "./api/read-logs.ts";
import { serveLogs } from "./api/serve-logs.ts";
import { setSchedulingPolicy } from "./api/set-scheduling-policy.ts";
import { submitTask } from "./api/submit-task.ts";
import { updateQueue } from "./api/update-queue.ts";
import { updateReservation } from "./api/update-reservation.ts";
import { watchTask } from "./api/watch-task.ts";
import { whatIf } from "./api/what-if.ts";
import type { ExplainDesk } from "./explain/desk.ts";
import type { Scheduler } from "./scheduler.ts";

/** What clients and other services call. */
export function schedulerServices(s: Scheduler, desk: ExplainDesk): BoundService[] {
  const log = { core: s.core, producer: "scheduler", clock: s.clock };
  return [
    service(TaskService, {
      createTask: (request, context) => createTask(s, request, context, "DRAFT"),
      runTask: (request, context) => createTask(s, request, context, "QUEUED"),
      submitTask: (request, context) => submitTask(s, request, context),
      batchRunTasks: (request, context) => batchRunTasks(s, request, context),
      getTask: (request, context) => getTask(s, request, context),
      listTasks: (request, context) => listTasks(s, request, context),
      watchTask: (request, context) => watchTask(s, request, context),
      cancelTask: (request, context) => cancelTask(s, request, context),
      explainTask: (request, context) => explainTask(s, desk, { request, context }),
      quoteTask: (request, context) => quoteTask(s, desk, { request, context }),
      listAttempts: (request, context) => listAttempts(s, request, context),
      readLogs: (request, context) => readLogs(s, request, context),
    }),
    service(NodeService, {
      listNodes: (request) => listNodes(s, request),
      getNode: (request) => getNode(s, request),
      listGpus: (request, context) => listGpus(s, request, context),
    }),
    service(QueueService, {
      getQueue: (request, context) => getQueue(s, request, context),
      listQueues: (request) => listQueues(s, request),
      updateQueue: (request, context) => updateQueue(s, request, context),
    }),
    service(PolicyService, {
      getSchedulingPolicy: () => getSchedulingPolicy(s),
      setSchedulingPolicy: (request, context) => setSchedulingPolicy(s, request, context),
      whatIf: (request, context) => whatIf(s, desk, { request, context }),
    }),
    service(ReservationService, {
      createReservation: (request, context) => createReservation(s, request, context),
      getReservation: (request, context) => getReservation(s, request, context),
      listReservations: (request, context) => listReservations(s, request, context),
      updateReservation: (request, context) => updateReservation(s, request, context),
      deleteReservation: (request, context) => deleteReservation(s, request, context),
    }),
    service(StatusService, { getSchedulerStatus: () => getSchedulerStatus(s) }),
    service(EventLogService, {
      listEvents: (request, { principal }) => {
        const consumer =
          principal.kind === "service" ? principal.id.slice("service:".length) : undefined;
        return answerListEvents(log, request, consumer);
      },
    }),
  ];
}

/** What workers call, on a port of their own. */
export function workerServices(s: Scheduler): BoundService[] {
  return [
    service(WorkerSessionService, {
      connect: (requests, context) => connect(s, requests, context),
      serveLogs: (answers, context) => serveLogs(s, answers, context),
    }),
  ];
}
