/**
 * Decisions and what they leave behind: the work is booked at its endpoint before any other request
 * is looked at.
 *
 * The one way from a matched prompt to a booked request, in a served router and in simulated time. The
 * phases of the answer go to the fleet's ledger.
 */
import type { EndpointId } from "../core/ids.ts";
import type { Random } from "../core/random.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { HolderMatch } from "../indexer/block-index.ts";
import type { InflightBlocks } from "../indexer/inflight-blocks.ts";
import type { RouterConfig } from "./config.ts";
import { type Decision, type DecisionInput, decide, type Routed } from "./decide.ts";
import { endpointMatches, type InflightMatch } from "./endpoint-match.ts";
import { Popularity } from "./popularity.ts";

/** A prompt as it is keyed with one block size, and what holders have of it. */
export interface SizedPrompt {
  readonly blockSizeTokens: number;
  readonly keys: BigUint64Array;
  readonly matches: readonly HolderMatch[];
}

export interface PromptToRoute {
  readonly requestId: string;
  /** Tokens of the prompt, or an estimate where they are not known. */
  readonly inputTokens: number;
  /** See PromptSize. */
  readonly prompts: number;
  /** See Dispatch. */
  readonly isFirstTokenShown: boolean;
  /** One for each block size of the fleet; none where the tokens are not known. */
  readonly sized: readonly SizedPrompt[];
  readonly subset: readonly string[] | null;
  readonly excluded: ReadonlySet<EndpointId>;
  readonly states: DecisionInput["states"];
}

export interface DispatcherDeps {
  readonly fleet: Fleet;
  readonly inflight: InflightBlocks;
  readonly config: RouterConfig;
  readonly random: Random;
}

const NO_KEYS: BigUint64Array = new BigUint64Array(0);
const NO_WORK = new Map<never, never>();

export class Dispatcher {
  readonly #deps: DispatcherDeps;
  readonly #popularity: Popularity;
  #turn = 0;

  constructor(deps: DispatcherDeps) {
    this.#deps = deps;
    this.#popularity = new Popularity(deps.config.popularity);
  }

  /** Chooses without booking: a request may be decided again. */
  decide(prompt: PromptToRoute, nowMs: number): Decision {
    const { fleet, inflight, config, random } = this.#deps;
    const view = fleet.view(nowMs);
    const { inputTokens, prompts, subset, excluded, states } = prompt;
    const sized = prompt.sized.map((each) => {
      const told = fleet.peers.prompts.leading(each.keys, nowMs);
      return { ...each, inflight: deeper(inflight.leading(each.keys), told) };
    });
    const popularPrefix = this.#popularity.popularPrefix(finestKeys(prompt), {
      nowMs,
      endpoints: view.endpoints.length,
    });
    this.#turn += 1;
    return decide({
      ...{ fleet: view, inputTokens, prompts, subset, excluded, states, config, popularPrefix },
      matches: endpointMatches(view, sized),
      prefixWork: popularPrefix === null ? NO_WORK : fleet.ledger.prefixWork(popularPrefix.key),
      random: random.next(),
      turn: this.#turn,
    });
  }

  /** The request goes where it was decided. `blockSizeTokens`: of the blocks at that endpoint. */
  book(
    prompt: PromptToRoute,
    { chosen, decodeEndpointId }: Routed,
    { blockSizeTokens, nowMs }: { readonly blockSizeTokens: number; readonly nowMs: number },
  ): void {
    const { requestId, inputTokens, isFirstTokenShown, sized } = prompt;
    const finest = finestKeys(prompt);
    const ofEndpoint = sized.find((each) => each.blockSizeTokens === blockSizeTokens);
    const { endpointId } = chosen;
    const keys = ofEndpoint?.keys ?? NO_KEYS;
    const { fleet } = this.#deps;
    fleet.peers.prompts.dispatched(endpointId, keys);
    fleet.ledger.dispatched({
      ...{ requestId, endpointId, decodeEndpointId, inputTokens, keys },
      ...{ blockSizeTokens, isFirstTokenShown },
      workSeconds: chosen.workSeconds,
      prefixKeys: this.#popularity.checkpointKeys(finest),
      atMs: nowMs,
    });
    const endpoints = fleet.specs().length;
    this.#popularity.observe(finest, {
      ...{ endpointId, workSeconds: chosen.workSeconds, nowMs, endpoints },
    });
  }
}

/** Own prompts in flight with those that other routers told of: the longer beginning of each. */
function deeper(
  own: readonly InflightMatch[],
  told: ReadonlyMap<EndpointId, number>,
): InflightMatch[] {
  if (told.size === 0) return [...own];
  const blocksAt = new Map(told);
  for (const { endpointId, blocks } of own) {
    blocksAt.set(endpointId, Math.max(blocks, blocksAt.get(endpointId) ?? 0));
  }
  return [...blocksAt].map(([endpointId, blocks]) => ({ endpointId, blocks }));
}

/** The finest keys say most about what prompts share. */
function finestKeys({ sized }: PromptToRoute): BigUint64Array {
  let finest: BigUint64Array = NO_KEYS;
  for (const { keys } of sized) if (keys.length > finest.length) finest = keys;
  return finest;
}
