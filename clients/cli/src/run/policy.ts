import { toJson } from "@bufbuild/protobuf";
import {
  PolicyOrigin,
  type SchedulingPolicy,
  SchedulingPolicySchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import { withApi } from "../api/connect.ts";
import { type CliContext, type CommonOptions, printOptions } from "../context.ts";
import { isForPeople, printOne, type View } from "../output/print.ts";
import { isoTime } from "../output/values.ts";
import { readInput } from "../parse/read-input.ts";

const origins: Readonly<Record<PolicyOrigin, string>> = {
  [PolicyOrigin.UNSPECIFIED]: "",
  [PolicyOrigin.DEFAULT]: "shipped",
  [PolicyOrigin.FILE]: "file",
  [PolicyOrigin.CALL]: "set",
};

const view: View<SchedulingPolicy> = {
  columns: [
    { header: "revision", value: (policy) => String(policy.revision), align: "right" },
    { header: "origin", value: (policy) => origins[policy.origin] ?? "" },
    { header: "by", value: (policy) => policy.updatedBy },
    { header: "changed", value: (policy) => isoTime(policy.updateTime) },
  ],
  id: (policy) => String(policy.revision),
  json: (policy) => toJson(SchedulingPolicySchema, policy),
};

/** `scheduler policy show` */
export async function showPolicy(context: CliContext, options: CommonOptions): Promise<void> {
  await withApi(context, options, async (api) => {
    await print(context, options, await api.policies.getSchedulingPolicy({}));
  });
}

/** `scheduler policy check FILE` */
export async function checkPolicy(
  context: CliContext,
  options: CommonOptions,
  file: string,
): Promise<void> {
  const source = await readInput(file);
  await withApi(context, options, async (api) => {
    await api.policies.setSchedulingPolicy({ source, sourceName: file, validateOnly: true });
  });
  context.terminal.err(`${file} is a valid policy; nothing is changed\n`);
}

/** `scheduler policy set FILE` */
export async function setPolicy(
  context: CliContext,
  options: CommonOptions & { revision?: number },
  file: string,
): Promise<void> {
  const source = await readInput(file);
  await withApi(context, options, async (api) => {
    const policy = await api.policies.setSchedulingPolicy({
      ...{ source, sourceName: file },
      expectedRevision: BigInt(options.revision ?? 0),
    });
    await print(context, options, policy);
  });
}

/** The facts as a table and the parameters below it; in other formats one object. */
async function print(
  context: CliContext,
  options: CommonOptions,
  policy: SchedulingPolicy,
): Promise<void> {
  const { terminal } = context;
  const output = printOptions(context, options);
  await printOne(output, view, policy);
  if (isForPeople(output)) {
    const { toYaml } = await import("../output/yaml.ts");
    terminal.out(`\n${toYaml(policy.effective ?? {})}`);
  }
  if (policy.fileProblem === "") return;
  terminal.err(
    `the policy file was refused at ${isoTime(policy.fileProblemTime)}, the policy before it stays:\n`,
  );
  terminal.err(`  ${policy.fileProblem}\n`);
}
