import { readFile } from "node:fs/promises";
import {
  attemptStates,
  attemptTransitions,
  taskStates,
  taskTransitions,
} from "@fastgpu/domain/states";
import { expect, test } from "vitest";

const read = (path: string): Promise<string> => readFile(new URL(path, import.meta.url), "utf8");

type Table = Readonly<Record<string, readonly string[]>>;

const pairsOf = (states: readonly string[], table: Table): string[] =>
  states.flatMap((from) => (table[from] ?? []).map((to) => `${from} → ${to}`)).toSorted();

/** The pairs of a CHECK, without those of new rows. */
async function pairsInSql(constraint: string): Promise<string[]> {
  const sql = await read("../migrations/0001_tasks.sql");
  const from = sql.indexOf(`constraint ${constraint} check`);
  const text = sql.slice(from, sql.indexOf("))\n", from));
  const pairs = [...text.matchAll(/\('([A-Z]+)', '([A-Z]+)'\)/g)];
  return pairs.map(([, before, after]) => `${before} → ${after}`).toSorted();
}

async function pairsInDocs(heading: string): Promise<string[]> {
  const text = await read("../../../docs/states.md");
  const section = text.slice(text.indexOf(`## ${heading}\n`)).split("\n## ")[0] ?? "";
  const rows = [...section.matchAll(/^\| ([A-Z]+) \| ([A-Z, ]+) \|$/gm)];
  return rows
    .flatMap(([, from, to]) => (to ?? "").split(", ").map((each) => `${from} → ${each}`))
    .toSorted();
}

test.each([
  ["Task", "task_states", taskStates, taskTransitions],
  ["Attempt", "attempt_states", attemptStates, attemptTransitions],
] as const)(
  "%s: code, SQL and docs draw the same graph (I15)",
  async (heading, constraint, states, table) => {
    const pairs = pairsOf(states, table);
    expect(await pairsInSql(constraint)).toEqual(pairs);
    expect(await pairsInDocs(heading)).toEqual(pairs);
  },
);
