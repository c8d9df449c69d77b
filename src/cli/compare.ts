/** `kvatlas compare`: builds the world and the requests, runs the policies, prints what came out. */
import { loadConfig } from "../config/file-config.ts";
import { KvError } from "../core/errors.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import {
  type ComparedPolicy,
  type ComparisonRow,
  policyNamed,
  runPolicy,
} from "../lab/compare/compare-policies.ts";
import { comparisonTable } from "../lab/compare/comparison-table.ts";
import { recommend } from "../lab/compare/recommendation.ts";
import { POLICY_NAMES } from "../lab/policies/policies.ts";
import { atLoad, offeredLoad } from "../lab/sim/offered-load.ts";
import { SCENARIO_DEFAULTS, type Scenario } from "../lab/sim/scenario.ts";
import type { SimRequest } from "../lab/sim/sim-request.ts";
import { simRequests } from "../lab/sim/trace-requests.ts";
import { WORKLOAD_NAMES, WORKLOADS } from "../lab/sim/workloads.ts";
import type { SessionOptions } from "../lab/simulate/router-session.ts";
import { readTrace } from "../lab/workload/file-trace.ts";
import { printLine, printTable } from "./print.ts";

/** As commander hands them over. */
export interface CompareFlags {
  readonly policy?: readonly string[];
  readonly config?: string;
  readonly workload: string;
  readonly requests?: number;
  readonly load?: number;
  readonly pods: number;
  readonly speeds: readonly number[];
  readonly decodePods: number;
  readonly kvTokens: number;
  readonly cpuTokens: number;
  readonly diskTokens: number;
  readonly metricsSeconds: number;
  readonly eventsDelay: number;
  readonly replicas: number;
  readonly gossip: boolean;
  readonly slo: number;
  readonly seed: number;
  readonly json?: true;
}

const REQUESTS_DEFAULT = 4000;
const LOAD_DEFAULT = 0.8;

export async function compare(trace: string | null, flags: CompareFlags): Promise<void> {
  const options = optionsOf(flags.config);
  const policies = (flags.policy ?? []).map((name) => policyOf(name, options));
  const scenario = scenarioOf(flags);
  const requests =
    trace === null ? drawWorkload(flags, scenario) : await readRequests(trace, flags, scenario);
  const load = offeredLoad(requests, scenario);
  const name = trace ?? flags.workload;
  if (flags.json !== true) {
    const seconds = (requests.at(-1)?.atSeconds ?? 0).toFixed(0);
    await printLine(
      `${name}: ${requests.length} requests in ${seconds} s, ${flags.pods} pods, ` +
        `offered load ${load.toFixed(2)}, seed ${flags.seed}\n`,
    );
  }
  const rows: ComparisonRow[] = [];
  for (const policy of policies) {
    rows.push(await runPolicy(policy, { scenario, requests, sloSeconds: flags.slo }));
  }
  const recommendation = recommend(rows);
  if (flags.json === true) {
    const world = { workload: name, requests: requests.length, load, seed: flags.seed };
    await printLine(
      JSON.stringify({ ...world, sloSeconds: flags.slo, rows, recommendation }, null, 2),
    );
    return;
  }
  await printTable(comparisonTable(rows));
  await printLine(`\nRecommended: ${recommendation.text}.`);
}

/** What a file says of routing and holding; the model's times are those of the simulated pods. */
function optionsOf(file: string | undefined): SessionOptions {
  if (file === undefined) return {};
  const { router, flow } = loadConfig(file);
  const { policy, kvUsageKnee, signalUsefulMs, popularity } = router;
  return { router: { policy, kvUsageKnee, signalUsefulMs, popularity }, flow };
}

function policyOf(name: string, options: SessionOptions): ComparedPolicy {
  const policy = policyNamed(name, nodeClock, options);
  if (policy !== null) return policy;
  const known = [...POLICY_NAMES, "command:CMD"].join(", ");
  throw new KvError("ERR_CONFIG_INVALID", `--policy: got "${name}", expected one of ${known}`);
}

function scenarioOf(flags: CompareFlags): Scenario {
  const { pods, decodePods, speeds } = flags;
  if (decodePods >= pods) {
    const message = `--decode-pods: got ${decodePods}, expected fewer than the ${pods} pods`;
    throw new KvError("ERR_CONFIG_INVALID", message);
  }
  const role = (index: number): "both" | "prefill" | "decode" => {
    if (decodePods === 0) return "both";
    return index < pods - decodePods ? "prefill" : "decode";
  };
  return {
    ...SCENARIO_DEFAULTS,
    pods: Array.from({ length: pods }, (_, index) => ({
      role: role(index),
      speed: speeds[index % speeds.length] ?? 1,
    })),
    kvTokens: flags.kvTokens,
    cpuTokens: flags.cpuTokens,
    diskTokens: flags.diskTokens,
    scrapeSeconds: flags.metricsSeconds,
    kvDelaySeconds: flags.eventsDelay,
    replicas: flags.replicas,
    isGossipOn: flags.gossip,
    seed: flags.seed,
  };
}

function drawWorkload(flags: CompareFlags, scenario: Scenario): SimRequest[] {
  const name = WORKLOAD_NAMES.find((known) => known === flags.workload);
  if (name === undefined) {
    const known = WORKLOAD_NAMES.join(", ");
    const message = `--workload: got "${flags.workload}", expected one of ${known}`;
    throw new KvError("ERR_CONFIG_INVALID", message);
  }
  const demand = {
    requests: flags.requests ?? REQUESTS_DEFAULT,
    load: flags.load ?? LOAD_DEFAULT,
  };
  return WORKLOADS[name].draw(demand, scenario, seededRandom(flags.seed));
}

/** At its recorded pace, or paced to the load; prompts that no pod could ever hold are refused. */
async function readRequests(
  path: string,
  flags: CompareFlags,
  scenario: Scenario,
): Promise<SimRequest[]> {
  const requests = simRequests(await readTrace(path)).slice(0, flags.requests);
  const longest = requests.reduce(
    (most, { inputTokens, outputTokens }) => Math.max(most, inputTokens + outputTokens),
    0,
  );
  if (longest + scenario.blockTokens > scenario.kvTokens) {
    const message = `${path}: a request of ${longest} tokens, limit --kv-tokens ${scenario.kvTokens}`;
    throw new KvError("ERR_TRACE_INVALID", message);
  }
  return flags.load === undefined ? requests : atLoad(requests, flags.load, scenario);
}
