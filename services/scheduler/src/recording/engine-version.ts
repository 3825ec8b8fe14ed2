import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Version of the product. */
export const productVersion = "0.1.0";

let known: Promise<string> | undefined;

/**
 * Names the engine: a digest of its sources, 16 letters. Two engines of one name decide the same; the same decisions
 * may have two names, for a changed comment is a changed source. The recording's own code is versioned by its format.
 */
export function engineVersion(): Promise<string> {
  known ??= digestOf(dirname(fileURLToPath(import.meta.resolve("@fastgpu/scheduling/plan"))));
  return known;
}

async function digestOf(directory: string): Promise<string> {
  const names = (await readdir(directory, { recursive: true }))
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
    .filter((name) => !name.startsWith("recording"))
    .toSorted();
  const hash = createHash("sha256");
  for (const name of names) {
    const text = await readFile(join(directory, name));
    hash.update(`${name}\n${text.length}\n`).update(text);
  }
  return hash.digest("hex").slice(0, 16);
}
