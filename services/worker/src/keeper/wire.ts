import type { RuntimeEvent, StartResult, StopRequest } from "../runtime/port.ts";

/** What a worker asks its keeper, one JSON object a line over a unix socket in a folder closed to others. */
export type KeeperRequest =
  | {
      readonly id: number;
      readonly op: "start";
      readonly name: string;
      readonly killAtBootMs: number;
    }
  | {
      readonly id: number;
      readonly op: "watch";
      readonly name: string;
      readonly killAtBootMs: number;
      readonly engine: EngineAddress;
    }
  | {
      readonly id: number;
      readonly op: "stop";
      readonly name: string;
      readonly request: StopRequest;
    }
  | { readonly id: number; readonly op: "deadlines" }
  | { readonly id: number; readonly op: "list" };

/** How to reach the container engine again. */
export interface EngineAddress {
  readonly kind: "podman" | "docker";
  readonly socket: string;
}

/** Answers, in the order in which they are ready. */
export type KeeperReply =
  | { readonly id: number; readonly ok: true; readonly result: KeeperResult }
  | { readonly id: number; readonly ok: false; readonly error: string };

export type KeeperResult =
  | { readonly kind: "start"; readonly start: StartResult }
  | { readonly kind: "stop"; readonly delivered: boolean }
  | { readonly kind: "list"; readonly live: readonly string[] }
  | { readonly kind: "done" };

/** What a keeper says on its own. */
export interface KeeperEvent {
  readonly event: RuntimeEvent;
}

/** One message as a line. */
export function encodeLine(message: KeeperRequest | KeeperReply | KeeperEvent): string {
  return `${JSON.stringify(message)}\n`;
}
