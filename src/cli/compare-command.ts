/** `kvatlas compare`: policies on the same requests, in simulated time. */
import { type Command, InvalidArgumentError } from "commander";
import type { CompareFlags } from "./compare.ts";
import { wholeNumber } from "./options.ts";

/** Policies compared when none is named. */
const POLICIES_DEFAULT = ["kvatlas", "round-robin", "least-requests", "llm-d", "dynamo"];

export function addCompareCommand(program: Command): void {
  program
    .command("compare")
    .argument("[trace]", "Mooncake-form trace; without it the generated --workload")
    .option("--policy <name>", "policy to compare; again for each (see below)", more)
    .option("--config <file>", "kvatlas.yaml: its routing and holding, as policy kvatlas")
    .option("--workload <name>", "generated workload", "conversation")
    .option(
      "--requests <n>",
      "requests: generated, or the first of the trace",
      wholeNumber(1, 1_000_000),
    )
    .option(
      "--load <share>",
      "offered load over the fleet's capacity; a trace is paced to it",
      positive,
    )
    .option("--pods <n>", "simulated pods", wholeNumber(1, 1024), 16)
    .option("--speeds <list>", "speeds that the pods take in turn, for example 1,2,4", speeds, [1])
    .option(
      "--decode-pods <n>",
      "of the pods: these only decode, the others only prefill",
      wholeNumber(0, 1023),
      0,
    )
    .option("--kv-tokens <n>", "KV tokens of a pod's GPU", wholeNumber(10_000, 1e9), 404_000)
    .option("--cpu-tokens <n>", "KV tokens of its CPU tier", wholeNumber(0, 1e9), 0)
    .option("--disk-tokens <n>", "KV tokens of its NVMe tier", wholeNumber(0, 1e10), 0)
    .option("--metrics-seconds <s>", "time between two scrapes of a pod", positive, 0.05)
    .option("--events-delay <s>", "delay of KV events", positive, 0.01)
    .option("--replicas <n>", "router replicas", wholeNumber(1, 64), 1)
    .option("--no-gossip", "replicas that do not share their dispatches")
    .option("--slo <s>", "objective for the time to first token, for goodput", positive, 2)
    .option("--seed <n>", "seed of requests and chance", wholeNumber(0, 4_294_967_295), 1)
    .option("--json", "JSON in place of the table")
    .description("compare routing policies on the same requests, in simulated time")
    .addHelpText("after", HELP)
    .action(async (trace: string | undefined, flags: CompareFlags) => {
      const { compare } = await import("./compare.ts");
      await compare(trace ?? null, { ...flags, policy: flags.policy ?? POLICIES_DEFAULT });
    });
}

const HELP = `
Policies: kvatlas, round-robin, least-requests, affinity (longest prefix alone), llm-d, gie, dynamo
(re-created from their published rules), oracle (sees the exact present state: a yardstick), command:CMD
(a process that speaks the simulate protocol). Workloads: conversation, agent, synthetic, paused, mix,
bursts, hot-prefix, hot-prefix-80.

Examples:
  kvatlas compare trace.jsonl --policy kvatlas --policy llm-d --load 0.9
  kvatlas compare --workload hot-prefix --load 0.8 --policy kvatlas --policy dynamo --json`;

function more(name: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), name];
}

function positive(text: string): number {
  const value = Number(text);
  if (value > 0 && value < 1e6) return value;
  throw new InvalidArgumentError("Expected a number over 0.");
}

function speeds(text: string): number[] {
  const values = text.split(",").map(Number);
  if (values.every((value) => value > 0 && value <= 100)) return values;
  throw new InvalidArgumentError("Expected numbers over 0, to 100, with commas between.");
}
