/**
 * One request from body to destination: prompt -> keys -> longest prefixes -> decision -> ledger.
 *
 * Everything after the prompt's token ids is synchronous, so that no other request or event comes
 * between a match, its decision and the booking of the work it brings.
 */
import type { Clock } from "../core/clock.ts";
import { endpointId, isEndpointAddress } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import type { EndOfRequest, Picker, PickOutcome, PickRequest } from "../extproc/picker.ts";
import type { Fleet, FleetView } from "../fleet/fleet.ts";
import type { Dispatch } from "../fleet/ledger.ts";
import type { IndexReader } from "../indexer/block-index.ts";
import type { PromptReader, PromptReading } from "../prompt/prompt-reader.ts";
import type { RouterConfig } from "../router/config.ts";
import { type Candidate, type Decision, decide } from "../router/decide.ts";
import { endpointMatches } from "../router/endpoint-match.ts";
import { stateText } from "../router/known-state.ts";
import { Popularity } from "../router/popularity.ts";
import type { AnswerBook } from "./answer-book.ts";
import type { KnownFleet, PodKnowledge } from "./pod-knowledge.ts";
import { type MatchInput, matchPrompt, type PromptMatch } from "./prompt-match.ts";
import type { KnownHolders } from "./write-side.ts";

export interface KvPickerDeps {
  readonly index: IndexReader;
  readonly holders: KnownHolders;
  readonly fleet: Fleet;
  readonly prompt: PromptReader;
  readonly knowledge: PodKnowledge;
  readonly answers: AnswerBook;
  readonly config: RouterConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly meter: Meter;
}

interface DecidedPrompt {
  readonly inputTokens: number;
  /** The finest of `keysBySize`. */
  readonly keys: BigUint64Array;
  readonly keysBySize: ReadonlyMap<number, BigUint64Array>;
  readonly known: KnownFleet;
  readonly nowMs: number;
  /** Null: by load alone. */
  readonly reading: PromptReading | null;
}

type Routed = Extract<Decision, { kind: "routed" }>;

/** Bytes of a body per token, where its tokens are not known. */
const BYTES_PER_TOKEN = 4;

export class KvPicker implements Picker {
  readonly #deps: KvPickerDeps;
  readonly #popularity: Popularity;
  /** Requests given out and not ended, as many as the edge has streams. */
  readonly #flights = new Map<string, Dispatch>();
  #turn = 0;

  constructor(deps: KvPickerDeps) {
    this.#deps = deps;
    this.#popularity = new Popularity(deps.config.popularity);
  }

  async pick(request: PickRequest, signal: AbortSignal): Promise<PickOutcome> {
    const reading = await this.#deps.prompt.read(request, signal);
    if (reading.reason === "not-json") {
      this.#deps.meter.count("kvatlas_decisions_total", { outcome: "body-invalid" });
      return { kind: "refuse", status: 400, reason: "body-invalid", message: reading.detail };
    }
    // Past the deadline the edge has taken the load-only choice: nothing is booked here.
    if (signal.aborted) return NO_ENDPOINT;
    return this.#decide(request, reading);
  }

  pickByLoad(request: PickRequest): PickOutcome {
    return this.#decide(request, null);
  }

  responseStarted(requestId: string, status: number, servedBy: string | null): void {
    this.#deps.answers.started(requestId, status);
    const flight = this.#flights.get(requestId);
    if (flight === undefined || servedBy === null || !isEndpointAddress(servedBy)) return;
    if (servedBy === flight.endpointId) return;
    // The gateway retried elsewhere: the work is where the request was served.
    const moved = { ...flight, endpointId: endpointId(servedBy) };
    this.#flights.set(requestId, moved);
    this.#deps.fleet.ledger.dispatched(moved);
    this.#deps.answers.moved(requestId, moved.endpointId);
  }

  firstByte(requestId: string): void {
    const nowMs = this.#deps.clock.nowMs();
    this.#deps.fleet.ledger.firstToken(requestId, nowMs);
    this.#deps.answers.firstByte(requestId, nowMs);
  }

  ended(requestId: string, end: EndOfRequest): void {
    this.#flights.delete(requestId);
    this.#deps.fleet.ledger.ended(requestId);
    this.#deps.answers.ended(requestId, end, this.#deps.clock.nowMs());
    const cachedTokens = end.usage?.cachedTokens ?? 0;
    this.#deps.meter.count("kvatlas_delivered_tokens_total", {}, cachedTokens);
  }

