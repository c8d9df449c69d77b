/**
 * Runs requests through router replicas and simulated pods, in simulated time.
 *
 * The router learns only what the simulate protocol tells, as late as the scenario says: KV events
 * and metrics with their delays, a death after one second, a drain or a return after a tenth. What
 * happens is decided by the scenario, the requests and the answers alone: the same input gives the
 * same outcome.
 */
import { type Random, seededRandom } from "../../core/random.ts";
import type { RouteAnswer, SimulateMessage } from "../simulate/messages.ts";
import { EventHeap } from "./event-heap.ts";
import { PodHost } from "./pod-host.ts";
import type { RouterLink } from "./router-link.ts";
import { type Fault, modelFacts, podFacts, podId, podShape, type Scenario } from "./scenario.ts";
import { SimOutcome } from "./sim-outcome.ts";
import type { PodRequest, StepEnd } from "./sim-pod.ts";
import type { SimRequest } from "./sim-request.ts";

const SCRAPE_DELAY_SECONDS = 0.01;
const SHARE_DELAY_SECONDS = 0.005;
const HOLD_SECONDS = 0.25;
const RETRY_SECONDS = 0.05;
/** Until the router hears of it. */
const NOTICE_SECONDS = { death: 1, drain: 0.1, up: 0.1 } as const;
/** Steps of a pod between two reports of streamed tokens. */
const PROGRESS_STEPS = 16;
/** What has not ended this long after the last arrival is lost. */
const PATIENCE_SECONDS = 3600;

/** A request on its way. */
interface Flight {
  readonly id: number;
  readonly request: SimRequest;
  readonly replica: number;
  /** Pods that refused it since it was last accepted. */
  exclude: readonly string[];
  decodePod: PodHost | null;
  /** Tokens of which the router knows. */
  reportedTokens: number;
}

/** What an exact-state reference may see. */
export interface SimTruth {
  readonly hosts: readonly PodHost[];
  readonly scenario: Scenario;
}

export interface SimulationDeps {
  /** One router for each replica; `truth` is for references only. */
  readonly createLink: (replica: number, truth: SimTruth) => RouterLink;
}

export class Simulation {
  readonly #scenario: Scenario;
  readonly #heap = new EventHeap();
  readonly #random: Random;
  readonly #hosts: readonly PodHost[];
  readonly #links: readonly RouterLink[];
  readonly #flights: readonly Flight[];
  readonly #outcome: SimOutcome;
  #nowSeconds = 0;
  #unfinished: number;

