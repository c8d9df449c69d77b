/** `kvatlas prompt` and `kvatlas tokenize`: how prompts become tokens and keys, here and at an engine. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { ENGINES, isEngineVersion } from "../prompt/engine-rules.ts";
import { wholeNumber } from "./options.ts";
import type { PromptFlags } from "./prompt.ts";
import type { TokenizeFlags } from "./tokenize.ts";

const ENGINE_KIND = "the engine, as prompt.engine";
const ENGINE_VERSION = "the engine's version, as prompt.engineVersion";

export function addPromptCommand(program: Command): void {
  program
    .command("prompt")
    .argument("<files...>", "request bodies, read one after the other with one memo")
    .requiredOption("--model <name>", "base model of the pool; another name is an adapter's")
    .option("--path <path>", "path of the requests; without it told by the fields of each body")
    .option("--tokenizer <folder>", "the model's tokenizer files, to tokenise in this process")
    .option("--engine <host:port>", "engine to tokenise at, or for what cannot be done here")
    .addOption(new Option("--engine-kind <name>", ENGINE_KIND).choices(ENGINES))
    .option("--engine-version <version>", ENGINE_VERSION, engineVersion)
    .option("--block-size <tokens>", "tokens of a block", wholeNumber(), 16)
    .option("--key-seed <n>", "seed of the deployment, as index.keySeed", wholeNumber(), 0)
    .description("show how request bodies become token ids and block keys")
    .addHelpText(
      "after",
      "\nExample:\n  kvatlas prompt turn-1.json turn-2.json --model m --tokenizer ./tokenizer",
    )
    .action(async (files: readonly string[], flags: PromptFlags) => {
      const { showPrompts } = await import("./prompt.ts");
      await showPrompts(files, flags);
    });
  program
    .command("tokenize")
    .argument("[file]", "request body; without it canary prompts are compared")
    .requiredOption("--model <name>", "model as the engine names it")
    .requiredOption("--tokenizer <folder>", "the model's tokenizer files")
    .requiredOption("--engine <host:port>", "engine to compare with")
    .option("--path <path>", "path of the request; without it told by the fields of the body")
    .addOption(new Option("--engine-kind <name>", ENGINE_KIND).choices(ENGINES))
    .option("--engine-version <version>", ENGINE_VERSION, engineVersion)
    .description("compare token ids made here with an engine's; ends with 1 where they differ")
    .addHelpText(
      "after",
      "\nExample:\n  kvatlas tokenize --model m --tokenizer ./tokenizer --engine 10.0.0.1:8000",
    )
    .action(async (file: string | undefined, flags: TokenizeFlags) => {
      const { compareWithEngine } = await import("./tokenize.ts");
      await compareWithEngine(file ?? null, flags);
    });
}

function engineVersion(text: string): string {
  if (isEngineVersion(text)) return text;
  throw new InvalidArgumentError('expected a version such as "0.33.0"');
}
