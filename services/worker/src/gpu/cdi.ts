import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Folders that the Container Device Interface names; later ones win. */
export const cdiDirs = ["/etc/cdi", "/var/run/cdi"];

interface DeviceNode {
  path?: string;
  hostPath?: string;
}
interface ContainerEdits {
  deviceNodes?: DeviceNode[];
}
interface CdiSpec {
  kind?: string;
  devices?: { name?: string; containerEdits?: ContainerEdits }[];
  containerEdits?: ContainerEdits;
}

/** Device nodes that a CDI device promises inside; undefined where no specification names it. */
export async function resolveCdiDevice(
  name: string,
  dirs: readonly string[] = cdiDirs,
): Promise<readonly string[] | undefined> {
  let found: readonly string[] | undefined;
  for (const dir of dirs.filter((d) => existsSync(d))) {
    for (const file of readdirSync(dir).filter((f) => /\.(json|ya?ml)$/.test(f))) {
      const spec = await readSpec(join(dir, file));
      const device = spec.devices?.find((d) => `${spec.kind}=${d.name}` === name);
      if (device === undefined) continue;
      found = [spec.containerEdits, device.containerEdits]
        .flatMap((edits) => edits?.deviceNodes ?? [])
        .flatMap((node) => (node.path === undefined ? [] : [node.path]));
    }
  }
  return found;
}

async function readSpec(path: string): Promise<CdiSpec> {
  const text = readFileSync(path, "utf8");
  if (path.endsWith(".json")) return JSON.parse(text) as CdiSpec;
  const { parse } = await import("yaml");
  return parse(text) as CdiSpec;
}
