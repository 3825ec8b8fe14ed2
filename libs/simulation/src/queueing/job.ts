/** A job of a trace: what the simulated world knows of it. The policy never sees the duration. */
export interface SimJob {
  readonly submitMs: number;
  /** Run time on its GPUs without any interruption. */
  readonly durationMs: number;
  readonly gpus: number;
  readonly tenant: string;
}

/** What became of a job. */
export interface JobOutcome {
  readonly endMs: number;
  readonly firstStartMs: number;
  readonly preemptions: number;
}
