import type { Terminal } from "./terminal.ts";

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const FRAME_MS = 100;
/** Nothing is shown for what ends sooner. */
const PATIENCE_MS = 1000;

/** A line on standard error that shows that something goes on. */
export interface ProgressLine {
  /** Changes its text. */
  say(text: string): void;
  [Symbol.dispose](): void;
}

/**
 * Shows a spinner with a text after a second, on a terminal only, and removes it at the end of its
 * scope: `using line = progressLine(terminal, "uploading");`
 */
export function progressLine(terminal: Terminal, text: string): ProgressLine {
  if (!terminal.errIsTty) return { say: () => undefined, [Symbol.dispose]: () => undefined };
  let shown = text;
  let frame = 0;
  let drawn = false;
  let timer: NodeJS.Timeout | undefined;
  const draw = (): void => {
    drawn = true;
    frame += 1;
    terminal.err(`\r\u001b[K${FRAMES[frame % FRAMES.length]} ${shown}`);
  };
  const patience = setTimeout(() => {
    draw();
    timer = setInterval(draw, FRAME_MS);
    timer.unref();
  }, PATIENCE_MS);
  patience.unref();
  return {
    say: (next) => void (shown = next),
    [Symbol.dispose]() {
      clearTimeout(patience);
      clearInterval(timer);
      if (drawn) terminal.err("\r\u001b[K");
    },
  };
}
