import type { EngineReply } from "./http.ts";
import type { PullResult } from "./engine.ts";

/** How long a pull may take, in milliseconds. */
export const pullTimeoutMs = 1_800_000;

const commandFaults =
  /command that was not found|executable file .*not found|exec: "[^"]*": (?:stat |permission denied|is a directory)|exec format error|open executable: permission denied|attempted to invoke a command/i;

/** Whether an engine's words about a failed start blame the task's own command: no other try would go better. */
export function blamesCommand(message: string): boolean {
  return commandFaults.test(message);
}

const unknownImage =
  /manifest unknown|name unknown|image not known|does not exist|not found|unauthorized|authentication required|denied|invalid reference|invalid (?:image )?name|parsing reference|did not resolve to an alias|no unqualified-search|short-name/i;

/** Whether the image can only be on this machine: a name of no registry. */
export function isLocalName(image: string): boolean {
  return image.startsWith("localhost/") || /^(?:sha256:)?[0-9a-f]{64}$/.test(image);
}

/**
 * What an engine's answer to a pull means. Both engines answer 200 and tell of failures in a line of the stream. A
 * registry that says no is final; one that does not answer may do so later.
 */
export function readPull(reply: EngineReply): PullResult {
  const error = errorOf(reply);
  if (error === undefined) return { kind: "done" };
  return { kind: unknownImage.test(error) ? "unknown" : "unreachable", message: error };
}

function errorOf({ status, body }: EngineReply): string | undefined {
  const lines = typeof body === "string" ? body.split("\n").map(parseLine) : [body];
  for (const line of lines) {
    if (typeof line !== "object" || line === null) continue;
    if ("error" in line && typeof line.error === "string" && line.error !== "") return line.error;
    if (status >= 400 && "message" in line) return String(line.message);
    if (status >= 400 && "cause" in line) return String(line.cause);
  }
  if (status < 400) return undefined;
  return typeof body === "string" && body !== "" ? body : `status ${status}`;
}

function parseLine(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
