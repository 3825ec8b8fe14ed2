import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { PlanReservation } from "../plan.ts";
import { Models } from "./estate.ts";
import { Moment } from "./moment.ts";

const models = ["A", "B", "C"];
const ownerOf = (n: number) => ({
  org: `org-${n}` as OrgId,
  project: `proj-${n}` as ProjectId,
  user: "",
});

const someModels = fc.subarray(models).map((list) => (list.length === 3 ? [] : list));
const arbitrary = fc.record({
  /** GPUs that are idle, by model. */
  open: fc.tuple(fc.nat(3), fc.nat(3), fc.nat(3)),
  reserved: fc.array(
    fc.record({ owner: fc.nat(2), gpus: fc.integer({ min: 1, max: 4 }), models: someModels }),
    { minLength: 1, maxLength: 3 },
  ),
  /** GPUs that owners hold. */
  held: fc.array(fc.record({ owner: fc.nat(2), model: fc.nat(2) }), { maxLength: 3 }),
  /** Owner 3 has no reservation. */
  task: fc.record({ owner: fc.nat(3), model: fc.nat(2), gpus: fc.integer({ min: 1, max: 3 }) }),
});
type Scene = typeof arbitrary extends fc.Arbitrary<infer S> ? S : never;

const reservationsOf = (reserved: Scene["reserved"]) =>
  reserved.map(({ owner, gpus, models: wanted }, n): PlanReservation => {
    const { org } = ownerOf(owner);
    return {
      ...{ id: `resv-${n}`, org, project: undefined, gpus, models: wanted },
      ...{ startMs: 0, endMs: 1 },
    };
  });

/** Most GPUs that reservations can have in all, by trying for each GPU each of them: with this task's, or without. */
function most({ open, reserved, held }: Scene, task?: Scene["task"]): number {
  const cells = [
    ...open.flatMap((count, model) => {
      const left = count - (task?.model === model ? task.gpus : 0);
      return Array.from({ length: left }, () => ({ model, owner: undefined }));
    }),
    ...held,
    ...Array.from({ length: task?.gpus ?? 0 }, () => task!),
  ];
  const left = reserved.map(({ gpus }) => gpus);
  const from = (at: number): number => {
    const cell = cells[at];
    if (cell === undefined) return 0;
    let best = from(at + 1);
    for (const [n, { owner, models: wanted }] of reserved.entries()) {
      if (left[n] === 0 || (cell.owner !== undefined && cell.owner !== owner)) continue;
      if (wanted.length > 0 && !wanted.includes(models[cell.model]!)) continue;
      left[n]!--;
      best = Math.max(best, 1 + from(at + 1));
      left[n]!++;
    }
    return best;
  };
  return from(0);
}

test("keeps no more than reservations need together, however they share models, and no less: as trying all ways tells", () => {
  let [cut, harmless] = [0, 0];
  fc.assert(
    fc.property(arbitrary, (scene) => {
      const { open, reserved, held, task } = scene;
      fc.pre(task.gpus <= open[task.model]!);
      const moment = new Moment(0, {
        models: new Models(models),
        reservations: reservationsOf(reserved),
      });
      for (const [at, count] of open.entries()) moment.supply(models[at]!, count * 1000);
      for (const { owner, model } of held) {
        const counts = new Map([[models[model]!, 1000]]);
        moment.own({ owner: ownerOf(owner), counts, givesWay: false }, 1);
      }
      const wanted = { owner: ownerOf(task.owner), model: models[task.model]!, givesWay: false };
      const found = moment.cutInto({ ...wanted, milli: task.gpus * 1000 });
      const cuts = most(scene, task) < most(scene);
      expect(found !== undefined).toBe(cuts);
      if (cuts) cut++;
      else harmless++;
      // What can be stopped cuts into nothing but what its own owner then has of it.
      const lent = moment.cutInto({ ...wanted, milli: task.gpus * 1000, givesWay: true });
      if (!reserved.some(({ owner }) => owner === task.owner)) expect(lent).toBeUndefined();
      // Taken and given back, all is as before.
      const hold = { ...wanted, counts: new Map([[wanted.model, task.gpus * 1000]]) };
      moment.take(hold, 1);
      moment.take(hold, -1);
      expect(moment.cutInto({ ...wanted, milli: task.gpus * 1000 })).toEqual(found);
    }),
    { numRuns: 2_000 },
  );
  expectSeen(cut, 50, "cut");
  expectSeen(harmless, 50, "harmless");
});

test("answers the same whatever was asked before, as more is taken and given back", () => {
  const step = fc.record({
    ...{ owner: fc.nat(3), model: fc.nat(2), gpus: fc.integer({ min: 1, max: 2 }) },
    ...{ givesWay: fc.boolean(), back: fc.boolean() },
  });
  const scenes = fc.tuple(arbitrary, fc.array(step, { minLength: 1, maxLength: 8 }));
  let answers = 0;
  fc.assert(
    fc.property(scenes, ([{ open, reserved, task }, steps]) => {
      const fresh = (): Moment => {
        const reservations = reservationsOf(reserved);
        const moment = new Moment(0, { models: new Models(models), reservations });
        for (const [at, count] of open.entries()) moment.supply(models[at]!, count * 3_000);
        return moment;
      };
      const model = models[task.model]!;
      const want = { owner: ownerOf(task.owner), model, milli: task.gpus * 1000, givesWay: false };
      const lived = fresh();
      const taken: Parameters<Moment["take"]>[0][] = [];
      for (const { owner, model: at, gpus, givesWay, back } of steps) {
        const counts = new Map([[models[at]!, gpus * 1000]]);
        const hold = { owner: ownerOf(owner), counts, givesWay };
        const last = back ? taken.pop() : undefined;
        if (last === undefined) taken.push(hold);
        lived.take(last ?? hold, last === undefined ? 1 : -1);
        const anew = fresh();
        for (const each of taken) anew.take(each, 1);
        expect(lived.cutInto(want)).toEqual(anew.cutInto(want));
        expect(lived.isDue(want)).toBe(anew.isDue(want));
        expect(lived.counts(hold, want.owner)).toBe(anew.counts(hold, want.owner));
        if (lived.cutInto(want) !== undefined) answers++;
      }
    }),
    { numRuns: 500 },
  );
  expectSeen(answers, 50, "answers");
});
