/**
 * Text from elsewhere as one safe line: control characters (line ends and terminal escapes
 * included) become a space, so that a task's name cannot repaint the table it stands in.
 */
export function stripControls(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ");
}

/** Less room than this is not worth a break in every line. */
const leastRoom = 24;

/**
 * A text broken between words for a terminal of so many columns, its further lines below the first one's `indent`. As it
 * is where nobody looks at it (`columns` undefined), and where there is no room for that.
 */
export function wrapped(text: string, columns: number | undefined, indent: number): string {
  const room = (columns ?? 0) - indent;
  if (room < leastRoom) return text;
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1) ?? "";
    const more = line === "" ? word : `${line} ${word}`;
    if (displayWidth(more) <= room || line === "") lines[lines.length - 1] = more;
    else lines.push(word);
  }
  return lines.join(`\n${" ".repeat(indent)}`);
}

/**
 * Columns that a text takes on a terminal: combining marks none, East Asian wide characters and
 * emoji two (Unicode UAX #11, in short).
 */
export function displayWidth(text: string): number {
  let width = 0;
  for (const character of text) {
    if (/\p{Mark}|\u200d|\ufe0f/u.test(character)) continue;
    width += isWide(character.codePointAt(0) ?? 0) ? 2 : 1;
  }
  return width;
}

function isWide(point: number): boolean {
  return (
    (point >= 0x1100 && point <= 0x115f) ||
    (point >= 0x2e80 && point <= 0xa4cf) ||
    (point >= 0xac00 && point <= 0xd7a3) ||
    (point >= 0xf900 && point <= 0xfaff) ||
    (point >= 0xfe30 && point <= 0xfe6f) ||
    (point >= 0xff00 && point <= 0xff60) ||
    (point >= 0xffe0 && point <= 0xffe6) ||
    (point >= 0x1f300 && point <= 0x1faff) ||
    (point >= 0x20000 && point <= 0x3fffd)
  );
}