  constructor(scenario: Scenario, requests: readonly SimRequest[], deps: SimulationDeps) {
    this.#scenario = scenario;
    this.#random = seededRandom(scenario.seed);
    this.#unfinished = requests.length;
    this.#outcome = new SimOutcome(requests);
    this.#hosts = scenario.pods.map((pod, index) => {
      const place = { id: podId(index), role: pod.role };
      return new PodHost(place, podShape(scenario, pod), {
        heap: this.#heap,
        nowSeconds: () => this.#nowSeconds,
        onStepEnd: (host, end) => this.#onStepEnd(host, end),
        onKvChange: (host, tier, change) => {
          for (const type of ["stored", "removed"] as const) {
            const blocks = change[type];
            if (blocks.length === 0) continue;
            const { life } = host;
            this.#after(scenario.kvDelaySeconds, () => {
              if (life !== host.life) return;
              this.#tellAll({ op: "kv", t: this.#nowSeconds, pod: host.id, type, tier, blocks });
            });
          }
        },
      });
    });
    const truth = { hosts: this.#hosts, scenario };
    this.#links = Array.from({ length: scenario.replicas }, (_, replica) =>
      deps.createLink(replica, truth),
    );
    this.#flights = requests.map((request, id) => ({
      id,
      request,
      replica: Math.floor(this.#random.next() * scenario.replicas),
      exclude: [],
      decodePod: null,
      reportedTokens: 0,
    }));
  }

  /** To be called once. Throws what a link throws. */
  async run(): Promise<SimOutcome> {
    const lastSeconds = this.#flights.at(-1)?.request.atSeconds ?? 0;
    try {
      await this.#init();
      while (this.#unfinished > 0) {
        const event = this.#heap.take();
        if (event === undefined || event.atSeconds > lastSeconds + PATIENCE_SECONDS) break;
        this.#nowSeconds = event.atSeconds;
        const pending = event.run();
        if (pending !== undefined) await pending;
      }
    } finally {
      await Promise.all(this.#links.map((link) => link.end()));
    }
    this.#outcome.close(this.#hosts, this.#nowSeconds);
    return this.#outcome;
  }

  async #init(): Promise<void> {
    const scenario = this.#scenario;
    for (const [replica, link] of this.#links.entries()) {
      await link.init({
        op: "init",
        v: 1,
        t: 0,
        replica,
        replicas: scenario.replicas,
        block_size: scenario.blockTokens,
        pods: podFacts(scenario),
        model: modelFacts(scenario),
      });
    }
    for (const [index, host] of this.#hosts.entries()) {
      const offset = (scenario.scrapeSeconds * (index + 1)) / (this.#hosts.length + 1);
      this.#after(offset, () => this.#scrape(host));
    }
    for (const fault of scenario.faults) this.#at(fault.atSeconds, () => this.#strike(fault));
    for (const flight of this.#flights) {
      this.#at(flight.request.atSeconds, () => this.#route(flight));
    }
  }

  #at(atSeconds: number, run: () => void | Promise<void>): void {
    this.#heap.add(atSeconds, run);
  }

  #after(seconds: number, run: () => void | Promise<void>): void {
    this.#heap.add(this.#nowSeconds + seconds, run);
  }

  #tellAll(message: SimulateMessage): void {
    for (const link of this.#links) link.tell(message);
  }

  #route(flight: Flight): void | Promise<void> {
    const { id, request, exclude } = flight;
    const answer = this.#links[flight.replica]?.route({
      op: "route",
      t: this.#nowSeconds,
      id,
      session: request.session,
      input_tokens: request.inputTokens,
      blocks: request.blocks,
      exclude,
    });
    if (answer instanceof Promise) return answer.then((later) => this.#dispatch(flight, later));
    this.#dispatch(flight, answer ?? { pod: null });
  }

  #dispatch(flight: Flight, answer: RouteAnswer): void {
    if (answer.share !== undefined && answer.share !== "")
      this.#gossip(flight.replica, answer.share);
    const host = this.#hostOf(answer.pod);
    if (host === null) {
      this.#outcome.held(flight.id);
      // A pod that refused it may be back by then.
      flight.exclude = [];
      this.#after(HOLD_SECONDS, () => this.#route(flight));
      return;
    }
    const decodePod = this.#hostOf(answer.decode_pod ?? null);
    const refusing = [host, ...(decodePod === null ? [] : [decodePod])].find(
      ({ isAccepting }) => !isAccepting,
    );
    if (refusing !== undefined) {
      this.#outcome.refused += 1;
      const { id } = flight;
      this.#links[flight.replica]?.tell({
        op: "refused",
        t: this.#nowSeconds,
        id,
        pod: refusing.id,
      });
      flight.exclude = [...flight.exclude, refusing.id];
      this.#after(RETRY_SECONDS, () => this.#route(flight));
      return;
    }
    flight.exclude = [];
    flight.decodePod = decodePod;
    flight.reportedTokens = 1;
    host.submit(podRequest(flight));
  }

  #gossip(replica: number, share: string): void {
    if (!this.#scenario.isGossipOn) return;
    this.#after(SHARE_DELAY_SECONDS, () => {
      for (const [other, link] of this.#links.entries()) {
        if (other !== replica) link.tell({ op: "peer", t: this.#nowSeconds, share });
      }
    });
  }

  #onStepEnd(host: PodHost, { firstTokens, finished }: StepEnd): void {
    const t = this.#nowSeconds;
    for (const request of firstTokens) {
      const flight = this.#flights[request.id];
      if (flight === undefined) continue;
      this.#links[flight.replica]?.tell({ op: "first_token", t, id: flight.id });
      this.#outcome.firstToken(flight.id, t, request.cachedTokens ?? 0);
      if (flight.decodePod !== null && !finished.includes(request)) this.#transfer(host, request);
    }
    for (const request of finished) this.#finish(request);
    if (host.pod.steps % PROGRESS_STEPS === 0) this.#reportProgress(host);
  }

  /** The prefill is done: the KV travels to the decode pod. */
  #transfer(host: PodHost, request: PodRequest): void {
    const flight = this.#flights[request.id];
    const decodePod = flight?.decodePod ?? null;
    if (flight === undefined || decodePod === null) return;
    host.pod.leave(request);
    const { kvBytesPerToken, transferBandwidth } = this.#scenario;
    const { life } = decodePod;
    this.#after((request.promptTokens * kvBytesPerToken) / transferBandwidth, () => {
      if (life !== decodePod.life) this.#fail(flight, request.generated);
      else
        decodePod.submit({ ...podRequest(flight), generated: 1, isTransferred: true, blocks: [] });
    });
  }

  #finish(request: PodRequest): void {
    const flight = this.#flights[request.id];
    if (flight === undefined) return;
    const { id, replica } = flight;
    const t = this.#nowSeconds;
    const output_tokens = request.generated;
    this.#links[replica]?.tell({ op: "finish", t, id, output_tokens, ok: true });
    this.#outcome.finished(id);
    this.#unfinished -= 1;
  }

  /** The stream broke off: the request is routed again. */
  #fail(flight: Flight, outputTokens: number): void {
    const { id, replica } = flight;
    const t = this.#nowSeconds;
    this.#links[replica]?.tell({ op: "finish", t, id, output_tokens: outputTokens, ok: false });
    this.#outcome.broken(id);
    this.#after(RETRY_SECONDS, () => this.#route(flight));
  }

  #reportProgress(host: PodHost): void {
    const groups = new Map<string, { replica: number; tokens: number; ids: number[] }>();
    for (const { id, generated } of host.pod.running) {
      const flight = this.#flights[id];
      if (flight === undefined || generated <= flight.reportedTokens) continue;
      const tokens = generated - flight.reportedTokens;
      flight.reportedTokens = generated;
      const key = `${flight.replica} ${tokens}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { replica: flight.replica, tokens, ids: [id] });
      else group.ids.push(id);
    }
    const t = this.#nowSeconds;
    for (const { replica, tokens, ids } of groups.values()) {
      this.#links[replica]?.tell({ op: "progress", t, pod: host.id, ids, tokens });
    }
  }

  #scrape(host: PodHost): void {
    const scrapedAt = this.#nowSeconds;
    if (host.state !== "gone") {
      const { pod } = host;
      const seen = {
        waiting: pod.waiting.length,
        running: pod.running.length,
        kv_usage: pod.cache.usage,
      };
      this.#after(SCRAPE_DELAY_SECONDS, () =>
        this.#tellAll({
          op: "metrics",
          t: this.#nowSeconds,
          pod: host.id,
          scraped_at: scrapedAt,
          ...seen,
        }),
      );
    }
    this.#after(this.#scenario.scrapeSeconds, () => this.#scrape(host));
  }

  #strike({ kind, pod }: Fault): void {
    const host = this.#hosts[pod];
    if (host === undefined) return;
    if (kind === "death") {
      for (const { id, generated } of host.die()) {
        const flight = this.#flights[id];
        if (flight !== undefined) this.#fail(flight, generated);
      }
    } else host.state = kind === "drain" ? "draining" : "ready";
    const state = ({ death: "gone", drain: "draining", up: "ready" } as const)[kind];
    this.#after(NOTICE_SECONDS[kind], () =>
      this.#tellAll({ op: "pod", t: this.#nowSeconds, pod: host.id, state }),
    );
  }

  #hostOf(id: string | null): PodHost | null {
    return this.#hosts.find((host) => host.id === id) ?? null;
  }
}

function podRequest({ id, request }: Flight): PodRequest {
  return {
    id,
    promptTokens: request.inputTokens,
    outputTokens: request.outputTokens,
    blocks:
      request.answerBlocks.length === 0
        ? request.blocks
        : [...request.blocks, ...request.answerBlocks],
    slots: [],
    generated: 0,
    computedTokens: 0,
    cachedTokens: null,
    storedBlocks: 0,
    scheduledTokens: 0,
    isTransferred: false,
  };
}
