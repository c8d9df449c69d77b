/** `kvatlas index`: what a running router's index holds. */
import { type Command, Option } from "commander";
import type { QueryFlags, StatsFlags } from "./index-query.ts";
import { outputOption, refuseWithout, wholeNumber } from "./options.ts";

const URL_DEFAULT = "http://127.0.0.1:9090";

export function addIndexCommand(program: Command): void {
  const index = program.command("index").description("ask the index of a running router");
  index
    .command("query")
    .argument(
      "<file>",
      'token ids or hex keys: a JSON array, or split by white space or commas; "-" reads stdin',
    )
    .option("--keys", "the file has block keys in hex in place of token ids")
    .option(
      "--block-size <tokens>",
      "tokens per block of the keys; 16 where it is not given",
      wholeNumber(1),
    )
    .addOption(new Option("--lora <name>", "adapter of the prompt").conflicts("keys"))
    .addOption(new Option("--salt <text>", "cache salt of the prompt").conflicts("keys"))
    .option("--url <url>", "admin address of the router", URL_DEFAULT)
    .addOption(outputOption())
    .description("show what every endpoint holds of a prompt, by tier, and how well that is known")
    .addHelpText("after", "\nExample:\n  echo '[1, 2, 3]' | kvatlas index query -")
    .action(async (file: string, flags: QueryFlags, command: Command) => {
      refuseWithout(command, "blockSize", "keys");
      const { queryIndex } = await import("./index-query.ts");
      await queryIndex(file, flags);
    });
  index
    .command("stats")
    .option("--url <url>", "admin address of the router", URL_DEFAULT)
    .addOption(outputOption())
    .description("show how much the index holds")
    .addHelpText("after", "\nExample:\n  kvatlas index stats -o json")
    .action(async (flags: StatsFlags) => {
      const { showIndexStats } = await import("./index-query.ts");
      await showIndexStats(flags);
    });
}
