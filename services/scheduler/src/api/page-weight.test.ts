import { maxMembers } from "@fastgpu/domain/member-name";
import { expect, test } from "vitest";
import type { StoredTask } from "../store/tasks.ts";
import { maxGangGpus } from "../spec/gang.ts";
import { attemptBytes, rowsWithin, taskBytes } from "./page-weight.ts";

const task = (replicas: number, gpuCount: number, specBytes = 200) =>
  ({ spec: new Uint8Array(specBytes), labels: {}, demand: { gpuCount }, replicas }) as StoredTask;

test("small rows make pages of the size that was asked for", () => {
  const rows = Array.from({ length: 1_001 }, () => task(1, 1));
  expect(rowsWithin(rows, 1_000, taskBytes)).toBe(1_000);
  expect(rowsWithin(rows, 1_000, attemptBytes)).toBe(1_000);
  expect(rowsWithin([], 1_000, taskBytes)).toBe(1_000);
});

test("the largest specs and gangs make shorter pages, never empty ones", () => {
  const specs = Array.from({ length: 101 }, () => task(1, 1, 256 * 1_024));
  expect(rowsWithin(specs, 100, taskBytes)).toBe(11);
  const gangs = Array.from({ length: 101 }, () => task(maxMembers, maxGangGpus / maxMembers));
  expect(rowsWithin(gangs, 100, taskBytes)).toBe(2);
  expect(rowsWithin(gangs, 100, attemptBytes)).toBe(1);
});
