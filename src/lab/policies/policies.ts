/** The policies that can be compared, by name; `kvatlas` is this router as it ships. */
import type { SimTruth } from "../sim/simulation.ts";
import type { SimulatedRouter } from "../simulate/messages.ts";
import { RouterSession, type SessionOptions } from "../simulate/router-session.ts";
import { dynamo } from "./dynamo.ts";
import { gatewayDefault, llmD } from "./llm-d.ts";
import { Oracle } from "./oracle.ts";
import { PolicyRouter } from "./policy-router.ts";
import { affinity, leastRequests, roundRobin } from "./simple.ts";

export const POLICY_NAMES = [
  "kvatlas",
  "round-robin",
  "least-requests",
  "affinity",
  "llm-d",
  "gie",
  "dynamo",
  "oracle",
] as const;
export type PolicyName = (typeof POLICY_NAMES)[number];

/** A router for each replica, `kvatlas` with these options; the oracle is one for all of a simulation. */
export function createPolicy(
  name: PolicyName,
  options: SessionOptions = {},
): (replica: number, truth: SimTruth) => SimulatedRouter {
  switch (name) {
    case "kvatlas":
      return () => new RouterSession(options);
    case "round-robin":
      return () => new PolicyRouter(roundRobin());
    case "least-requests":
      return () => new PolicyRouter(leastRequests());
    case "affinity":
      return () => new PolicyRouter(affinity());
    case "llm-d":
      return () => new PolicyRouter(llmD());
    case "gie":
      return () => new PolicyRouter(gatewayDefault());
    case "dynamo":
      return () => new PolicyRouter(dynamo());
    case "oracle": {
      const oracles = new WeakMap<SimTruth, Oracle>();
      return (_, truth) => {
        const oracle = oracles.get(truth) ?? new Oracle(truth);
        oracles.set(truth, oracle);
        return oracle;
      };
    }
  }
}
