import { createHash } from "node:crypto";

/** One file of a manifest. */
export interface ManifestFile {
  /** Relative, with `/` between its parts. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Hexadecimal. */
  readonly sha256: string;
  /** Resource name of the artifact. */
  readonly artifact: string;
}

/** A manifest in canonical form, or the first file that cannot be in one, and why. */
export type CanonicalManifest =
  | { readonly kind: "manifest"; readonly digest: string; readonly files: readonly ManifestFile[] }
  | { readonly kind: "refused"; readonly index: number; readonly why: string };

/**
 * Sorts files by path (by code units) and digests them: SHA-256 over a JSON array of [path, size, sha256, artifact].
 * The same files in any order have the same digest. Paths that a client could be led astray by are refused.
 */
export function canonicalManifest(files: readonly ManifestFile[]): CanonicalManifest {
  const seen = new Set<string>();
  for (const [index, { path }] of files.entries()) {
    const why = seen.has(path) ? "is there twice" : flawOf(path);
    if (why !== undefined) return { kind: "refused", index, why };
    seen.add(path);
  }
  const sorted = files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  const rows = sorted.map(({ path, sizeBytes, sha256, artifact }) => [
    path,
    sizeBytes,
    sha256,
    artifact,
  ]);
  const text = JSON.stringify(["fastgpu-manifest-v1", rows]);
  return {
    kind: "manifest",
    digest: createHash("sha256").update(text).digest("hex"),
    files: sorted,
  };
}

/** Why a path must not be unpacked below some directory; undefined where it may. */
function flawOf(path: string): string | undefined {
  if (path.startsWith("/") || path.includes("\\"))
    return "must be relative, with / between its parts";
  if (!path.isWellFormed()) return "must be well-formed Unicode";
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(path)) return "must not contain control characters";
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..")) {
    return "must not contain empty parts, . or ..";
  }
  return undefined;
}
