/**
 * This router in simulated time: the served index, ledger and decision behind the simulate protocol.
 *
 * A thin shell: it translates messages, keeps the set semantics that the protocol gives KV events, and
 * has no rule of routing of its own. Its clock is the newest time that a message had, its chance is
 * seeded with the replica's number. Messages about what it does not know change nothing.
 */
import type { Clock } from "../../core/clock.ts";
import { type EndpointId, endpointId } from "../../core/ids.ts";
import { silentLog } from "../../core/log.ts";
import { silentMeter } from "../../core/meter.ts";
import { seededRandom } from "../../core/random.ts";
import type { EndpointSpec } from "../../fleet/endpoint.ts";
import { Fleet } from "../../fleet/fleet.ts";
import { shareLine } from "../../fleet/peer-loads.ts";
import { type FlowConfig, flowConfigSchema } from "../../flow/config.ts";
import { HoldingRoom } from "../../flow/holding-room.ts";
import { HotIndex } from "../../indexer/hot-index.ts";
import { InflightBlocks } from "../../indexer/inflight-blocks.ts";
import { type RouterConfig, routerConfigSchema } from "../../router/config.ts";
import type { Routed } from "../../router/decide.ts";
import { Dispatcher, type PromptToRoute } from "../../router/dispatcher.ts";
import { HeldBlocks } from "./held-blocks.ts";
import type {
  CountingRouter,
  FinishMessage,
  InitMessage,
  MetricsMessage,
  ModelFacts,
  PodFacts,
  PodState,
  RefusedMessage,
  RouteAnswer,
  RouteMessage,
  SimulateAnswer,
  SimulateMessage,
} from "./messages.ts";

/** Bytes of a body per token: what a held request counts for. */
const BYTES_PER_TOKEN = 4;
const NO_POD: RouteAnswer = { pod: null };

interface Pod {
  readonly facts: PodFacts;
  readonly endpointId: EndpointId;
  state: PodState;
}

/** What `init` makes. */
interface Running {
  readonly init: InitMessage;
  readonly pods: ReadonlyMap<string, Pod>;
  readonly nameOf: ReadonlyMap<EndpointId, string>;
  readonly fleet: Fleet;
  readonly dispatcher: Dispatcher;
  readonly index: HotIndex;
  readonly held: HeldBlocks;
  readonly room: HoldingRoom;
}

/** Keys of kvatlas.yaml for the router and for holding, over their defaults. */
export interface SessionOptions {
  readonly router?: Readonly<Record<string, unknown>>;
  readonly flow?: Readonly<Record<string, unknown>>;
}

