/**
 * One request from body to destination: prompt -> keys -> longest prefixes -> decision -> ledger.
 *
 * Everything after the prompt's token ids is synchronous, so that no other request or event comes
 * between a match, its decision and the booking of the work it brings.
 */
import { type Clock, sleep } from "../core/clock.ts";
import { type EndpointId, endpointId, isEndpointAddress } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { EndOfRequest, Picker, PickOutcome, PickRequest } from "../extproc/picker.ts";
import type { Fleet, FleetView } from "../fleet/fleet.ts";
import type { FlowConfig } from "../flow/config.ts";
import { HoldingRoom } from "../flow/holding-room.ts";
import type { IndexReader } from "../indexer/block-index.ts";
import type { DecisionRing } from "../observe/decision-ring.ts";
import { BYTES_PER_TOKEN } from "../prompt/byte-chunks.ts";
import { renameOf, rewriteModel } from "../prompt/model-rewrite.ts";
import type { ParsedRequest, PromptReader, PromptReading } from "../prompt/prompt-reader.ts";
import { readTraits } from "../prompt/request-traits.ts";
import type { Decision, Routed } from "../router/decide.ts";
import {
  type DecisionRecord,
  decisionRecord,
  type RequestWishes,
} from "../router/decision-record.ts";
import type { Dispatcher, PromptToRoute } from "../router/dispatcher.ts";
import { stateText } from "../router/known-state.ts";
import type { AnswerBook } from "./answer-book.ts";
import { AnswerTimes } from "./answer-times.ts";
import type { KnownFleet, PodKnowledge } from "./pod-knowledge.ts";
import {
  lasting,
  type MatchInput,
  matchChunks,
  matchPrompt,
  type PromptMatch,
} from "./prompt-match.ts";
import type { KnownHolders } from "./write-side.ts";

export interface KvPickerDeps {
  readonly index: IndexReader;
  readonly holders: KnownHolders;
  readonly fleet: Fleet;
  readonly prompt: PromptReader;
  readonly knowledge: PodKnowledge;
  readonly answers: AnswerBook;
  readonly dispatcher: Dispatcher;
  readonly decisions: DecisionRing<DecisionRecord>;
  /** Called after each dispatch. */
  readonly onDispatch: () => void;
  readonly flow: FlowConfig;
  /** See prompt.modelRewrites. */
  readonly modelRewrites: ReadonlyMap<string, string>;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

/** What was read of a request's body. */
interface Read {
  readonly reading: PromptReading;
  /** See PromptReader.chunkKeysOf. */
  readonly chunkKeys: BigUint64Array;
}

/** One look at a request: its prompt matched, and a decision that is not booked. */
interface Look {
  readonly prompt: PromptToRoute;
  readonly match: PromptMatch;
  readonly known: KnownFleet;
  readonly decision: Decision;
  readonly nowMs: number;
  /** Null: the body was not read. */
  readonly read: Read | null;
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

export class KvPicker implements Picker {
  readonly #deps: KvPickerDeps;
  readonly #room: HoldingRoom;
  readonly #times: AnswerTimes;
  /** Requests whose text is being tokenised, as many as the edge has streams. */
  readonly #untokenized = new Map<string, ParsedRequest>();

  constructor(deps: KvPickerDeps) {
    this.#deps = deps;
    this.#room = new HoldingRoom(deps.flow);
    this.#times = new AnswerTimes(deps.meter);
  }

