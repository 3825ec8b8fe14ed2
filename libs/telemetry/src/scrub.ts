/** API keys (`fgpu_…`) and JSON Web Tokens, wherever they stand in a line. */
const credentials = /\bfgpu_[A-Za-z0-9_]{8,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+/g;

/** A line of log without credentials. An API key keeps its start, so that people can tell which one it was. */
export function scrub(line: string): string {
  if (!line.includes("fgpu_") && !line.includes("eyJ")) return line;
  return line.replace(credentials, (found) =>
    found.startsWith("fgpu_") ? `${found.slice(0, 10)}…` : "[token]",
  );
}
