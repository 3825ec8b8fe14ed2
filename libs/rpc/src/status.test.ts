import { fromBinary } from "@bufbuild/protobuf";
import { ErrorReason, ErrorReasonSchema } from "@fastgpu/contracts/fastgpu/errors/v1/errors_pb";
import { StatusSchema } from "@fastgpu/contracts/google/rpc/status_pb";
import { Fault, codeOfReason, faultReasons } from "@fastgpu/domain/fault";
import { Metadata, status } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import {
  faultToStatus,
  requestIdOf,
  statusNameOf,
  statusToFault,
  toServiceError,
} from "./status.ts";

/** A fault as the other side of a call gets it. */
function across(fault: Fault, requestId = "req-1"): Fault {
  const { code, details, metadata } = toServiceError(faultToStatus(fault, requestId));
  return statusToFault({ code, details, metadata });
}

function detailTypes(fault: Fault): string[] {
  const { details } = fromBinary(StatusSchema, faultToStatus(fault, "req-1").details);
  return details.map(({ typeUrl }) => typeUrl.replace("type.googleapis.com/google.rpc.", ""));
}

describe("a fault on the wire", () => {
  test.each(faultReasons.filter((reason) => reason !== "INTERNAL"))(
    "%s arrives as it was thrown",
    (reason) => {
      const fault = new Fault(reason, "what happened", {
        hint: "what to do",
        metadata: { resource: "tasks/task-1" },
        violations: [{ field: "task.spec", description: "is too large" }],
        retryAfterMs: 1_500,
      });
      const arrived = across(fault);
      expect(arrived.reason).toBe(reason);
      expect(arrived.message).toBe("what happened");
      expect(arrived.hint).toBe("what to do");
      expect(arrived.retryAfterMs).toBe(1_500);
      expect(arrived.metadata).toEqual({ resource: "tasks/task-1", request_id: "req-1" });
      expect(arrived.violations).toMatchObject(fault.violations);
      expect(requestIdOf(arrived)).toBe("req-1");
    },
  );

  test("that goes on to the next caller carries the id of the call it answers", () => {
    const arrived = across(across(new Fault("NOT_FOUND", "gone"), "inner"), "outer");
    expect(requestIdOf(arrived)).toBe("outer");
  });

  test("INTERNAL tells its request id and nothing else", () => {
    const secret = new Error("connection string postgres://…");
    const fault = new Fault("INTERNAL", "pool failed", {
      hint: "restart",
      metadata: { host: "db-1" },
      cause: secret,
    });
    const arrived = across(fault);
    expect(arrived.message).toBe("internal error; quote request req-1");
    expect(arrived.metadata).toEqual({ request_id: "req-1" });
    expect(arrived.hint).toBeUndefined();
    expect(Buffer.from(faultToStatus(fault, "req-1").details).toString("latin1")).not.toMatch(
      /pool|restart|db-1|postgres/,
    );
  });

  test("a fault that cannot be encoded is answered as INTERNAL", () => {
    const broken = new Fault("UNAVAILABLE", "x", { retryAfterMs: Number.NaN });
    expect(faultToStatus(broken, "req-1").code).toBe(status.INTERNAL);
  });

  test.each([
    ["QUOTA_EXCEEDED", "QuotaFailure"],
    ["BUDGET_EXHAUSTED", "PreconditionFailure"],
    ["ILLEGAL_STATE", "PreconditionFailure"],
    ["FENCED", "PreconditionFailure"],
  ] as const)("%s carries %s", (reason, detail) => {
    expect(detailTypes(new Fault(reason, "no"))).toEqual(["ErrorInfo", detail, "RequestInfo"]);
  });

  test("broken fields travel as BadRequest, a wait as RetryInfo", () => {
    expect(detailTypes(Fault.invalid("task", "is missing"))).toContain("BadRequest");
    const wait = new Fault("RATE_LIMITED", "slow down", { retryAfterMs: 10 });
    expect(detailTypes(wait)).toContain("RetryInfo");
  });
});

test("every reason is in the proto, and every one of the proto is a reason", () => {
  const inProto = Object.keys(ErrorReason).filter((name) => name !== "UNSPECIFIED");
  expect(new Set(inProto)).toEqual(new Set(faultReasons));
  expect(ErrorReasonSchema.values).toHaveLength(faultReasons.length + 1);
});

describe("a status without our details", () => {
  test.each([
    [status.UNAVAILABLE, "UNAVAILABLE"],
    [status.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"],
    [status.CANCELLED, "CANCELLED"],
    [status.UNIMPLEMENTED, "NOT_FOUND"],
    [status.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"],
    [status.UNKNOWN, "INTERNAL"],
    [99, "INTERNAL"],
  ])("of code %i becomes %s", (code, reason) => {
    expect(statusToFault({ code, details: "from the transport" }).reason).toBe(reason);
  });

  test("or with details that are garbage is no error of its own", () => {
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", Buffer.from([1, 2, 3]));
    const fault = statusToFault({ code: status.NOT_FOUND, details: "gone", metadata });
    expect(fault).toMatchObject({ reason: "NOT_FOUND", message: "gone" });
  });
});

test("each reason has the code that gRPC gives its name", () => {
  for (const reason of faultReasons) {
    const wire = faultToStatus(new Fault(reason, "x"), "r");
    expect(statusNameOf(String(wire.code))).toBe(codeOfReason[reason]);
  }
  expect(statusNameOf("banana")).toBe("UNKNOWN");
  expect(statusNameOf(undefined)).toBe("UNKNOWN");
});
