/** Whether a path below the output folder matches a pattern: `*` within a name, `**` over folders. */
export function matches(pattern: string, path: string): boolean {
  return compile(pattern).test(path);
}

function compile(pattern: string): RegExp {
  let source = "";
  for (let i = 0; i < pattern.length; i += 1) {
    const char = pattern.charAt(i);
    if (char !== "*") {
      source += char.replace(/[\\^$.|?+()[\]{}]/, "\\$&");
    } else if (pattern.charAt(i + 1) !== "*") {
      source += "[^/]*";
    } else {
      i += 1;
      const folder = pattern.charAt(i + 1) === "/";
      if (folder) i += 1;
      // `**/` is any number of folders, none included; a final `**` is everything below.
      source += folder ? "(?:[^/]+/)*" : ".*";
    }
  }
  return new RegExp(`^${source}$`);
}
