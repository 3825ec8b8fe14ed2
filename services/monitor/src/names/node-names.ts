import { NodeService } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import type { NodeId } from "@fastgpu/domain/ids";
import { startLoop } from "@fastgpu/lifecycle/loop";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import type { Logger } from "@fastgpu/telemetry/log";

/** Names of nodes for people, as the scheduler knows them. */
export interface NodeNames extends AsyncDisposable {
  /** The node's name; its id while that is not known. Asks soon for one that is new. */
  nameOf(node: NodeId): string;
}

/** Options of {@link openNodeNames}. */
export interface NodeNamesOptions {
  readonly scheduler: Channel;
  readonly log: Logger;
  readonly stop: AbortSignal;
  /** How often names are read again, in milliseconds. */
  readonly everyMs: number;
}

/** Reads names now and then, and never waits for them: figures with ids are better than none. */
export function openNodeNames(options: NodeNamesOptions): NodeNames {
  const client = createClient(NodeService, options.scheduler);
  let names = new Map<string, string>();
  let wanted = false;
  const loop = startLoop({
    name: "node names",
    ...{ log: options.log, stop: options.stop, idleMs: options.everyMs },
    backoffMs: { first: 1_000, max: 60_000 },
    step: async (stop) => {
      if (!wanted) return "idle";
      const read = new Map<string, string>();
      let pageToken = "";
      do {
        const request = { pageSize: 1_000, pageToken };
        const page = await client.listNodes(request, { signal: stop, timeoutMs: 5_000 });
        for (const { name, displayName } of page.nodes) read.set(name, displayName);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      names = read;
      return "idle";
    },
  });
  const missed = new Set<NodeId>();
  return {
    nameOf(node) {
      wanted = true;
      const name = names.get(`nodes/${node}`);
      if (name !== undefined && name !== "") return name;
      // Once for each node: one that the scheduler does not know must not make us ask at every scrape.
      if (!missed.has(node)) loop.wake();
      missed.add(node);
      return node;
    },
    [Symbol.asyncDispose]: () => loop[Symbol.asyncDispose](),
  };
}
