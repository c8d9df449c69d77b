/** Writes lines to stdout at the reader's pace; a reader that has gone ends the command. */

/** Exit code of a command whose reader went away, as of one ended by SIGPIPE. */
const READER_GONE = 141;

export async function printLine(text: string): Promise<void> {
  if (process.stdout.listenerCount("error") === 0) {
    process.stdout.on("error", () => process.exit(READER_GONE));
  }
  if (process.stdout.write(`${text}\n`)) return;
  await new Promise<void>((resolve) => process.stdout.once("drain", () => resolve()));
}
