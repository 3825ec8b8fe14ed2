import type { ExitClass } from "@fastgpu/domain/states";
import type { StopRequest } from "../runtime/port.ts";
import type { End } from "./classify.ts";

/** Where an attempt stands on its worker. */
export type Life =
  | { readonly phase: "LEASED" }
  | {
      readonly phase: "STARTING";
      readonly stop: StopRequest | undefined;
      readonly end: End | undefined;
    }
  | { readonly phase: "RUNNING" }
  | { readonly phase: "STOPPING"; readonly delivered: boolean }
  | { readonly phase: "FINALIZING"; readonly end: End }
  | { readonly phase: "ENDED"; readonly end: End; readonly kept: Kept };

/** What storage took. */
export interface Kept {
  readonly manifestDigest: string;
  readonly logArtifact: string;
  /** Absent in what an older worker has noted. */
  readonly checkpointDigest?: string;
}

/** Nothing kept. */
export const nothingKept: Kept = { manifestDigest: "", logArtifact: "" };

/** What happens to an attempt. */
export type LifeEvent =
  | { readonly kind: "take" }
  /** Refused before anything ran: by the worker's checks or by the runtime. */
  | { readonly kind: "refused"; readonly end: End }
  | { readonly kind: "running"; readonly isolation: string }
  | { readonly kind: "stop"; readonly request: StopRequest; readonly nowBootMs: number }
  | { readonly kind: "delivered" }
  | { readonly kind: "exited"; readonly end: End }
  | { readonly kind: "kept"; readonly kept: Kept }
  | { readonly kind: "keepFailed"; readonly message: string };

/** What must be done after a step, in this order. */
export type Effect =
  | { readonly do: "report"; readonly what: "starting" | "stopping" | "finalizing" }
  | { readonly do: "reportRunning"; readonly isolation: string }
  | { readonly do: "reportEnded"; readonly end: End; readonly kept: Kept }
  | { readonly do: "start" }
  | { readonly do: "stop"; readonly request: StopRequest }
  | { readonly do: "keep"; readonly end: End };

/** A step of an attempt's life. */
export interface Step {
  readonly life: Life;
  readonly effects: readonly Effect[];
}

/**
 * LEASED → STARTING → RUNNING → STOPPING → FINALIZING → ENDED. Pure: an event that means nothing in a phase changes
 * nothing, so events may repeat and come late.
 */
export function step(life: Life, event: LifeEvent): Step {
  switch (life.phase) {
    case "LEASED":
      return stepLeased(life, event);
    case "STARTING":
      return stepStarting(life, event);
    case "RUNNING":
    case "STOPPING":
      return stepLive(life, event);
    case "FINALIZING":
      return stepFinalizing(life, event);
    case "ENDED":
      return { life, effects: [] };
  }
}

function ended(end: End, kept: Kept): Step {
  return { life: { phase: "ENDED", end, kept }, effects: [{ do: "reportEnded", end, kept }] };
}

function stepLeased(life: Life, event: LifeEvent): Step {
  if (event.kind === "take") {
    return {
      life: { phase: "STARTING", stop: undefined, end: undefined },
      effects: [{ do: "report", what: "starting" }, { do: "start" }],
    };
  }
  if (event.kind === "refused") return ended(event.end, nothingKept);
  if (event.kind === "stop") {
    return ended(stoppedBefore(event.request.reason, event.nowBootMs), nothingKept);
  }
  return { life, effects: [] };
}

/** The end of an attempt that was stopped before anything of it ran. */
function stoppedBefore(exitClass: ExitClass, goneBootMs: number): End {
  const message = "stopped before it started";
  return { exitClass, exitCode: undefined, message, goneBootMs, elements: [] };
}

function stepStarting(life: Extract<Life, { phase: "STARTING" }>, event: LifeEvent): Step {
  switch (event.kind) {
    case "stop":
      // Delivered once there is something to deliver it to.
      return { life: { ...life, stop: event.request }, effects: [] };
    case "exited":
      return { life: { ...life, end: event.end }, effects: [] };
    case "refused": {
      const { stop } = life;
      const end = stop === undefined ? event.end : { ...event.end, exitClass: stop.reason };
      return ended(end, nothingKept);
    }
    case "running": {
      const report: Effect = { do: "reportRunning", isolation: event.isolation };
      if (life.end !== undefined) return finalize(life.end, [report]);
      if (life.stop === undefined) return { life: { phase: "RUNNING" }, effects: [report] };
      return {
        life: { phase: "STOPPING", delivered: false },
        effects: [report, { do: "stop", request: life.stop }],
      };
    }
    case "take":
    case "delivered":
    case "kept":
    case "keepFailed":
      return { life, effects: [] };
  }
}

function finalize(end: End, before: readonly Effect[] = []): Step {
  return {
    life: { phase: "FINALIZING", end },
    effects: [...before, { do: "report", what: "finalizing" }, { do: "keep", end }],
  };
}

function stepLive(life: Extract<Life, { phase: "RUNNING" | "STOPPING" }>, event: LifeEvent): Step {
  if (event.kind === "exited") return finalize(event.end);
  if (event.kind === "stop") {
    const stopping: Life =
      life.phase === "STOPPING" ? life : { phase: "STOPPING", delivered: false };
    return { life: stopping, effects: [{ do: "stop", request: event.request }] };
  }
  if (event.kind === "delivered" && life.phase === "STOPPING" && !life.delivered) {
    return {
      life: { phase: "STOPPING", delivered: true },
      effects: [{ do: "report", what: "stopping" }],
    };
  }
  return { life, effects: [] };
}

function stepFinalizing(life: Extract<Life, { phase: "FINALIZING" }>, event: LifeEvent): Step {
  if (event.kind === "kept") return ended(life.end, event.kept);
  if (event.kind === "keepFailed") {
    const { end } = life;
    // Only a good end is spoilt by lost outputs; a bad one stays what it was.
    if (end.exitClass !== "ok") return ended(end, nothingKept);
    return ended({ ...end, exitClass: "output_failed", message: event.message }, nothingKept);
  }
  return { life, effects: [] };
}
