import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { masterKeyOf } from "@fastgpu/lifecycle/master-key";
import { chainFacts, checkpointKeys, genesisHash, signCheckpoint, verifyChain } from "./chain.ts";
import type { AuditCheckpoint, AuditFact, ChainedEvent } from "./chain.ts";

const org = "org-0000000000e008000000000000";
const keys = checkpointKeys(masterKeyOf(randomBytes(32)));

const facts = (count: number): AuditFact[] =>
  Array.from({ length: count }, (_, i) => ({
    timeMs: 1_790_000_000_000 + i,
    principal: `key-${i % 3}`,
    method: "fastgpu.auth.v1.ProjectService/CreateProject",
    resource: `projects/${i}`,
    project: i % 2 === 0 ? `proj-${i}` : "",
    requestId: `r${i}`,
    deniedCalls: i % 4 === 0 ? i : 0,
  }));

function build(
  count: number,
  every = 4,
): { events: ChainedEvent[]; checkpoints: AuditCheckpoint[] } {
  const events = chainFacts({ seq: 0, hash: genesisHash(org) }, facts(count));
  const checkpoints = events
    .filter((event) => event.seq % every === 0 || event.seq === count)
    .map(({ seq, hash, timeMs }, i) =>
      signCheckpoint(org, { number: i + 1, seq, hash, timeMs }, keys.privateKey),
    );
  return { events, checkpoints };
}

const verdict = (
  events: readonly ChainedEvent[],
  checkpoints: readonly AuditCheckpoint[],
): string => verifyChain({ org, events, checkpoints, publicKey: keys.publicKey }).kind;

test("an untouched chain is intact, an empty one too", () => {
  const { events, checkpoints } = build(10);
  expect(verifyChain({ org, events, checkpoints, publicKey: keys.publicKey })).toEqual({
    kind: "intact",
    seq: 10,
    hash: events[9]?.hash,
  });
  expect(verdict([], [])).toBe("intact");
});

test("a change to any column of any row is found", () => {
  const { events, checkpoints } = build(10);
  for (const [index, event] of events.entries()) {
    for (const [column, value] of Object.entries(event)) {
      const changed = typeof value === "number" ? value + 1 : `${String(value)}x`;
      const edited = events.with(index, { ...event, [column]: changed });
      expect(verdict(edited, checkpoints), `${column} of event ${event.seq}`).toBe("broken");
    }
  }
});

test("an edit whose following hashes were all computed anew is found by the checkpoints", () => {
  const { events, checkpoints } = build(10);
  for (let index = 0; index < events.length; index += 1) {
    const forged = chainFacts(
      { seq: 0, hash: genesisHash(org) },
      events.map((event, i) =>
        i === index ? { ...event, principal: "key-somebody-else" } : event,
      ),
    );
    expect(verdict(forged, checkpoints)).toBe("broken");
  }
});

test("deletion, truncation, exchange and repetition are found", () => {
  const { events, checkpoints } = build(10);
  for (let i = 0; i < events.length; i += 1) {
    expect(verdict(events.toSpliced(i, 1), checkpoints)).toBe("broken");
    expect(verdict(events.slice(0, i), checkpoints)).toBe("broken");
    const row = events[i];
    if (row !== undefined) expect(verdict(events.toSpliced(i, 0, row), checkpoints)).toBe("broken");
    for (let j = i + 1; j < events.length; j += 1) {
      const [a, b] = [events[i], events[j]];
      if (a === undefined || b === undefined) continue;
      expect(verdict(events.with(i, b).with(j, a), checkpoints)).toBe("broken");
    }
  }
});

test("a forged, edited or missing checkpoint is found", () => {
  const { events, checkpoints } = build(10);
  const stranger = checkpointKeys(masterKeyOf(randomBytes(32)));
  for (const [index, checkpoint] of checkpoints.entries()) {
    if (index < checkpoints.length - 1) {
      expect(verdict(events, checkpoints.toSpliced(index, 1))).toBe("broken");
    }
    for (const [column, value] of Object.entries(checkpoint)) {
      const changed = typeof value === "number" ? value + 1 : `00${String(value).slice(2)}`;
      if (changed === value) continue;
      const edited = checkpoints.with(index, { ...checkpoint, [column]: changed });
      expect(verdict(events, edited), `${column} of checkpoint ${index + 1}`).toBe("broken");
    }
    const forged = signCheckpoint(org, checkpoint, stranger.privateKey);
    expect(verdict(events, checkpoints.with(index, forged))).toBe("broken");
  }
});

test("cutting off events together with their checkpoints is found by a witness kept elsewhere", () => {
  const { events, checkpoints } = build(10);
  const cut = { org, events: events.slice(0, 4), checkpoints: checkpoints.slice(0, 1) };
  expect(verifyChain({ ...cut, publicKey: keys.publicKey }).kind).toBe("intact");
  expect(verifyChain({ ...cut, witnesses: checkpoints, publicKey: keys.publicKey })).toEqual({
    kind: "broken",
    seq: 8,
    why: "events 5 to 8 were cut off (checkpoint 2)",
  });
});

test("the chain of one organisation does not pass as another's", () => {
  const { events, checkpoints } = build(3);
  const other = { org: "org-other", events, checkpoints, publicKey: keys.publicKey };
  expect(verifyChain(other).kind).toBe("broken");
});

test("no two different facts have one canonical form", () => {
  const text = fc.string({ maxLength: 6 });
  const fact = fc.record({
    timeMs: fc.nat(),
    principal: text,
    method: text,
    resource: text,
    project: text,
    requestId: text,
    deniedCalls: fc.nat(3),
  });
  const hashOf = (f: AuditFact): string | undefined =>
    chainFacts({ seq: 0, hash: genesisHash(org) }, [f])[0]?.hash;
  fc.assert(
    fc.property(fact, fact, (a, b) => {
      expect(hashOf(a) === hashOf(b)).toBe(JSON.stringify(a) === JSON.stringify(b));
    }),
  );
});
