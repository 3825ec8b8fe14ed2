import type { Runner } from "./define.ts";

/** `node` and `gpu`: the fleet. */
export function addFleetCommands(runner: Runner): void {
  const node = runner.group("node", "machines that run tasks");
  const listNodes = node.remote("list", "list nodes");
  listNodes.run(async () => ({ run: (await import("../run/fleet.ts")).listNodes }));
  const getNode = node.remote("get", "show a node");
  getNode.command.argument("<node>");
  getNode.run(async () => ({ run: (await import("../run/fleet.ts")).getNode }));

  const invite = node.remote(
    "invite",
    "make a token with which one worker may join, within an hour",
  );
  invite.run(async () => ({ run: (await import("../run/access.ts")).inviteWorker }));

  const gpu = runner.group("gpu", "GPUs of the fleet");
  const listGpus = gpu.remote("list", "list GPUs; simulated ones are marked");
  listGpus.command.option("--node <node>", "only GPUs of this node");
  listGpus.run(async () => ({ run: (await import("../run/fleet.ts")).listGpus }));
}
