/** What every endpoint holds of one prompt: from the index, or assumed where there are no events. */
import type { EndpointId } from "../core/ids.ts";
import type { EndpointView } from "../fleet/fleet.ts";
import type { HolderMatch, IndexReader } from "../indexer/block-index.ts";
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
}

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

export function matchPrompt(
  deps: PromptMatchDeps,
  prompt: PromptKeys,
  input: MatchInput,
): PromptMatch {
  const { approximated } = input.known;
  prompt.reuse();
  const keysBySize = new Map<number, BigUint64Array>();
  const sized: SizedPrompt[] = [];
  for (const blockSizeTokens of new Set([...deps.holders.blockSizes(), ...approximated.values()])) {
    const keys = prompt.keysOf(blockSizeTokens);
    keysBySize.set(blockSizeTokens, keys);
    sized.push(matchKeys(deps, { keys, blockSizeTokens }, input));
  }
  return { matchedBy: "tokens", sized, keysBySize };
}

/** The same with keys that last. */
export function lasting(match: PromptMatch): PromptMatch {
  const keysBySize = new Map(
    Array.from(match.keysBySize, ([size, keys]) => [size, keys.slice()] as const),
  );
  const sized = match.sized.map((each) => {
    return { ...each, keys: keysBySize.get(each.blockSizeTokens) ?? each.keys };
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
  const assumed = endpoints
    .filter(({ spec }) => approximated.get(spec.id) === blockSizeTokens)
    .flatMap((endpoint) => knowledge.assumedMatches(endpoint, keys, nowMs));
  const matches = [...heardOf(index.match(keys), approximated), ...assumed];
  return { blockSizeTokens, keys, matches };
}

/** What was heard of an endpoint before it fell silent has no bound to its life: it is not used. */
function heardOf(
  matches: readonly HolderMatch[],
  approximated: ReadonlyMap<EndpointId, number>,
): readonly HolderMatch[] {
  if (approximated.size === 0) return matches;
  return matches.filter(({ holder }) => !approximated.has(holder.endpointId));
}
