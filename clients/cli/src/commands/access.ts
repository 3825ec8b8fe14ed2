import { Option } from "commander";
import { durationMs } from "../parse/quantities.ts";
import type { Runner } from "./define.ts";

/** `org`, `project` and `key`: who may do what. */
export function addAccessCommands(runner: Runner): void {
  const org = runner.group("org", "organisations");
  const createOrg = org.remote("create", "create an organisation");
  createOrg.command.argument("<name>", "a name for people");
  createOrg.run(async () => ({ run: (await import("../run/access.ts")).createOrganization }));
  const listOrgs = org.remote("list", "list organisations");
  listOrgs.run(async () => ({ run: (await import("../run/access.ts")).listOrganizations }));

  const project = runner.group("project", "projects of an organisation");
  const createProject = project.remote("create", "create a project");
  createProject.command.argument("<name>", "a name for people");
  createProject.run(async () => ({ run: (await import("../run/access.ts")).createProject }));
  const listProjects = project.remote("list", "list projects");
  listProjects.run(async () => ({ run: (await import("../run/access.ts")).listProjects }));

  const key = runner.group("key", "API keys of an organisation");
  const createKey = key.remote("create", "create a key; its secret is shown this once");
  createKey.command
    .argument("<name>", "a name for people")
    .addOption(
      new Option("--role <role>", "what it may do")
        .choices(["org_admin", "project_editor", "project_viewer"])
        .default("project_editor"),
    )
    .option("--expires <duration>", "ends by itself after this time, for example 90d", durationMs)
    .option("--save <context>", "also write it to this context");
  createKey.run(async () => ({ run: (await import("../run/access.ts")).createKey }));
  const listKeys = key.remote("list", "list keys, without their secrets");
  listKeys.run(async () => ({ run: (await import("../run/access.ts")).listKeys }));
  const revokeKey = key.remote("revoke", "revoke a key");
  revokeKey.command.argument("<key>");
  revokeKey.run(async () => ({ run: (await import("../run/access.ts")).revokeKey }));
}
