/**
 * Decides in this thread: keys -> longest prefixes -> decision -> ledger.
 *
 * All of it is synchronous, so that no other request or event comes between a match, its decision and
 * the booking of the work it brings.
 */
import { type Clock, sleep } from "../core/clock.ts";
import { type EndpointId, endpointId, isEndpointAddress } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { EndOfRequest, PickOutcome } from "../extproc/picker.ts";
import type { FleetView } from "../fleet/endpoint-view.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { FlowConfig } from "../flow/config.ts";
import { HoldingRoom } from "../flow/holding-room.ts";
import type { IndexReader } from "../indexer/block-index.ts";
import type { DecisionRing } from "../observe/decision-ring.ts";
import { BYTES_PER_TOKEN } from "../prompt/byte-chunks.ts";
import type { Decision, Routed } from "../router/decide.ts";
import type { RecordedRequest, RequestWishes } from "../router/decision-record.ts";
import type { Dispatcher, PromptToRoute } from "../router/dispatcher.ts";
import { type KeptDecision, keptDecision } from "../router/kept-decision.ts";
import { stateText } from "../router/known-state.ts";
import type { AnswerBook } from "./answer-book.ts";
import { AnswerTimes } from "./answer-times.ts";
import type { AskedRequest, Decider, ReadPrompt } from "./decider.ts";
import type { KnownFleet, PodKnowledge } from "./pod-knowledge.ts";
import {
  blockSizesOf,
  lasting,
  type MatchInput,
  matchChunks,
  matchPrompt,
  type PromptMatch,
} from "./prompt-match.ts";
import type { KnownHolders } from "./write-side.ts";

export interface LocalDeciderDeps {
  readonly index: IndexReader;
  readonly holders: KnownHolders;
  readonly fleet: Fleet;
  readonly knowledge: PodKnowledge;
  readonly answers: AnswerBook;
  readonly dispatcher: Dispatcher;
  readonly decisions: DecisionRing<KeptDecision<RecordedRequest>>;
  /** Called after each dispatch. */
  readonly onDispatch: () => void;
  readonly flow: FlowConfig;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

/** One look at a request: its prompt matched, and a decision that is not booked. */
interface Look {
  readonly prompt: PromptToRoute;
  readonly match: PromptMatch;
  readonly known: KnownFleet;
  readonly decision: Decision;
  readonly nowMs: number;
}

/** Held requests up to which each is looked at in every interval; more are looked at less often. */
const LOOKS_PER_INTERVAL = 1024;
/** What a gateway answers when an endpoint refused it or broke off. */
const GATEWAY_FAULTS: ReadonlySet<number> = new Set([502, 503, 504]);
/** Statuses from here on are no answers of a model; 0 is one that the gateway does not tell. */
const REFUSED_STATUS_MIN = 300;
const NOTHING_MATCHED: PromptMatch = { matchedBy: "none", sized: [], keysBySize: new Map() };
const NO_KEYS: BigUint64Array = new BigUint64Array(0);
const NONE_EXCLUDED: ReadonlySet<EndpointId> = new Set();

export class LocalDecider implements Decider {
  readonly #deps: LocalDeciderDeps;
  readonly #room: HoldingRoom;
  readonly #times: AnswerTimes;

  constructor(deps: LocalDeciderDeps) {
    this.#deps = deps;
    this.#room = new HoldingRoom(deps.flow);
    this.#times = new AnswerTimes(deps.meter);
  }

  /** At once, where the request is not held. */
  decide(
    asked: AskedRequest,
    signal: AbortSignal,
    onHeld: () => void,
  ): PickOutcome | Promise<PickOutcome> {
    // Past the deadline the edge has taken the load-only choice: nothing is booked here.
    if (signal.aborted) return NO_ENDPOINT;
    const outcome = this.#tried(asked, null);
    if (outcome !== null) return outcome;
    onHeld();
    return this.#whenFree(asked, signal);
  }

