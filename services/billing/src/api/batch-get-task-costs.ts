import type { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { Billing } from "../billing.ts";
import { readTaskCosts } from "../store/task-costs.ts";
import { moneyMessage } from "./messages.ts";
import { projectOfName, taskName, taskOfName, tenantOf } from "./names.ts";

/** What tasks were charged so far, in the order asked. A task that billing has not heard of cost nothing yet. */
export function batchGetTaskCosts(
  billing: Billing,
): Handler<typeof BillingService.method.batchGetTaskCosts> {
  return async (request, context) => {
    const project = projectOfName(request.parent);
    const tasks = request.tasks.map((name, i) => taskOfName(name, project, `tasks[${i}]`));
    const costs = await transaction(billing.db.api, async (tx) => {
      await withTenant(tx, tenantOf(context, project));
      return readTaskCosts(tx, project, tasks);
    });
    return {
      costs: tasks.map((task) => {
        const cost = costs.get(task);
        return {
          task: taskName(project, task),
          cost: moneyMessage(cost?.chargedNanos ?? 0n),
          final: cost?.final ?? false,
        };
      }),
    };
  };
}
