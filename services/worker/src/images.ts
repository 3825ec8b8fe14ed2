import { createReadStream } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import type { EngineAddress } from "./keeper/wire.ts";
import { openEngine } from "./runtime/container/open.ts";
import { findEngine } from "./runtime/container/service.ts";

/**
 * Makes the image `name` of this machine's container engine from a root file system in `tarPath`: an image without a
 * registry. Throws ILLEGAL_STATE where there is no engine.
 */
export async function importImage(options: {
  name: string;
  tarPath: string;
  engine?: EngineAddress;
}): Promise<{ engine: string }> {
  const directory = await mkdtemp(join(tmpdir(), "fastgpu-engine-"));
  try {
    const ownSocket = join(directory, "podman.sock");
    const address = findEngine({ ownSocket, configured: options.engine });
    if (address === undefined) {
      throw new Fault("ILLEGAL_STATE", "no container engine on this machine", {
        hint: "install podman or docker",
      });
    }
    using engine = openEngine(address);
    await engine.importImage(options.name, createReadStream(options.tarPath));
    return { engine: await engine.version() };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
