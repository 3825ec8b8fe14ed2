import type { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { parseId } from "@fastgpu/domain/ids";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import type { Billing } from "../billing.ts";
import { listUsage } from "../store/usage.ts";
import type { UsageCursor } from "../store/usage.ts";
import { usageMessage } from "./messages.ts";
import { projectOfName, taskOfName, tenantOf } from "./names.ts";

/** Lists rated usage of a project or one of its tasks: the newest attempt first, in it the newest segment first. */
export function listUsageRecords(
  billing: Billing,
): Handler<typeof BillingService.method.listUsageRecords> {
  return async (request, context) => {
    const project = projectOfName(request.parent);
    const task = request.task === "" ? undefined : taskOfName(request.task, project, "task");
    const query = [context.method, project, task ?? ""];
    const size = pageSize(request.pageSize);
    const after = readCursor(billing.pageTokens.read(query, request.pageToken));
    const rows = await transaction(billing.db.api, async (tx) => {
      await withTenant(tx, tenantOf(context, project));
      return listUsage(tx, { project, task, after, limit: size + 1 });
    });
    const page = cutPage(rows, { size, tokens: billing.pageTokens, query, cursorOf: writeCursor });
    return {
      usageRecords: page.rows.map((row) => usageMessage(project, row)),
      nextPageToken: page.nextPageToken,
    };
  };
}

function writeCursor(at: UsageCursor): string {
  return `${at.attempt} ${at.seq} ${at.member} ${at.gpu}`;
}

/** Cursors come out of tokens that we signed: one that does not parse is a bug of ours. */
function readCursor(text: string | undefined): UsageCursor | undefined {
  if (text === undefined) return undefined;
  const [attempt = "", seq, member, gpu = ""] = text.split(" ");
  const at = { attempt: parseId("att", attempt), gpu: parseId("gpu", gpu) };
  if (at.attempt === undefined || at.gpu === undefined) throw new Error(`not a cursor: ${text}`);
  return { attempt: at.attempt, gpu: at.gpu, seq: Number(seq), member: Number(member) };
}
