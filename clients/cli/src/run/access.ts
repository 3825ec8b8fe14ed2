import { randomUUID } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type ApiKey,
  ApiKeySchema,
  type CreateApiKeyResponse,
  CreateApiKeyResponseSchema,
  type CreateWorkerJoinTokenResponse,
  CreateWorkerJoinTokenResponseSchema,
  type Organization,
  OrganizationSchema,
  type Project,
  ProjectSchema,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { withApi } from "../api/connect.ts";
import { allPages } from "../api/pages.ts";
import { configPath, saveContext } from "../config/file.ts";
import { qualified, resolveSettings } from "../config/settings.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { type View, printList, printOne } from "../output/print.ts";
import { age, isoTime, lastPart } from "../output/values.ts";

function organizationView(nowMs: number): View<Organization> {
  return {
    columns: [
      { header: "organization", value: (org) => lastPart(org.name) },
      { header: "name", value: (org) => org.displayName },
      { header: "age", value: (org) => age(org.createTime, nowMs), align: "right" },
    ],
    id: (org) => lastPart(org.name),
    json: (org) => toJson(OrganizationSchema, org),
  };
}

function projectView(nowMs: number): View<Project> {
  return {
    columns: [
      { header: "project", value: (project) => lastPart(project.name) },
      { header: "name", value: (project) => project.displayName },
      { header: "organization", value: (project) => lastPart(project.organization) },
      { header: "age", value: (project) => age(project.createTime, nowMs), align: "right" },
    ],
    id: (project) => lastPart(project.name),
    json: (project) => toJson(ProjectSchema, project),
  };
}

const keyStatus = (key: ApiKey): string => (key.revokeTime === undefined ? "valid" : "revoked");

function keyView(nowMs: number): View<ApiKey> {
  return {
    columns: [
      { header: "key", value: (key) => lastPart(key.name) },
      { header: "name", value: (key) => key.displayName },
      { header: "role", value: (key) => key.role },
      { header: "project", value: (key) => lastPart(key.project) || "all" },
      { header: "status", value: keyStatus },
      { header: "age", value: (key) => age(key.createTime, nowMs), align: "right" },
      { header: "expires", value: (key) => isoTime(key.expireTime) || "never" },
    ],
    id: (key) => lastPart(key.name),
    json: (key) => toJson(ApiKeySchema, key),
  };
}

const newKeyView: View<CreateApiKeyResponse> = {
  columns: [],
  // The one command whose "id" is worth nothing without its secret.
  id: (response) => response.secret,
  json: (response) => toJson(CreateApiKeyResponseSchema, response),
  facts: ({ apiKey, secret }) => [
    ["key", lastPart(apiKey?.name ?? "")],
    ["name", apiKey?.displayName ?? ""],
    ["role", apiKey?.role ?? ""],
    ["project", lastPart(apiKey?.project ?? "") || "all"],
    ["expires", isoTime(apiKey?.expireTime) || "never"],
    ["secret", secret],
  ],
};

/** `org create NAME` */
export async function createOrganization(
  context: CliContext,
  options: CommonOptions,
  name: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const organization = await api.organizations.createOrganization({
      organization: { displayName: name },
      requestId: randomUUID(),
    });
    await printOne(printOptions(context, options), organizationView(context.nowMs()), organization);
  });
}

/** `org list` */
export async function listOrganizations(
  context: CliContext,
  options: CommonOptions,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const items = await allPages(
      (page) => api.organizations.listOrganizations(page),
      ({ organizations }) => organizations,
    );
    await printList(
      printOptions(context, options),
      organizationView(context.nowMs()),
      items,
      "no organisations",
    );
  });
}

/** `project create NAME` */
export async function createProject(
  context: CliContext,
  options: CommonOptions,
  name: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const project = await api.projects.createProject({
      parent: await api.organization(),
      project: { displayName: name },
      requestId: randomUUID(),
    });
    await printOne(printOptions(context, options), projectView(context.nowMs()), project);
  });
}

/** `project list` */
export async function listProjects(context: CliContext, options: CommonOptions): Promise<void> {
  await withApi(context, options, async (api) => {
    const parent = await api.organization();
    const items = await allPages(
      (page) => api.projects.listProjects({ parent, ...page }),
      ({ projects }) => projects,
    );
    await printList(
      printOptions(context, options),
      projectView(context.nowMs()),
      items,
      "no projects",
    );
  });
}

/** `key create NAME`; `--project` binds it to one project. */
export async function createKey(
  context: CliContext,
  options: CommonOptions & { role: string; expires?: number; save?: string },
  name: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const parent = await api.organization();
    const project = options.project === undefined ? "" : qualified("projects", options.project);
    const response = await api.keys.createApiKey({
      parent,
      apiKey: {
        displayName: name,
        role: options.role,
        project,
        ...(options.expires === undefined
          ? {}
          : { expireTime: timestampFromMs(context.nowMs() + options.expires) }),
      },
    });
    await printOne(printOptions(context, options), newKeyView, response);
    if (options.save !== undefined) {
      const { address } = resolveSettings(options, context.env);
      saveContext(configPath(context.env), options.save, {
        address,
        key: response.secret,
        organization: parent,
        ...(project === "" ? {} : { project }),
      });
      context.terminal.err(`context ${options.save} is written and in use\n`);
    } else if (context.terminal.errIsTty) {
      context.terminal.err("the secret is not shown again\n");
    }
  });
}

/** `key list` */
export async function listKeys(context: CliContext, options: CommonOptions): Promise<void> {
  await withApi(context, options, async (api) => {
    const parent = await api.organization();
    const items = await allPages(
      (page) => api.keys.listApiKeys({ parent, ...page }),
      ({ apiKeys }) => apiKeys,
    );
    await printList(printOptions(context, options), keyView(context.nowMs()), items, "no keys");
  });
}

/** `key revoke KEY` */
export async function revokeKey(
  context: CliContext,
  options: CommonOptions,
  typed: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const name = typed.includes("/") ? typed : `${await api.organization()}/apiKeys/${typed}`;
    const key = await api.keys.revokeApiKey({ name });
    await printOne(printOptions(context, options), keyView(context.nowMs()), key);
  });
}

const invitationView: View<CreateWorkerJoinTokenResponse> = {
  columns: [],
  id: ({ joinToken }) => joinToken,
  json: (response) => toJson(CreateWorkerJoinTokenResponseSchema, response),
  facts: ({ joinToken, expireTime }) => [
    ["join token", joinToken],
    ["expires", isoTime(expireTime)],
  ],
};

/** `node invite` */
export async function inviteWorker(context: CliContext, options: CommonOptions): Promise<void> {
  await withApi(context, options, async (api) => {
    const invitation = await api.workers.createWorkerJoinToken({});
    await printOne(printOptions(context, options), invitationView, invitation);
  });
}
