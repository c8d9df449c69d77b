/** The command line: parses, hands over, and turns errors into one clear line and an exit code. */
import { readFileSync } from "node:fs";
import { Command } from "commander";
import { type ErrorCode, KvError } from "../core/errors.ts";
import { addCompareCommand } from "./compare-command.ts";
import { addConfigCommand } from "./config-command.ts";
import { addEventsCommand } from "./events-command.ts";
import { addIndexCommand } from "./index-command.ts";
import { addPodsCommand } from "./pods-command.ts";
import { addPromptCommand } from "./prompt-command.ts";
import { addRelayCommand } from "./relay-command.ts";
import { addServeCommand } from "./serve-command.ts";
import { addSimulateCommand } from "./simulate-command.ts";
import { addTourCommand } from "./tour-command.ts";
import { addWhyCommand } from "./why-command.ts";

/** Exit codes: 0 done, 1 failed while working, 2 not accepted: arguments, configuration, ports. */
const NOT_ACCEPTED = 2;
const FAILED_WORKING: ReadonlySet<ErrorCode> = new Set([
  "ERR_PROCESS_FAILED",
  "ERR_DECISION_UNKNOWN",
]);

const program = new Command("kvatlas")
  .description("The atlas of an LLM fleet's KV cache, and the endpoint picker that uses it")
  .version(packageVersion())
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : NOT_ACCEPTED));
addServeCommand(program, packageVersion());
addRelayCommand(program, packageVersion());
addConfigCommand(program);
addEventsCommand(program);
addPodsCommand(program);
addIndexCommand(program);
addPromptCommand(program);
addWhyCommand(program);
addCompareCommand(program);
addSimulateCommand(program);
addTourCommand(program);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof KvError)) throw error;
  process.stderr.write(`${error.message}\n(${error.code})\n`);
  process.exitCode = FAILED_WORKING.has(error.code) ? 1 : NOT_ACCEPTED;
}

function packageVersion(): string {
  // The same place from src/cli in a checkout and from dist/cli in a package.
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const { version }: { readonly version: string } = JSON.parse(text);
  return version;
}
