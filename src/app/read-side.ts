/** The read path put together: what decides, what watches the pods, what answers queries. */
import type { Config } from "../config/schema.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import type { EvictionBoard } from "../indexer/eviction-board.ts";
import { DecisionRing } from "../observe/decision-ring.ts";
import { engineRules } from "../prompt/engine-rules.ts";
import type { PromptReader } from "../prompt/prompt-reader.ts";
import type { PromptTokenizer } from "../prompt/prompt-tokenizer.ts";
import type { IndexQueries } from "../query/index-queries.ts";
import type { RecordedRequest } from "../router/decision-record.ts";
import { Dispatcher } from "../router/dispatcher.ts";
import type { KeptDecision } from "../router/kept-decision.ts";
import type { FollowedFleet } from "./followed-fleet.ts";
import { IndexAnswers } from "./index-answers.ts";
import { createPicker, createPromptReader, type KvPicker } from "./kv-picker.ts";
import { LocalDecider } from "./local-decider.ts";
import { ParityWatch } from "./parity-watch.ts";
import { createPods, type Pods } from "./pods.ts";
import type { WriteSide } from "./write-side.ts";

export interface ReadSideDeps {
  readonly writeSide: Pick<WriteSide, "index" | "holders" | "events">;
  readonly evictions: EvictionBoard;
  readonly followed: Pick<FollowedFleet, "fleet" | "inflight">;
  /** Null: text is routed by load. */
  readonly tokenizer: PromptTokenizer | null;
  /** Called after each dispatch. */
  readonly onDispatch: () => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly meter: Meter;
}

export interface ReadSide {
  readonly decider: LocalDecider;
  readonly prompt: PromptReader;
  readonly picker: KvPicker;
  readonly pods: Pods;
  readonly parity: ParityWatch;
  readonly queries: IndexQueries;
  readonly decisions: DecisionRing<KeptDecision<RecordedRequest>>;
}

/** Nothing runs yet: `pods.watch` and `parity` are to be started and stopped. */
export async function createReadSide(config: Config, deps: ReadSideDeps): Promise<ReadSide> {
  const { followed, clock, meter, random, log, onDispatch } = deps;
  const { index, holders, events } = deps.writeSide;
  const { fleet } = followed;
  const rules = engineRules(config.prompt);
  const prompt = await createPromptReader(config, { meter, tokenizer: deps.tokenizer });
  const ports = { clock, log, meter };
  const { model } = config;
  const { tokenizer } = deps;
  const parity = new ParityWatch({ ...ports, fleet, model, tokenizer, rules });
  const pods = createPods({
    ...{ ...ports, events, holders, evictions: deps.evictions, fleet, parity },
    assumedLifeMs: config.router.assumedLifeMs,
  });
  const matching = { index, holders, fleet, clock, meter, knowledge: pods.knowledge };
  const decisions = new DecisionRing<KeptDecision<RecordedRequest>>(config.observe.decisionsMax);
  const decider = new LocalDecider({
    ...{ ...matching, ...pods, log, flow: config.flow, decisions, onDispatch },
    dispatcher: new Dispatcher({ ...followed, config: config.router, random }),
  });
  return {
    pods,
    parity,
    decisions,
    decider,
    prompt,
    picker: createPicker(config, { prompt, decider }),
    queries: new IndexAnswers({ ...matching, prompt }),
  };
}
