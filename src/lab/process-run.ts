/** Runs a program to its end. */
import { execFile } from "node:child_process";

/** Output kept, bytes; more ends the program. */
const OUTPUT_BYTES_MAX = 1_048_576;

export interface RunResult {
  readonly isSuccess: boolean;
  /** stdout and stderr; or why the program could not be run. */
  readonly output: string;
}

/** Never rejects. The program is ended after `limitMs`. */
export function runToEnd(
  command: string,
  args: readonly string[],
  limitMs: number,
): Promise<RunResult> {
  return new Promise((resolve) => {
    const options = { timeout: limitMs, maxBuffer: OUTPUT_BYTES_MAX };
    execFile(command, [...args], options, (error, stdout, stderr) => {
      const output = `${stdout}${stderr}`.trim();
      const isSuccess = error === null;
      resolve({ isSuccess, output: output === "" && error !== null ? error.message : output });
    });
  });
}
