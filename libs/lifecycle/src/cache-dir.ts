import { homedir } from "node:os";
import { join } from "node:path";

/** Where downloads and copies of programs are kept; root's is readable by everybody. */
export function defaultCacheDir(): string {
  if (process.getuid?.() === 0) return "/var/cache/fastgpu";
  return join(homedir(), ".cache", "fastgpu");
}
