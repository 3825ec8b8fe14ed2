import { Fault, codeOfReason, type FaultReason } from "@fastgpu/domain/fault";
import { describe, expect, test } from "vitest";
import { CliError } from "./cli-error.ts";
import { EXIT_CODES_HELP } from "./exit-codes.ts";
import { renderReport, renderReportJson, reportOf } from "./report.ts";

const plain = (text: string): string => text;

describe("an error", () => {
  test("says what, why, what to try and the request id", () => {
    const fault = new Fault("NOT_FOUND", "projects/p/tasks/t was not found", {
      hint: "fastgpu task list",
      metadata: { request_id: "req-1" },
    });
    expect(renderReport(reportOf(fault), plain)).toBe(
      "error: projects/p/tasks/t was not found\n  try: fastgpu task list\n  request id: req-1\n",
    );
  });

  test("names each broken field, and not twice", () => {
    const one = renderReport(reportOf(Fault.invalid("task.spec", "is required")), plain);
    expect(one).toBe("error: task.spec: is required\n");
    const two = new Fault("INVALID_FIELD", "2 fields are wrong", {
      violations: [
        { field: "a", description: "too long" },
        { field: "b", description: "missing" },
      ],
    });
    expect(renderReport(reportOf(two), plain)).toBe(
      "error: 2 fields are wrong\n  why: a: too long\n  why: b: missing\n",
    );
  });

  test("that tells one field in the message does not tell it again, and gives programs the fields alone", () => {
    const violations = [
      { field: "order.x", description: "p.yaml:2: no parameter", $typeName: "F" },
    ];
    const fault = new Fault("INVALID_FIELD", "p.yaml:2: no parameter", { violations });
    const report = reportOf(fault);
    expect(renderReport(report, plain)).toBe("error: p.yaml:2: no parameter\n");
    expect(report.fields).toEqual([{ field: "order.x", description: "p.yaml:2: no parameter" }]);
  });

  test("of our own has a why and a try line", () => {
    const error = new CliError("no key", { why: "none is set", hint: "set one", exitCode: 77 });
    expect(renderReport(reportOf(error), plain)).toBe(
      "error: no key\n  why: none is set\n  try: set one\n",
    );
    expect(reportOf(error).exitCode).toBe(77);
  });

  test("cannot smuggle terminal escapes from a server", () => {
    const fault = new Fault("INTERNAL", "x\u001b]0;owned\u0007\nerror: fake", {
      metadata: { request_id: "\u001b[2J" },
    });
    // oxlint-disable-next-line no-control-regex -- only line ends may be left
    expect(renderReport(reportOf(fault), plain)).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
  });

  test("is one line of JSON for programs", () => {
    const fault = new Fault("QUOTA_EXCEEDED", "too many", { metadata: { request_id: "r" } });
    expect(JSON.parse(renderReportJson(reportOf(fault)))).toEqual({
      error: {
        message: "too many",
        code: "RESOURCE_EXHAUSTED",
        reason: "QUOTA_EXCEEDED",
        why: [],
        fields: [],
        requestId: "r",
        exitCode: 73,
      },
    });
  });

  test("of an unknown kind is a fault of the command line, not of the request", () => {
    expect(reportOf(new TypeError("x is not a function"))).toMatchObject({
      exitCode: 70,
      message: "x is not a function",
    });
    expect(reportOf("thrown text").message).toBe("thrown text");
  });

  test("has an exit code that the help page lists, whatever its reason", () => {
    for (const reason of Object.keys(codeOfReason) as FaultReason[]) {
      const { exitCode } = reportOf(new Fault(reason, "x"));
      expect(exitCode, reason).not.toBe(0);
      expect(EXIT_CODES_HELP).toMatch(new RegExp(`^  ${exitCode} `, "m"));
    }
  });
});
