/** What the tour says, line after line, and a block that is drawn over and over where one can. */

export interface Screen {
  /** A finished line or several. What was live stays as it is. */
  say(text: string): void;
  /** The state of things once a second: the whole block, or a line of it now and then. */
  live(state: { readonly block: readonly string[]; readonly line: string }): void;
}

export interface Terminal {
  readonly write: (text: string) => void;
  /** Whether the cursor can be moved. */
  readonly isInteractive: boolean;
  /** Width in characters, asked each time. */
  readonly columns: () => number;
}

/** Without a terminal every so many states are one line. */
const STATES_PER_LINE = 5;

export function createScreen(terminal: Terminal): Screen {
  const { write, columns } = terminal;
  if (!terminal.isInteractive) return plainScreen(write);
  let linesDrawn = 0;
  return {
    say: (text): void => {
      linesDrawn = 0;
      write(`${text}\n`);
    },
    live: ({ block }): void => {
      const up = linesDrawn === 0 ? "" : `\x1b[${linesDrawn}A`;
      // A line that wraps would count as two.
      const lines = block.map((line) => `${line.slice(0, columns() - 1)}\x1b[K\n`);
      write(up + lines.join(""));
      linesDrawn = lines.length;
    },
  };
}

function plainScreen(write: (text: string) => void): Screen {
  let states = 0;
  return {
    say: (text): void => {
      states = 0;
      write(`${text}\n`);
    },
    live: ({ line }): void => {
      states += 1;
      if (states % STATES_PER_LINE === 0) write(`${line}\n`);
    },
  };
}
