import { Fault } from "./fault.ts";

/** C0 and C1 control characters, and the two separators that break lines: nothing that belongs into a name. */
// eslint-disable-next-line no-control-regex
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

/** A text for people as it came, or INVALID_FIELD where it holds a control character (databases refuse U+0000). */
export function plainText(field: string, text: string): string {
  if (!control.test(text)) return text;
  throw Fault.invalid(field, "must not contain control characters");
}