  decideNow(asked: AskedRequest): PickOutcome {
    const look = this.#look(asked);
    if (this.#isShed(asked, look)) return this.#shed();
    const outcome = this.#settle(asked, look, 0);
    const isByText = outcome.kind === "route" && look.match.matchedBy === "approximate";
    return isByText ? { ...outcome, chosenBy: "text" } : outcome;
  }

  responseStarted(requestId: string, status: number, servedBy: string | null): void {
    const { answers, fleet, clock } = this.#deps;
    answers.started(requestId, status);
    const chosen = fleet.ledger.destinationOf(requestId);
    if (chosen === null) return;
    const isElsewhere = servedBy !== null && isEndpointAddress(servedBy) && servedBy !== chosen;
    if (isElsewhere || GATEWAY_FAULTS.has(status)) fleet.faulted(chosen, clock.nowMs());
    if (isElsewhere) {
      // The gateway retried elsewhere: the work is where the request was served.
      const moved = endpointId(servedBy);
      fleet.ledger.moved(requestId, moved);
      answers.moved(requestId, moved);
    }
    if (status < REFUSED_STATUS_MIN) return;
    // What was refused was no work: its quick end tells nothing of how fast the endpoint is.
    fleet.ledger.ended(requestId);
    this.#times.refused(requestId);
  }

  firstByte(requestId: string): void {
    const nowMs = this.#deps.clock.nowMs();
    this.#deps.fleet.ledger.firstToken(requestId, nowMs);
    this.#deps.answers.firstByte(requestId, nowMs);
    this.#times.firstByte(requestId, nowMs);
  }

  progressed(requestId: string, tokens: number): void {
    this.#deps.fleet.ledger.progressed(requestId, tokens);
    this.#times.progressed(requestId, tokens);
  }

  ended(requestId: string, end: EndOfRequest): void {
    const { fleet, answers, clock, meter } = this.#deps;
    if (end.outcome === "complete") {
      fleet.ledger.finished(requestId, end.usage?.completionTokens ?? null);
    } else fleet.ledger.ended(requestId);
    const nowMs = clock.nowMs();
    answers.ended(requestId, end, nowMs);
    this.#times.ended(requestId, end, nowMs);
    meter.count("kvatlas_delivered_tokens_total", {}, end.usage?.cachedTokens ?? 0);
  }

  /** For which requests are to have keys. */
  blockSizes(): number[] {
    const { fleet, clock, knowledge, holders } = this.#deps;
    const nowMs = clock.nowMs();
    return blockSizesOf(holders, knowledge.known(fleet.view(nowMs).endpoints, nowMs));
  }

  /** Sets the gauges of held requests; called before metrics are read. */
  report(): void {
    this.#deps.meter.gauge("kvatlas_held_requests", {}, this.#room.requests);
    this.#deps.meter.gauge("kvatlas_held_bytes", {}, this.#room.bytes);
  }

  async #whenFree(asked: AskedRequest, signal: AbortSignal): Promise<PickOutcome> {
    const { clock, flow } = this.#deps;
    const sinceMs = clock.nowMs();
    for (;;) {
      const intervals = Math.max(1, this.#room.requests / LOOKS_PER_INTERVAL);
      await sleep(clock, flow.recheckMs * intervals, signal);
      if (signal.aborted) {
        this.#room.leave(asked.requestId);
        return NO_ENDPOINT;
      }
      const outcome = this.#tried(asked, sinceMs);
      if (outcome !== null) return outcome;
    }
  }

  /** Null: it is held. `sinceMs`: from when on it was held; null: it was not. */
  #tried(asked: AskedRequest, sinceMs: number | null): PickOutcome | null {
    const look = this.#look(asked);
    if (this.#isShed(asked, look)) return this.#shed();
    if (this.#isHeld(asked, look)) return null;
    const heldMs = sinceMs === null ? 0 : look.nowMs - sinceMs;
    if (sinceMs !== null) this.#deps.meter.observe("kvatlas_hold_seconds", {}, heldMs / 1000);
    return this.#settle(asked, look, heldMs);
  }

  #look({ requestId, subset, bytes, read }: AskedRequest): Look {
    const { fleet, clock, knowledge, dispatcher } = this.#deps;
    const nowMs = clock.nowMs();
    const { endpoints } = fleet.view(nowMs);
    const known = knowledge.known(endpoints, nowMs);
    const match = read === null ? NOTHING_MATCHED : this.#match(read, { endpoints, known, nowMs });
    const prompt: PromptToRoute = {
      ...{ requestId, subset, excluded: NONE_EXCLUDED, states: known.states, sized: match.sized },
      inputTokens: read?.inputTokens ?? Math.ceil(bytes / BYTES_PER_TOKEN),
      prompts: read?.prompts ?? 1,
      isFirstTokenShown: read?.isFirstTokenShown ?? true,
    };
    const decision = dispatcher.decide(prompt, nowMs);
    return { prompt, match, known, decision, nowMs };
  }

  #match({ keys, chunkKeys }: ReadPrompt, input: MatchInput): PromptMatch {
    const { clock, meter, knowledge } = this.#deps;
    if (keys === null) {
      return chunkKeys.length === 0 ? NOTHING_MATCHED : matchChunks(knowledge, chunkKeys, input);
    }
    const startMs = clock.nowMs();
    const match = matchPrompt(this.#deps, keys, input);
    meter.observe("kvatlas_match_seconds", {}, (clock.nowMs() - startMs) / 1000);
    return match;
  }

  #isShed({ wishes }: AskedRequest, { decision }: Look): boolean {
    if (decision.kind === "none" || decision.decodeEndpointId !== null) return false;
    return this.#room.isShed(wishes.objective, decision);
  }

