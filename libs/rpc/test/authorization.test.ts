import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { Fault } from "@fastgpu/domain/fault";
import { permissionsOfRole } from "@fastgpu/domain/roles";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createChannel } from "../src/channel.ts";
import type { Channel } from "../src/channel.ts";
import { createClient } from "../src/client.ts";
import type { AnyHandlers } from "../src/handlers.ts";
import { accessRuleOf } from "../src/method-plan.ts";
import type { RunningServer } from "../src/server.ts";
import type { AccessClaims } from "../src/tokens.ts";
import { validate } from "../src/validate.ts";
import { createAuthority, serve } from "./harness.ts";
import type { Authority } from "./harness.ts";
import { allServices, minimalRequest } from "./requests.ts";
import type { Target } from "./requests.ts";

/**
 * I19: every RPC × every kind of caller × own, other and missing resources, over the wire. The handlers note that they
 * were reached; nothing of the expectation is taken from the code under test but the declared permission.
 */

const services = await allServices();
const methods = services.flatMap((service) => service.methods);

let reached: string | undefined;
let authority: Authority;
let server: RunningServer;

const targets = {
  own: { project: "proj-a", org: "org-a" },
  sibling: { project: "proj-a2", org: "org-a" },
  other: { project: "proj-b", org: "org-b" },
  none: { project: "proj-none", org: "org-none" },
} satisfies Record<string, Target>;
type TargetName = keyof typeof targets;

const callers: Readonly<Record<string, AccessClaims | undefined>> = {
  operator: { sub: "key-o", org: "org-a", role: "platform_operator" },
  admin: { sub: "key-a", org: "org-a", role: "org_admin" },
  editor: { sub: "key-e", org: "org-a", role: "project_editor" },
  "bound editor": { sub: "key-p", org: "org-a", project: "proj-a", role: "project_editor" },
  "bound viewer": { sub: "key-v", org: "org-a", project: "proj-a", role: "project_viewer" },
  worker: { sub: "node-1", role: "worker" },
  nobody: undefined,
};

function handlersOf(service: DescService): AnyHandlers {
  const handlers: Record<string, unknown> = {};
  for (const method of service.methods) {
    const note = (): void => {
      reached = method.name;
    };
    handlers[method.localName] = handlerOf(method, note);
  }
  return handlers as AnyHandlers;
}

function handlerOf(method: DescMethod, note: () => void): unknown {
  switch (method.methodKind) {
    case "unary":
      return async () => {
        note();
        return {};
      };
    case "server_streaming":
      return async function* () {
        note();
      };
    case "client_streaming":
      return async (requests: AsyncIterable<unknown>) => {
        for await (const _ of requests) note();
        return {};
      };
    case "bidi_streaming":
      return async function* (requests: AsyncIterable<unknown>) {
        for await (const _ of requests) note();
      };
  }
}

beforeAll(async () => {
  authority = await createAuthority();
  server = await serve(
    services.map((descriptor) => ({ descriptor, handlers: handlersOf(descriptor) })),
    authority.authenticator,
  );
});

afterAll(() => server.close(0));

/** Calls a method with the smallest valid request; "reached", or the reason it was refused for. */
async function outcomeOf(channel: Channel, method: DescMethod, target: Target): Promise<string> {
  reached = undefined;
  const request = minimalRequest(method.input, target);
  validate(method.input, request);
  const call = createClient(method.parent, channel)[method.localName] as unknown as (
    request: unknown,
    options: { readonly retry: boolean },
  ) => Promise<unknown> | AsyncIterable<unknown>;
  const streams =
    method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
  try {
    const answer = call(streams ? one(request) : request, { retry: false });
    if (Symbol.asyncIterator in answer) for await (const _ of answer) continue;
    else await answer;
  } catch (error) {
    const fault = Fault.from(error);
    return reached === undefined ? fault.reason : `reached, then ${fault.reason}`;
  }
  return reached === method.name ? "reached" : "not reached";
}

async function* one(request: unknown) {
  yield request;
}

/** What must come of it, from the words of the design alone. */
function expected(claims: AccessClaims | undefined, method: DescMethod, name: TargetName): string {
  const rule = accessRuleOf(method);
  if (rule.public) return "reached";
  if (claims === undefined) return "UNAUTHENTICATED";
  if (!permissionsOfRole[claims.role].has(rule.permission)) return "PERMISSION_DENIED";
  if (rule.resource === undefined) return "reached";
  const byProject = rule
    .resource(minimalRequest(method.input, targets[name]))
    .startsWith("projects/");
  if (claims.role === "platform_operator") {
    return byProject && name === "none" ? "PERMISSION_DENIED" : "reached";
  }
  const mine = claims.project === undefined ? ["own", "sibling"] : byProject ? ["own"] : [];
  return mine.includes(name) ? "reached" : "PERMISSION_DENIED";
}

describe.each(Object.entries(callers))("%s", (_, claims) => {
  let channel: Channel;
  beforeAll(async () => {
    const token = claims === undefined ? undefined : await authority.token(claims);
    channel = createChannel({
      address: server.address,
      ...(token === undefined ? {} : { token: () => Promise.resolve(token) }),
    });
  });
  afterAll(() => channel.close());

  test.each(methods.map((method) => [`${method.parent.name}.${method.name}`, method] as const))(
    "%s reaches what is its own and nothing else",
    async (_name, method) => {
      for (const name of Object.keys(targets) as TargetName[]) {
        const outcome = await outcomeOf(channel, method, targets[name]);
        expect({ target: name, outcome }).toEqual({
          target: name,
          outcome: expected(claims, method, name),
        });
      }
    },
  );
});

test("a service reaches what its role holds, on whose behalf ever", async () => {
  const channel = createChannel({
    address: server.address,
    token: () => authority.serviceToken("scheduler"),
  });
  for (const method of methods) {
    const rule = accessRuleOf(method);
    const may = rule.public || permissionsOfRole.service.has(rule.permission);
    const outcome = await outcomeOf(channel, method, targets.other);
    expect({ method: method.name, outcome }).toEqual({
      method: method.name,
      outcome: may ? "reached" : "PERMISSION_DENIED",
    });
  }
  channel.close();
});

test("a foreign project and a missing one are told apart by nothing", async () => {
  const token = await authority.token({ sub: "key-a", org: "org-a", role: "org_admin" });
  const channel = createChannel({ address: server.address, token: () => Promise.resolve(token) });
  const task = services.find((service) => service.name === "TaskService");
  const method = task?.method["getTask"];
  const faults: unknown[] = [];
  for (const target of [targets.other, targets.none]) {
    if (method === undefined) break;
    const client = createClient(method.parent, channel)["getTask"] as unknown as (
      request: unknown,
    ) => Promise<unknown>;
    const fault = await client(minimalRequest(method.input, target)).catch(
      (error: unknown) => error,
    );
    if (!(fault instanceof Fault)) throw new Error("expected a fault");
    const { request_id: _, ...metadata } = fault.metadata;
    const text = JSON.stringify({
      code: fault.code,
      reason: fault.reason,
      message: fault.message,
      hint: fault.hint,
      violations: fault.violations,
      retryAfterMs: fault.retryAfterMs,
      metadata,
    });
    faults.push(text.replaceAll(target.project, "PROJECT"));
  }
  expect(faults[0]).toBe(faults[1]);
  channel.close();
});
