/** The same requests under several policies, in the same simulated world. */
import type { Clock } from "../../core/clock.ts";
import { createPolicy, POLICY_NAMES, type PolicyName } from "../policies/policies.ts";
import { ProcessRouterLink } from "../sim/process-router-link.ts";
import { linkInProcess } from "../sim/router-link.ts";
import type { Scenario } from "../sim/scenario.ts";
import type { SimSummary } from "../sim/sim-outcome.ts";
import type { SimRequest } from "../sim/sim-request.ts";
import { Simulation, type SimulationDeps } from "../sim/simulation.ts";
import type { SessionOptions } from "../simulate/router-session.ts";

/** A policy by its name, or `command:` with a command line that speaks the simulate protocol. */
export interface ComparedPolicy {
  readonly name: string;
  readonly createLink: SimulationDeps["createLink"];
}

export interface ComparisonRow extends SimSummary {
  readonly policy: string;
}

const COMMAND = "command:";

/** Null: there is no such policy. `options` are those of `kvatlas`. */
export function policyNamed(
  name: string,
  clock: Clock,
  options: SessionOptions = {},
): ComparedPolicy | null {
  if (name.startsWith(COMMAND)) {
    const command = name.slice(COMMAND.length);
    return { name, createLink: () => new ProcessRouterLink(command, clock) };
  }
  if (!isPolicyName(name)) return null;
  const create = createPolicy(name, options);
  return { name, createLink: (replica, truth) => linkInProcess(create(replica, truth)) };
}

function isPolicyName(name: string): name is PolicyName {
  return POLICY_NAMES.some((known) => known === name);
}

/** Throws KvError ERR_PROCESS_FAILED when a policy's process fails. */
export async function runPolicy(
  { name, createLink }: ComparedPolicy,
  world: {
    readonly scenario: Scenario;
    readonly requests: readonly SimRequest[];
    readonly sloSeconds: number;
  },
): Promise<ComparisonRow> {
  const simulation = new Simulation(world.scenario, world.requests, { createLink });
  const outcome = await simulation.run();
  return { policy: name, ...outcome.summary(world.sloSeconds) };
}
