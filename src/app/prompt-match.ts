/** What every endpoint holds of one prompt: from the index, or assumed where there are no events. */
import type { EndpointId } from "../core/ids.ts";
import type { Meter } from "../core/meter.ts";
import type { LossReason } from "../events/keyed-batch.ts";
import type { EndpointView } from "../fleet/endpoint-view.ts";
import type { HolderMatch, IndexReader } from "../indexer/block-index.ts";
import { mixedChains } from "../indexer/mixed-chains.ts";
import { CHUNK_TOKENS } from "../prompt/byte-chunks.ts";
import type { PromptKeys } from "../prompt/prompt-reader.ts";
import type { MatchedBy } from "../router/decision-record.ts";
import type { SizedPrompt } from "../router/dispatcher.ts";
import type { KnownFleet, PodKnowledge } from "./pod-knowledge.ts";
import type { KnownHolders } from "./write-side.ts";

export interface PromptMatchDeps {
  readonly index: Pick<IndexReader, "match">;
  readonly holders: KnownHolders;
  readonly knowledge: PodKnowledge;
  readonly meter: Meter;
}

/** Places of one prompt at which its blocks may change their size that are looked at: 0.3 us each. */
const PROBES_MAX = 8192;
const CONNECTOR: LossReason = "no-removals";

/** What a decision's matches are made of. Its keys last until the next prompt is matched; see `lasting`. */
export interface PromptMatch {
  readonly matchedBy: MatchedBy;
  readonly sized: readonly SizedPrompt[];
  /** The prompt's keys for each block size in the fleet. */
  readonly keysBySize: ReadonlyMap<number, BigUint64Array>;
}

export interface MatchInput {
  readonly endpoints: readonly EndpointView[];
  readonly known: KnownFleet;
  readonly nowMs: number;
}

/** Of the fleet, without repeats. */
export function blockSizesOf(holders: KnownHolders, { approximated }: KnownFleet): number[] {
  return [...new Set([...holders.blockSizes(), ...approximated.values()])];
}

export function matchPrompt(
  deps: PromptMatchDeps,
  prompt: PromptKeys,
  input: MatchInput,
): PromptMatch {
  prompt.reuse();
  const keysBySize = new Map<number, BigUint64Array>();
  const sized: SizedPrompt[] = [];
  for (const blockSizeTokens of blockSizesOf(deps.holders, input.known)) {
    const keys = prompt.keysOf(blockSizeTokens);
    keysBySize.set(blockSizeTokens, keys);
    sized.push(matchKeys(deps, { keys, blockSizeTokens }, input));
  }
  const mixed = sized.length < 2 ? null : matchMixed(deps, prompt, { ...input, sized });
  if (mixed !== null) sized.push(mixed);
  return { matchedBy: "tokens", sized, keysBySize };
}

/** The same with keys that last. */
export function lasting(match: PromptMatch): PromptMatch {
  const keysBySize = new Map(
    Array.from(match.keysBySize, ([size, keys]) => [size, keys.slice()] as const),
  );
  const sized = match.sized.map((each) => {
    const { keys, blockSizeTokens } = each;
    return keys.length === 0 ? each : { ...each, keys: keysBySize.get(blockSizeTokens) ?? keys };
  });
  return { ...match, sized, keysBySize };
}

/** By the chunks of its text, where its tokens are not known. Nothing is keyed: it is a guess. */
export function matchChunks(
  knowledge: PodKnowledge,
  keys: BigUint64Array,
  { endpoints, nowMs }: Pick<MatchInput, "endpoints" | "nowMs">,
): PromptMatch {
  const matches = endpoints.flatMap((endpoint) => knowledge.chunkMatches(endpoint, keys, nowMs));
  const sized = [{ blockSizeTokens: CHUNK_TOKENS, keys, matches }];
  return { matchedBy: "approximate", sized, keysBySize: new Map() };
}

/** The same for keys of one block size. */
export function matchKeys(
  { index, knowledge }: Pick<PromptMatchDeps, "index" | "knowledge">,
  prompted: { readonly keys: BigUint64Array; readonly blockSizeTokens: number },
  { endpoints, known, nowMs }: MatchInput,
): SizedPrompt {
  const { keys, blockSizeTokens } = prompted;
  const { approximated } = known;
  const matches = [...heardOf(index.match(keys), approximated)];
  for (const endpoint of endpoints) {
    if (approximated.get(endpoint.spec.id) !== blockSizeTokens) continue;
    matches.push(...knowledge.assumedMatches(endpoint, keys, nowMs));
  }
  return { blockSizeTokens, keys, matches };
}

/**
 * How far holders come whose chains change the size of their blocks: as matches of blocks of one token.
 * Null: no holder may have such chains.
 */
function matchMixed(
  { index, holders, meter }: PromptMatchDeps,
  prompt: PromptKeys,
  { sized, known }: MatchInput & { readonly sized: readonly SizedPrompt[] },
): SizedPrompt | null {
  const sizes = new Set<number>();
  const starts = sized.map((each) => {
    const matches = each.matches.filter(({ holder }) => {
      const cursor = holders.cursorOf(holder);
      if (cursor === null || known.approximated.has(holder.endpointId)) return false;
      const { blockSizesTokens, reason } = cursor;
      // A connector's chunks follow chunks alone.
      if (blockSizesTokens.length < 2 || reason === CONNECTOR) return false;
      for (const size of blockSizesTokens) sizes.add(size);
      return true;
    });
    return { ...each, matches };
  });
  if (sizes.size === 0) return null;
  const { matches, isCut } = mixedChains({
    ...{ starts, blockSizesTokens: [...sizes], index, probesMax: PROBES_MAX },
    keysBehind: (place, size, blocksMax) => prompt.keysBehind(place, size, blocksMax),
  });
  if (isCut) meter.count("kvatlas_matches_cut_total", {});
  return { blockSizeTokens: 1, keys: NO_KEYS, matches };
}

/** What was heard of an endpoint before it fell silent has no bound to its life: it is not used. */
function heardOf(
  matches: readonly HolderMatch[],
  approximated: ReadonlyMap<EndpointId, number>,
): readonly HolderMatch[] {
  if (approximated.size === 0) return matches;
  return matches.filter(({ holder }) => !approximated.has(holder.endpointId));
}

const NO_KEYS: BigUint64Array = new BigUint64Array(0);
