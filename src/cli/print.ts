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

/** Rows in columns as wide as their widest cell. */
export async function printTable(rows: readonly (readonly string[])[]): Promise<void> {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  for (const row of rows) {
    await printLine(
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  }
}
