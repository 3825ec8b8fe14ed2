/**
 * The one entry of all experiments: `npm run bench -- NAME [flags]`.
 * Each experiment is a file of its own, loaded only when it is asked for.
 */
import { checkOutputs, UsageError } from "./flags.ts";

interface Experiment {
  readonly about: string;
  /** Its `main` answers the exit code, and throws UsageError for flags and files that cannot be used. */
  readonly load: () => Promise<{ main(args: readonly string[]): Promise<number> }>;
}

const experiments: Readonly<Record<string, Experiment>> = {
  decisions: {
    about: "placement decisions a second on one core (goal G1)",
    load: () => import("./decisions.ts"),
  },
  explain: {
    about: "CPU time of explanations along a long line, and what they say of the start",
    load: () => import("./explain.ts"),
  },
  "explain-desk": {
    about: "the longest pause of the service's thread while explanations of a long line run",
    load: () => import("./explain-desk.ts"),
  },
  idle: {
    about: "seconds from npm start to ready, and memory of the idle platform (goal G11)",
    load: () => import("./idle.ts"),
  },
  latency: {
    about: "submit to running over the bare runtime's own start (goal G4)",
    load: () => import("./latency.ts"),
  },
  ledger: {
    about: "transfers a second in the ledger, one hot account (goal G7)",
    load: () => import("./ledger.ts"),
  },
  metering: {
    about: "usage records rated and charged a second (goal G6)",
    load: () => import("./metering.ts"),
  },
  philly: {
    about: "waiting and fairness of queue policies on a Philly-format trace (goal G3)",
    load: () => import("./philly.ts"),
  },
  memory: {
    about: "memory of queued tasks by the million (goal G9)",
    load: () => import("./memory.ts"),
  },
  pipeline: {
    about: "durable submit to complete a second, beside floors and peers (goal G5)",
    load: () => import("./pipeline.ts"),
  },
  placement: {
    about: "GPU allocation on openb-format traces, by policy (goal G2)",
    load: () => import("./placement.ts"),
  },
  plan: {
    about: "CPU time of one plan of the scheduler's cycle on a full fleet",
    load: () => import("./plan.ts"),
  },
  recording: {
    about: "bytes and CPU time of recording the scheduling cycle, and its replay",
    load: () => import("./recording.ts"),
  },
};

/** Edit distance of two names, for the nearest suggestion. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function usage(): string {
  const width = Math.max(...Object.keys(experiments).map((name) => name.length));
  const lines = Object.entries(experiments).map(
    ([name, experiment]) => `  ${name.padEnd(width)}  ${experiment.about}`,
  );
  return `usage: npm run bench -- NAME [flags]   (NAME --help lists its flags)\n\n${lines.join("\n")}\n`;
}

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h") {
    process.stdout.write(usage());
    return name === undefined ? 2 : 0;
  }
  const experiment = Object.hasOwn(experiments, name) ? experiments[name] : undefined;
  if (experiment === undefined) {
    const nearest = Object.keys(experiments).toSorted(
      (a, b) => distance(name, a) - distance(name, b),
    )[0];
    process.stderr.write(
      `error: there is no experiment "${name}"\ntry: npm run bench -- ${nearest}\n\n${usage()}`,
    );
    return 2;
  }
  try {
    await checkOutputs(rest);
    return await (await experiment.load()).main(rest);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`error: ${error.message}\ntry: npm run bench -- ${name} --help\n`);
    return 2;
  }
}

process.exitCode = await main(process.argv.slice(2));
