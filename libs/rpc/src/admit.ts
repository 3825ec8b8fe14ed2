import type { Message } from "@bufbuild/protobuf";
import { Fault } from "@fastgpu/domain/fault";
import type { Authenticator } from "./authenticator.ts";
import { decideAccess, holdsPermission, parseResource } from "./authorization.ts";
import type { MethodPlan } from "./method-plan.ts";
import type { OpenCall } from "./open-call.ts";
import { validate } from "./validate.ts";

/**
 * Lets a call in, in this order: who is it, may its role do this at all, is the request well formed, is the named
 * project or organisation its own. Nothing of a request is looked at before the role has been checked.
 */
export async function admitCaller(
  auth: Authenticator,
  plan: MethodPlan,
  call: OpenCall,
): Promise<void> {
  const { access } = plan;
  if (access === undefined || access.public) return;
  const principal = auth.authenticate(call.header("authorization"));
  call.principal = principal instanceof Promise ? await principal : principal;
  if (call.principal.kind === "anonymous") {
    throw new Fault("UNAUTHENTICATED", "this call needs a token", {
      hint: "send `authorization: Bearer TOKEN`",
    });
  }
  if (!holdsPermission(call.principal, access.permission)) {
    throw denied(`the role ${call.principal.role} does not hold ${access.permission}`, {
      permission: access.permission,
    });
  }
  if (access.resource === undefined) {
    const { org, project } = call.principal;
    call.scope = {
      ...(org === undefined ? {} : { org }),
      ...(project === undefined ? {} : { project }),
    };
  }
}

/**
 * Checks one request message, and that what it names is the caller's. Later messages of a stream need not name
 * anything, but what they name is checked alike.
 */
export async function admitRequest(
  auth: Authenticator,
  plan: MethodPlan,
  call: OpenCall,
  message: { readonly request: Message; readonly first: boolean },
): Promise<void> {
  const { request, first } = message;
  const { access } = plan;
  if (access === undefined) return;
  validate(plan.method.input, request);
  if (access.public || access.resource === undefined) return;
  const name = access.resource(request);
  if (name === "" && !first) return;
  const resource = parseResource(name);
  if (resource === undefined) {
    throw Fault.invalid(
      access.resourcePath,
      "must begin with projects/{project} or organizations/{organization}",
    );
  }
  const projectOrg = resource.kind === "project" ? auth.resolveProject(resource.id) : undefined;
  const decision = decideAccess({
    principal: call.principal,
    permission: access.permission,
    resource,
    projectOrg: projectOrg instanceof Promise ? await projectOrg : projectOrg,
  });
  if (decision.kind === "denied") {
    throw denied(`${resource.kind} ${resource.id} does not exist or is not yours`, {
      resource: name,
    });
  }
  call.scope = decision.scope;
}

function denied(message: string, metadata: Record<string, string>): Fault {
  return new Fault("PERMISSION_DENIED", message, {
    metadata,
    hint: "use a key of that project's organisation whose role allows it",
  });
}
