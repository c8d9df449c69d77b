/** `kvatlas tour`: shows on this machine what kvatlas is for. */
import { type Command, InvalidArgumentError } from "commander";
import { wholeNumber } from "./options.ts";
import type { TourFlags } from "./tour.ts";

export function addTourCommand(program: Command): void {
  program
    .command("tour")
    .description("compare kvatlas with round robin on simulated engines, on this machine")
    .option("--seconds <n>", "length of each of the two phases", wholeNumber(1, 300), 35)
    .option("--engines <n>", "simulated engines", wholeNumber(1, 16), 4)
    .option("--seed <n>", "seed of the generated work", wholeNumber(0, 4_294_967_295), 1)
    .option("--trace <file>", "send a Mooncake-format trace instead of generated work")
    .option("--keep", "leave everything running afterwards, until Ctrl-C")
    .option("--listen <host:port>", "address of Envoy", listenAddress, "127.0.0.1:18080")
    .option("--no-nats", "KV events straight into the index")
    .option("--no-envoy", "the built-in client in Envoy's place")
    .option("--plain", "no cursor control; the default when the output is not a terminal")
    .addHelpText("after", "\nExamples:\n  kvatlas tour\n  kvatlas tour --keep --engines 6")
    .action(async (flags: TourFlags) => {
      const { tour } = await import("./tour.ts");
      process.exitCode = await tour(flags);
    });
}

function listenAddress(text: string): string {
  const port = Number(/^(?:\[[\da-fA-F:.]+\]|[\w.-]+):(\d{1,5})$/.exec(text)?.[1]);
  if (port <= 65_535) return text;
  throw new InvalidArgumentError("Expected host:port.");
}
