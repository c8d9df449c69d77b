/** `kvatlas events`: looks at KV events as an engine sends them. */
import { type Command, Option } from "commander";
import { ENGINE_DEFAULT, ENGINE_NAMES, type EngineName } from "../core/engine-name.ts";
import type { RecordFlags } from "./events.ts";
import type { ApplyFlags } from "./events-apply.ts";
import { refuseWithout, wholeNumber, zmqAddress } from "./options.ts";

export function addEventsCommand(program: Command): void {
  const events = program.command("events").description("look at KV events of engines");
  events
    .command("decode")
    .argument("<file>", 'capture: one JSON object per message, {"topic","seq","payload_hex"}')
    .addOption(engineOption())
    .description("print what each message of a capture says, one JSON object a line")
    .addHelpText("after", "\nExample:\n  kvatlas events decode capture.jsonl --engine trtllm")
    .action(async (file: string, { engine }: { readonly engine: EngineName }) => {
      const { decodeCapture } = await import("./events.ts");
      await decodeCapture(file, engine);
    });
  events
    .command("apply")
    .argument("<file>", "capture of one endpoint")
    .requiredOption(
      "--prompts <file>",
      'JSON: [{"tokenIds","loraName"?,"loraId"?,"cacheSalt"?,"extraKeys"?}]',
    )
    .addOption(engineOption())
    .option("--after <n>", "apply the first n messages only", wholeNumber())
    .option("--replay <file>", "recorded replay exchanges that answer a gap; with --start")
    .option(
      "--start <seq>",
      "start sequence of the exchange; 0 where it is not given",
      wholeNumber(),
    )
    .description("print what an index fed with a capture would know of each prompt")
    .addHelpText(
      "after",
      `
A prompt's extraKeys are those that decode prints of its blocks; where they begin with an adapter's name,
it also needs loraName. A line that is no message ends the capture: what stands before it is applied,
DEGRADED (capture-cut), and the line is named (exit code 2).

Example:
  kvatlas events apply capture.jsonl --prompts prompts.json --after 10`,
    )
    .action(async (file: string, flags: ApplyFlags, command: Command) => {
      refuseWithout(command, "start", "replay");
      const { printAppliedCapture } = await import("./events-apply.ts");
      await printAppliedCapture(file, flags);
    });
  events
    .command("record")
    .requiredOption(
      "--zmq <address>",
      "address that the engine publishes at, tcp://host:port",
      zmqAddress,
    )
    .requiredOption("-o, --output <file>", "file to write; it holds the prompts' token ids")
    .option("--force", "write over a file that is there")
    .option("--topic <prefix>", "topic to read; all without it", "")
    .description("write an engine's KV events to a capture until Ctrl-C")
    .addHelpText(
      "after",
      "\nExample:\n  kvatlas events record --zmq tcp://10.0.0.1:5557 -o capture.jsonl",
    )
    .action(async (flags: RecordFlags) => {
      const { recordCapture } = await import("./events.ts");
      await recordCapture(flags);
    });
}

function engineOption(): Option {
  return new Option("--engine <name>", "whose events they are; vllm reads SGLang's too")
    .choices(ENGINE_NAMES)
    .default(ENGINE_DEFAULT);
}