  async pick(received: PickRequest, signal: AbortSignal, onHeld: () => void): Promise<PickOutcome> {
    const request = this.#rewritten(received);
    const read = await this.#read(request, signal);
    const { clock, meter, flow } = this.#deps;
    const sinceMs = clock.nowMs();
    let heldMs = 0;
    let isHeld = false;
    // Past the deadline the edge has taken the load-only choice: nothing is booked here.
    while (!signal.aborted) {
      const look = this.#look(request, read);
      if (this.#isShed(request, look)) return this.#shed();
      if (!this.#isHeld(request, look)) {
        if (isHeld) heldMs = look.nowMs - sinceMs;
        if (isHeld) meter.observe("kvatlas_hold_seconds", {}, heldMs / 1000);
        return withBody(this.#settle(request, look, heldMs), request, received);
      }
      isHeld = true;
      onHeld();
      const intervals = Math.max(1, this.#room.requests / LOOKS_PER_INTERVAL);
      await sleep(clock, flow.recheckMs * intervals, signal);
    }
    this.#room.leave(request.requestId);
    return NO_ENDPOINT;
  }

  pickByLoad(received: PickRequest): PickOutcome {
    const request = this.#rewritten(received);
    const { prompt } = this.#deps;
    const parsed = this.#untokenized.get(request.requestId);
    const read =
      parsed === undefined
        ? null
        : { reading: prompt.untokenized(parsed), chunkKeys: prompt.chunkKeysOf(parsed) };
    const look = this.#look(request, read);
    if (this.#isShed(request, look)) return this.#shed();
    const outcome = withBody(this.#settle(request, look, 0), request, received);
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

  /** Sets the gauges of held requests; called before metrics are read. */
  report(): void {
    this.#deps.meter.gauge("kvatlas_held_requests", {}, this.#room.requests);
    this.#deps.meter.gauge("kvatlas_held_bytes", {}, this.#room.bytes);
  }

  #rewritten(request: PickRequest): PickRequest {
    const rename = renameOf(request.headers, this.#deps.modelRewrites);
    const body = rename === null ? null : rewriteModel(request.body, rename);
    return body === null ? request : { ...request, body };
  }

  /** Meanwhile, `pickByLoad` finds what is known of the request so far. */
  async #read(request: PickRequest, signal: AbortSignal): Promise<Read> {
    const { prompt } = this.#deps;
    const parsed = prompt.parse(request);
    this.#untokenized.set(request.requestId, parsed);
    try {
      const reading = await prompt.tokenize(parsed, signal);
      return { reading, chunkKeys: prompt.chunkKeysOf(parsed) };
    } finally {
      this.#untokenized.delete(request.requestId);
    }
  }

  /** `read` null: by load alone. */
  #look(request: PickRequest, read: Read | null): Look {
    const { fleet, clock, knowledge, dispatcher } = this.#deps;
    const nowMs = clock.nowMs();
    const { endpoints } = fleet.view(nowMs);
    const known = knowledge.known(endpoints, nowMs);
    const match = read === null ? NOTHING_MATCHED : this.#match(read, { endpoints, known, nowMs });
    const { sized } = match;
    const prompt: PromptToRoute = {
      requestId: request.requestId,
      inputTokens: read?.reading.inputTokens ?? Math.ceil(request.body.length / BYTES_PER_TOKEN),
      prompts: read?.reading.prompts ?? 1,
      isFirstTokenShown: read?.reading.isFirstTokenShown ?? true,
      ...{ sized, subset: request.subset, excluded: NONE_EXCLUDED, states: known.states },
    };
    const decision = dispatcher.decide(prompt, nowMs);
    return { prompt, match, known, decision, nowMs, read };
  }

  #match({ reading, chunkKeys }: Read, input: MatchInput): PromptMatch {
    const { clock, meter, knowledge } = this.#deps;
    if (reading.tokens === null) {
      return chunkKeys.length === 0 ? NOTHING_MATCHED : matchChunks(knowledge, chunkKeys, input);
    }
    const startMs = clock.nowMs();
    const match = matchPrompt(this.#deps, reading, input);
    meter.observe("kvatlas_match_seconds", {}, (clock.nowMs() - startMs) / 1000);
    return match;
  }

  #isShed({ headers }: PickRequest, { decision }: Look): boolean {
    if (decision.kind === "none" || decision.decodeEndpointId !== null) return false;
    return this.#room.isShed(readTraits(headers).objective, decision);
  }

  #shed(): PickOutcome {
    this.#deps.meter.count("kvatlas_decisions_total", { outcome: OVERLOADED.reason });
    return OVERLOADED;
  }

  #isHeld({ requestId, body }: PickRequest, { decision, nowMs }: Look): boolean {
    if (decision.kind === "none" || decision.decodeEndpointId !== null) return false;
    const isNew = this.#room.heldMs(requestId, nowMs) === 0;
    const answer = this.#room.ask({
      ...{ requestId, bytes: body.length, nowMs },
      queueMeanSeconds: decision.queueMeanSeconds,
      queueLeastSeconds: decision.queueLeastSeconds,
      workSeconds: decision.chosen.workSeconds,
    });
    const isCounted = answer === "full" || (answer === "held" && isNew);
    if (isCounted) this.#deps.meter.count("kvatlas_holds_total", { outcome: answer });
    return answer === "held";
  }

