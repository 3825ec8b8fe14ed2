import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { segmentSuffix } from "./segment.ts";

/** The segments of a directory by the time of their start, the oldest first; none where there is no directory. */
export async function listSegments(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  return names
    .filter((name) => name.endsWith(segmentSuffix))
    .toSorted()
    .map((name) => join(directory, name));
}

/** Makes the directory and removes the oldest segments until the rest takes at most so many bytes. */
export async function makeRoom(directory: string, bytes: number): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const paths = await listSegments(directory);
  const sizes = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  let total = sizes.reduce((sum, size) => sum + size, 0);
  for (const [at, path] of paths.entries()) {
    if (total <= bytes) return;
    await rm(path, { force: true });
    total -= sizes[at] ?? 0;
  }
}
