/** Real programs for tests: found, or the tests that need them are skipped with the reason. */
import {
  BINARIES_FOLDER,
  type BinaryName,
  type Environment,
  resolveBinary,
} from "../../src/lab/process-binaries.ts";

export interface RequiredBinary {
  /** Empty when it is missing. */
  readonly path: string;
  readonly isMissing: boolean;
  /** For the title of the suite that is skipped; empty when the program is there. */
  readonly note: string;
}

/** In CI (CI=true) a missing program is a failure. Use: `describe.skipIf(x.isMissing)(...)`. */
export async function requireBinary(
  name: BinaryName,
  env: Environment = process.env,
): Promise<RequiredBinary> {
  const found = await resolveBinary(name, { env, folder: BINARIES_FOLDER });
  if (found.isFound) return { path: found.path, isMissing: false, note: "" };
  const reason = `${name} is missing: ${found.reason}`;
  if (env["CI"] === "true") throw new Error(`${reason}; run node scripts/fetch-binaries.ts`);
  return { path: "", isMissing: true, note: ` (skipped: ${reason})` };
}