  #shed(): PickOutcome {
    this.#deps.meter.count("kvatlas_decisions_total", { outcome: OVERLOADED.reason });
    return OVERLOADED;
  }

  #isHeld({ requestId, bytes }: AskedRequest, { decision, nowMs }: Look): boolean {
    if (decision.kind === "none" || decision.decodeEndpointId !== null) return false;
    const isNew = this.#room.heldMs(requestId, nowMs) === 0;
    const answer = this.#room.ask({
      ...{ requestId, bytes, nowMs },
      queueMeanSeconds: decision.queueMeanSeconds,
      queueLeastSeconds: decision.queueLeastSeconds,
      workSeconds: decision.chosen.workSeconds,
    });
    const isCounted = answer === "full" || (answer === "held" && isNew);
    if (isCounted) this.#deps.meter.count("kvatlas_holds_total", { outcome: answer });
    return answer === "held";
  }

  #settle(asked: AskedRequest, look: Look, heldMs: number): PickOutcome {
    const { fleet, clock, meter } = this.#deps;
    const { decision } = look;
    if (decision.kind === "none") {
      meter.count("kvatlas_decisions_total", { outcome: decision.reason });
      const message = noneMessage(fleet.view(clock.nowMs()), decision);
      return { ...NO_ENDPOINT, reason: decision.reason, message };
    }
    this.#remember(asked, decision, look, heldMs);
    this.#book(asked, decision, look);
    this.#deps.onDispatch();
    const { chosen, runnerUp, decodeEndpointId } = decision;
    if (decodeEndpointId !== null) {
      return { kind: "route", endpointId: decodeEndpointId, prefillId: chosen.endpointId };
    }
    // A prefill endpoint serves no whole request.
    const isFallback =
      runnerUp !== null && fleet.endpoint(runnerUp.endpointId)?.spec.role === "both";
    const fallback = isFallback ? { fallbackId: runnerUp.endpointId } : {};
    return { kind: "route", endpointId: chosen.endpointId, ...fallback };
  }

  #remember(asked: AskedRequest, decision: Routed, look: Look, heldMs: number): void {
    const { decisions, clock } = this.#deps;
    const { requestId, inputTokens } = look.prompt;
    const request = {
      ...{ requestId, atMs: clock.wallMs(), inputTokens, heldMs: Math.round(heldMs) },
      matchedBy: look.match.matchedBy,
      wishes: asked.wishes,
    };
    decisions.add(requestId, keptDecision(decision, request));
  }

  #book({ requestId, wishes, read }: AskedRequest, decision: Routed, look: Look): void {
    const { fleet, meter, dispatcher, answers, knowledge, log } = this.#deps;
    const { chosen, reason, runnerUp } = decision;
    const { known, nowMs } = look;
    // What is booked outlives this look.
    const match = lasting(look.match);
    const prompt = { ...look.prompt, sized: match.sized };
    const { inputTokens } = prompt;
    const endpoint = fleet.endpoint(chosen.endpointId);
    const blockSizeTokens = endpoint === null ? 0 : knowledge.blockSizeOf(endpoint);
    dispatcher.book(prompt, decision, { blockSizeTokens, nowMs });
    if (read?.isFirstTokenShown ?? false) this.#times.sent(requestId, nowMs);
    // What an engine reports as cached of a batch is not of the prompt that was matched.
    const isBatch = prompt.prompts > 1;
    const keysBySize = isBatch ? new Map() : match.keysBySize;
    const chunkKeys = read?.chunkKeys ?? NO_KEYS;
    answers.decided({ requestId, decision, inputTokens, keysBySize, chunkKeys, known, nowMs });
    meter.count("kvatlas_decisions_total", { outcome: "routed" });
    meter.count("kvatlas_endpoint_decisions_total", { endpoint: chosen.endpointId });
    if (reason === "popularity-cap" || reason === "next-holder") {
      meter.count("kvatlas_popularity_capped_total", { outcome: reason });
    }
    meter.count("kvatlas_prompt_tokens_total", {}, inputTokens);
    if (match.matchedBy === "approximate") {
      const why = { reason: read?.reason ?? "" };
      meter.count("kvatlas_approximate_decisions_total", why);
      meter.count("kvatlas_approximate_tokens_total", {}, chosen.reusedTokens);
    } else {
      meter.count("kvatlas_predicted_tokens_total", {}, chosen.reusedTokens);
      meter.count("kvatlas_possible_tokens_total", {}, decision.possibleTokens);
    }
    log.debug(
      {
        ...{ request_id: requestId, endpoint: chosen.endpointId, reason },
        state: stateText(chosen.known),
        reused_tokens: chosen.reusedTokens,
        input_tokens: inputTokens,
        cost_ms: Math.round(chosen.costSeconds * 1000),
        runner_up: runnerUp?.endpointId ?? null,
        decode_endpoint: decision.decodeEndpointId,
        ...{ tokens_from: read?.source ?? "none", matched_by: match.matchedBy },
        ...wishFields(wishes),
      },
      "decided",
    );
  }
}

function wishFields(wishes: RequestWishes): Readonly<Record<string, unknown>> {
  const { priority, objective, fairnessId, ttftSloMs, tpotSloMs } = wishes;
  const slo = { ttft_slo_ms: ttftSloMs, tpot_slo_ms: tpotSloMs };
  return { priority, objective, fairness_id: fairnessId, ...slo };
}

const NO_ENDPOINT = {
  kind: "refuse",
  status: 503,
  reason: "no-ready-endpoint",
  message: "no endpoint is ready",
} as const;

const OVERLOADED = {
  kind: "refuse",
  status: 429,
  reason: "overloaded",
  message: "every endpoint is far behind, and requests of this objective do not wait",
} as const;

function noneMessage({ endpoints }: FleetView, { reason }: { readonly reason: string }): string {
  const ready = endpoints.filter(({ isReady }) => isReady).length;
  return reason === "subset-empty"
    ? `none of the ${ready} ready endpoints is in the gateway's subset`
    : `none of ${endpoints.length} endpoints is ready`;
}