  /** `reading` null: by load alone. */
  #decide(request: PickRequest, reading: PromptReading | null): PickOutcome {
    const { fleet, config, clock, random, meter, knowledge } = this.#deps;
    const nowMs = clock.nowMs();
    const view = fleet.view(nowMs);
    const known = knowledge.known(view.endpoints, nowMs);
    const { sized, keysBySize } = this.#match(reading, { ...view, known });
    const keys = finestOf(keysBySize);
    const popularPrefix = this.#popularity.popularPrefix(keys, nowMs);
    this.#turn += 1;
    const inputTokens = reading?.inputTokens ?? Math.ceil(request.body.length / BYTES_PER_TOKEN);
    const decision = decide({
      fleet: view,
      subset: request.subset,
      matches: endpointMatches(view.endpoints, sized),
      states: known.states,
      inputTokens,
      popularPrefix,
      prefixWork: popularPrefix === null ? new Map() : fleet.ledger.prefixWork(popularPrefix.key),
      config,
      random: random.next(),
      turn: this.#turn,
    });
    if (decision.kind === "none") {
      meter.count("kvatlas_decisions_total", { outcome: decision.reason });
      return { ...NO_ENDPOINT, reason: decision.reason, message: noneMessage(view, decision) };
    }
    this.#book(request, decision, { inputTokens, keys, keysBySize, known, nowMs, reading });
    return { kind: "route", endpointId: decision.chosen.endpointId };
  }

  #match(reading: PromptReading | null, input: MatchInput): PromptMatch {
    if (reading === null || reading.tokens === null) return { sized: [], keysBySize: new Map() };
    const { clock, meter } = this.#deps;
    const startMs = clock.nowMs();
    const match = matchPrompt(this.#deps, reading, input);
    meter.observe("kvatlas_match_seconds", {}, (clock.nowMs() - startMs) / 1000);
    return match;
  }

  #book(request: PickRequest, decision: Routed, prompt: DecidedPrompt): void {
    const { fleet, meter } = this.#deps;
    const { chosen, popularPrefix, reason } = decision;
    const dispatch: Dispatch = {
      requestId: request.requestId,
      endpointId: chosen.endpointId,
      inputTokens: prompt.inputTokens,
      uncachedTokens: prompt.inputTokens - chosen.reusedTokens,
      workSeconds: chosen.workSeconds,
      prefixKey: popularPrefix?.key ?? null,
      atMs: prompt.nowMs,
    };
    this.#flights.set(request.requestId, dispatch);
    fleet.ledger.dispatched(dispatch);
    const { requestId } = request;
    const { candidates } = decision;
    // What an engine reports as cached of a batch is not of the prompt that was matched.
    const isBatch = (prompt.reading?.prompts ?? 1) > 1;
    const keysBySize = isBatch ? new Map() : prompt.keysBySize;
    this.#deps.answers.decided({ ...prompt, requestId, chosen, candidates, keysBySize });
    this.#popularity.observe(prompt.keys, chosen.workSeconds, prompt.nowMs);
    meter.count("kvatlas_decisions_total", { outcome: "routed" });
    meter.count("kvatlas_endpoint_decisions_total", { endpoint: chosen.endpointId });
    if (reason === "popularity-cap") meter.count("kvatlas_popularity_capped_total");
    meter.count("kvatlas_prompt_tokens_total", {}, prompt.inputTokens);
    meter.count("kvatlas_predicted_tokens_total", {}, chosen.reusedTokens);
    meter.count("kvatlas_possible_tokens_total", {}, decision.possibleTokens);
    this.#deps.log.debug(
      {
        request_id: request.requestId,
        endpoint: chosen.endpointId,
        reason,
        state: stateText(chosen.known),
        states: statesText(decision.candidates),
        reused_tokens: chosen.reusedTokens,
        input_tokens: prompt.inputTokens,
        cost_ms: Math.round(chosen.costSeconds * 1000),
        runner_up: decision.runnerUp?.endpointId ?? null,
        tokens_from: prompt.reading?.source ?? "none",
        priority: prompt.reading?.priority ?? null,
        ...traitFields(prompt.reading),
      },
      "decided",
    );
  }
}

function traitFields(reading: PromptReading | null): Readonly<Record<string, unknown>> {
  if (reading === null) return {};
  const { objective, fairnessId, ttftSloMs, tpotSloMs } = reading.traits;
  const slo = { ttft_slo_ms: ttftSloMs, tpot_slo_ms: tpotSloMs };
  return { objective, fairness_id: fairnessId, ...slo };
}

/** The finest keys say most about what prompts share. */
function finestOf(keysBySize: ReadonlyMap<number, BigUint64Array>): BigUint64Array {
  return [...keysBySize.values()].reduce(
    (finest, keys) => (keys.length > finest.length ? keys : finest),
    new BigUint64Array(0),
  );
}

/** Candidates by state: endpoints of a healthy fleet share one, and need not be named each. */
function statesText(candidates: readonly Candidate[]): Readonly<Record<string, readonly string[]>> {
  const byState: Record<string, string[]> = {};
  for (const { endpointId: id, known } of candidates) {
    const text = stateText(known);
    const ids = byState[text] ?? [];
    ids.push(id);
    byState[text] = ids;
  }
  return byState;
}

const NO_ENDPOINT = {
  kind: "refuse",
  status: 503,
  reason: "no-ready-endpoint",
  message: "no endpoint is ready",
} as const;

function noneMessage({ endpoints }: FleetView, { reason }: { readonly reason: string }): string {
  const ready = endpoints.filter(({ isReady }) => isReady).length;
  return reason === "subset-empty"
    ? `none of the ${ready} ready endpoints is in the gateway's subset`
    : `none of ${endpoints.length} endpoints is ready`;
}