  #settle(request: PickRequest, look: Look, heldMs: number): PickOutcome {
    const { fleet, clock, meter } = this.#deps;
    const { decision } = look;
    if (decision.kind === "none") {
      meter.count("kvatlas_decisions_total", { outcome: decision.reason });
      const message = noneMessage(fleet.view(clock.nowMs()), decision);
      return { ...NO_ENDPOINT, reason: decision.reason, message };
    }
    this.#remember(request, decision, look, heldMs);
    this.#book(request, decision, look);
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

  #remember(
    { requestId, headers }: PickRequest,
    decision: Routed,
    look: Look,
    heldMs: number,
  ): void {
    const { decisions, clock } = this.#deps;
    const { inputTokens } = look.prompt;
    const request = {
      ...{ requestId, atMs: clock.wallMs(), inputTokens, heldMs: Math.round(heldMs) },
      matchedBy: look.match.matchedBy,
      wishes: wishesOf(look.read?.reading ?? null, headers),
    };
    decisions.add(requestId, decisionRecord(decision, request));
  }

  #book({ requestId, headers }: PickRequest, decision: Routed, look: Look): void {
    const { fleet, meter, dispatcher, answers, knowledge, log } = this.#deps;
    const { chosen, reason, runnerUp } = decision;
    const { known, nowMs } = look;
    // What is booked outlives this look.
    const match = lasting(look.match);
    const prompt = { ...look.prompt, sized: match.sized };
    const reading = look.read?.reading ?? null;
    const { inputTokens } = prompt;
    const endpoint = fleet.endpoint(chosen.endpointId);
    const blockSizeTokens = endpoint === null ? 0 : knowledge.blockSizeOf(endpoint);
    dispatcher.book(prompt, decision, { blockSizeTokens, nowMs });
    if (reading?.isFirstTokenShown ?? false) this.#times.sent(requestId, nowMs);
    // What an engine reports as cached of a batch is not of the prompt that was matched.
    const isBatch = (reading?.prompts ?? 1) > 1;
    const keysBySize = isBatch ? new Map() : match.keysBySize;
    const chunkKeys = look.read?.chunkKeys ?? NO_KEYS;
    answers.decided({ requestId, decision, inputTokens, keysBySize, chunkKeys, known, nowMs });
    meter.count("kvatlas_decisions_total", { outcome: "routed" });
    meter.count("kvatlas_endpoint_decisions_total", { endpoint: chosen.endpointId });
    if (reason === "popularity-cap" || reason === "next-holder") {
      meter.count("kvatlas_popularity_capped_total", { outcome: reason });
    }
    meter.count("kvatlas_prompt_tokens_total", {}, inputTokens);
    if (match.matchedBy === "approximate") {
      const why = { reason: reading?.reason ?? "" };
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
        ...{ tokens_from: reading?.source ?? "none", matched_by: match.matchedBy },
        ...wishFields(wishesOf(reading, headers)),
      },
      "decided",
    );
  }
}

function withBody(outcome: PickOutcome, sent: PickRequest, received: PickRequest): PickOutcome {
  const isChanged = outcome.kind === "route" && sent.body !== received.body;
  return isChanged ? { ...outcome, body: sent.body } : outcome;
}

/** By load alone, the body was not read: only the headers say something. */
function wishesOf(reading: PromptReading | null, headers: PickRequest["headers"]): RequestWishes {
  return { priority: reading?.priority ?? null, ...(reading?.traits ?? readTraits(headers)) };
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