export class RouterSession implements CountingRouter {
  readonly #options: SessionOptions;
  #running: Running | null = null;
  #nowMs = 0;
  #ignored = 0;
  readonly #clock: Clock = {
    nowMs: () => this.#nowMs,
    wallMs: () => this.#nowMs,
    after: () => () => {},
  };

  constructor(options: SessionOptions = {}) {
    this.#options = options;
  }

  get ignoredMessages(): number {
    return this.#ignored;
  }

  handle(message: SimulateMessage): SimulateAnswer | null {
    if (message.op === "end") return null;
    this.#nowMs = Math.max(this.#nowMs, 1000 * message.t);
    if (message.op === "init") {
      this.#running = this.#start(message);
      return { ok: true };
    }
    const running = this.#running;
    if (running === null) {
      this.#ignored += 1;
      return message.op === "route" ? NO_POD : null;
    }
    if (message.op === "route") return this.#route(running, message);
    // What has a pod beside its request ids, which are enough, may leave it out.
    const isAboutPod = "pod" in message && message.pod !== "";
    if (isAboutPod && !running.pods.has(message.pod)) this.#ignored += 1;
    this.#notice(running, message);
    return null;
  }

  #notice(running: Running, message: Exclude<SimulateMessage, InitMessage | RouteMessage>): void {
    const { fleet, pods, held } = running;
    const { ledger } = fleet;
    switch (message.op) {
      case "pod":
        this.#setPod(running, message.pod, message.state);
        return;
      case "kv": {
        const pod = pods.get(message.pod);
        if (pod !== undefined && pod.state !== "gone") held.apply(pod.endpointId, message);
        return;
      }
      case "metrics":
        this.#scraped(running, message);
        return;
      case "first_token":
        ledger.firstToken(String(message.id), this.#nowMs);
        return;
      case "progress":
        for (const id of message.ids) ledger.progressed(String(id), message.tokens);
        return;
      case "finish":
        this.#finished(running, message);
        return;
      case "refused":
        this.#refused(running, message);
        return;
      case "peer":
        fleet.peers.receive(message.share, this.#nowMs);
        return;
      case "end":
        return;
    }
  }

  #start(init: InitMessage): Running {
    const pods = new Map<string, Pod>();
    const nameOf = new Map<EndpointId, string>();
    for (const [number, facts] of init.pods.entries()) {
      // Names are free text; an endpoint is known by an address.
      const id = endpointId(`pod-${number}:1`);
      pods.set(facts.id, { facts, endpointId: id, state: facts.state });
      nameOf.set(id, facts.id);
    }
    const inflight = new InflightBlocks();
    const ports = { clock: this.#clock, log: silentLog, meter: silentMeter };
    const fleet = new Fleet({ ...ports, blocks: inflight });
    const config = routerConfig(init.model, this.#options.router ?? {});
    const random = seededRandom(init.replica + 1);
    const dispatcher = new Dispatcher({ fleet, inflight, config, random });
    const index = new HotIndex();
    const flow: FlowConfig = flowConfigSchema.parse(this.#options.flow ?? {});
    const room = new HoldingRoom(flow);
    const held = new HeldBlocks(index);
    const running = { init, pods, nameOf, fleet, dispatcher, index, held, room };
    applyPods(running);
    return running;
  }

  #route(running: Running, message: RouteMessage): RouteAnswer {
    const { init, pods, nameOf, fleet, index, dispatcher, room } = running;
    const requestId = String(message.id);
    fleet.ledger.ended(requestId);
    const keys = BigUint64Array.from(message.blocks, BigInt);
    const blockSizeTokens = init.block_size;
    const excluded = new Set(message.exclude.flatMap((name) => pods.get(name)?.endpointId ?? []));
    const prompt: PromptToRoute = {
      requestId,
      inputTokens: message.input_tokens,
      ...{ prompts: 1, isFirstTokenShown: true },
      sized: [{ blockSizeTokens, keys, matches: index.match(keys) }],
      ...{ subset: null, excluded, states: new Map() },
    };
    const decision = dispatcher.decide(prompt, this.#nowMs);
    if (decision.kind === "none") return NO_POD;
    if (this.#isHeld(room, prompt, decision)) return NO_POD;
    dispatcher.book(prompt, decision, { blockSizeTokens, nowMs: this.#nowMs });
    const pod = nameOf.get(decision.chosen.endpointId) ?? null;
    const { decodeEndpointId } = decision;
    return {
      pod,
      ...(decodeEndpointId === null ? {} : { decode_pod: nameOf.get(decodeEndpointId) ?? null }),
      ...(init.replicas > 1 ? { share: this.#share(running) } : {}),
    };
  }

  #isHeld(room: HoldingRoom, prompt: PromptToRoute, decision: Routed): boolean {
    if (decision.decodeEndpointId !== null) return false;
    const { requestId, inputTokens } = prompt;
    const answer = room.ask({
      requestId,
      bytes: BYTES_PER_TOKEN * inputTokens,
      queueMeanSeconds: decision.queueMeanSeconds,
      queueLeastSeconds: decision.queueLeastSeconds,
      workSeconds: decision.chosen.workSeconds,
      nowMs: this.#nowMs,
    });
    return answer === "held";
  }

  #share({ init, fleet }: Running): string {
    const { endpoints } = fleet.view(this.#nowMs);
    const loads = endpoints.map(({ spec, load }) => [spec.id, load] as const);
    const prompts = fleet.peers.prompts.takeText();
    return shareLine({ peer: String(init.replica), prompts }, loads, this.#nowMs);
  }

  #setPod(running: Running, name: string, state: PodState): void {
    const pod = running.pods.get(name);
    if (pod === undefined || pod.state === state) return;
    pod.state = state;
    if (state === "gone") running.held.forget(pod.endpointId);
    applyPods(running);
  }

  #scraped({ fleet, pods, init }: Running, message: MetricsMessage): void {
    const pod = pods.get(message.pod);
    if (pod === undefined) return;
    const { waiting, running, kv_usage: kvUsage } = message;
    const signals = {
      waiting,
      running,
      kvUsage,
      blockSizeTokens: init.block_size,
      gpuBlocks: null,
    };
    const atMs = Math.min(this.#nowMs, 1000 * message.scraped_at);
    fleet.scraped({ ok: true, endpointId: pod.endpointId, atMs, signals });
  }

  #finished({ fleet }: Running, { id, ok, output_tokens }: FinishMessage): void {
    const requestId = String(id);
    if (ok) {
      fleet.ledger.finished(requestId, output_tokens);
      return;
    }
    const endpoint = fleet.ledger.endpointOf(requestId);
    fleet.ledger.ended(requestId);
    if (endpoint !== null) fleet.faulted(endpoint, this.#nowMs);
  }

  #refused({ fleet, pods }: Running, { id, pod }: RefusedMessage): void {
    fleet.ledger.ended(String(id));
    const refusing = pods.get(pod);
    if (refusing !== undefined) fleet.faulted(refusing.endpointId, this.#nowMs);
  }
}

function applyPods({ fleet, pods }: Running): void {
  const present = [...pods.values()].filter(({ state }) => state !== "gone");
  fleet.apply(present.map(specOf));
}

function specOf({ facts, endpointId: id, state }: Pod): EndpointSpec {
  return {
    id,
    name: facts.id,
    pool: "simulated",
    model: "simulated",
    role: facts.role,
    poolTokens: facts.kv_tokens,
    kvEvents: null,
    metricsUrl: null,
    isDraining: state === "draining",
    accelerator: null,
  };
}

/** The configuration as shipped, with the model that the simulator tells. */
function routerConfig(model: ModelFacts, over: Readonly<Record<string, unknown>>): RouterConfig {
  /** What cannot be done is as good as never done. */
  const rate = (perSecond: number): number => (perSecond > 0 ? perSecond : 1);
  return routerConfigSchema.parse({
    prefillTokensPerSecond:
      model.prefill_s_per_token > 0 ? 1 / model.prefill_s_per_token : undefined,
    attentionSecondsPerPair: model.attn_s_per_pair,
    stepSeconds: model.step_base_s,
    decodeSecondsPerContextToken: model.decode_s_per_ctx_token,
    chunkTokens: Math.max(1, Math.round(model.chunk_tokens)),
    kvBytesPerToken: rate(model.kv_bytes_per_token),
    cpuBytesPerSecond: rate(model.cpu_bw),
    nvmeBytesPerSecond: rate(model.disk_bw),
    ...over,
  });
}
