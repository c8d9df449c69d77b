/** `kvatlas simulate`: lines in, lines out, until `end` or the end of the input. */
import { createInterface } from "node:readline";
import { KvError } from "../core/errors.ts";
import { LineShell } from "../lab/simulate/line-shell.ts";
import { RouterSession } from "../lab/simulate/router-session.ts";

/** Throws KvError at a line that ends the session; its message names the line. */
export async function simulate(): Promise<void> {
  const shell = new LineShell(new RouterSession());
  const lines = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  try {
    for await (const line of lines) {
      const outcome = shell.line(line);
      // Answers are short, and the simulator waits for each: nothing can pile up here.
      if (outcome.kind === "answer") process.stdout.write(`${outcome.text}\n`);
      if (outcome.kind === "failed") throw new KvError("ERR_SIMULATE_INPUT", outcome.detail);
      if (outcome.kind === "end") break;
    }
  } finally {
    lines.close();
    process.stdin.destroy();
    const report = shell.report();
    if (report !== "") process.stderr.write(`${report}\n`);
  }
}
