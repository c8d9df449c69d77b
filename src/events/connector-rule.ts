/**
 * Which stores of a stream are a connector's (LMCache, Mooncake), so that no removal will follow them.
 *
 * The configured engine says so of all that is below the GPU. In a plain vLLM stream a store is a
 * connector's where it is written as they do, medium "cpu" in lower case, and its blocks have another
 * size than any that the engine itself has on its GPU: LMCache's chunks. A block of the engine's own size
 * is taken for its own offloading, whose removals come. Pure.
 */
import type { EngineName } from "../core/engine-name.ts";
import { BLOCK_SIZES_MAX } from "../indexer/holder-state.ts";
import { tierOfMedium } from "../tiers/tier.ts";
import type { KeyedStored } from "./keyed-batch.ts";
import type { BlockStored } from "./kv-event.ts";

/** vLLM's own offloading says "CPU". */
const CONNECTOR_MEDIUM = "cpu";

/** What is noted of a store of the engine itself. */
export type OwnStore = Pick<
  BlockStored,
  "blockSizeTokens" | "medium" | "loraName" | "loraId" | "extraKeys" | "cacheSalt"
>;

/** Told among a life's lanes: that adapters, salts or images were told of. */
export const IDENTITIES_TOLD = "IDENTITIES";
/** Told once in a life as lanes are: some of what is below the GPU is a connector's. */
export const HINTS_TOLD = "HINTS";

export class ConnectorRule {
  readonly #isConnector: boolean;
  /** Sizes of the blocks that the engine itself has on its GPU, tokens. */
  readonly #ownSizes = new Set<number>();
  /** Adapters, salts or images were told of: a connector's tokens alone make no key. */
  #hasIdentities = false;
  #areHintsTold = false;
  /** An earlier relay was told sizes that are not among these. */
  #areSizesMissed = false;
  /** Size of the largest chunk so far, tokens. */
  #chunkTokens = 0;

  constructor(isConnector: boolean) {
    this.#isConnector = isConnector;
  }

  isHint({ caveat, medium, blockSizeTokens }: BlockStored): boolean {
    if (caveat === "no-removals") return true;
    return medium === CONNECTOR_MEDIUM && this.#isForeign(blockSizeTokens);
  }

  /**
   * How a connector's blocks find their keys: those of the engine's own size by their handles, which
   * the GPU's events told of with their identity; chunks by their tokens, unless these make no key.
   */
  placing(event: BlockStored): "handles" | "tokens" | "none" {
    const { tokens, blockSizeTokens } = event;
    if (tokens.length === 0 || this.#ownSizes.has(blockSizeTokens)) return "handles";
    return this.#hasIdentities || this.#isPartial(event) ? "none" : "tokens";
  }

  /** Whether blocks that an earlier relay keyed are a connector's, in a batch that has a connector's stores. */
  isKeyedHint({ tier, blockSizeTokens }: KeyedStored): boolean {
    return tier !== "gpu" && (this.#isConnector || this.#isForeign(blockSizeTokens));
  }

  /** A store of the engine itself. Returns whether it is the first to tell of an identity. */
  noteOwn(event: OwnStore): boolean {
    const { blockSizeTokens, medium } = event;
    if (tierOfMedium(medium) === "gpu") this.noteOwnSize(blockSizeTokens);
    if (this.#hasIdentities || !hasIdentity(event)) return false;
    this.#hasIdentities = true;
    return true;
  }

  noteOwnSize(blockSizeTokens: number): void {
    if (blockSizeTokens === 0 || this.#ownSizes.size >= BLOCK_SIZES_MAX) return;
    this.#ownSizes.add(blockSizeTokens);
  }

  /** What was told before is not known: until a size is, what is written as a connector's is its own. */
  setSizesMissed(): void {
    this.#areSizesMissed = true;
  }

  setIdentitiesTold(): void {
    this.#hasIdentities = true;
  }

  /** A store of a connector. Returns whether it is the first. */
  noteHint(): boolean {
    const isFirst = !this.#areHintsTold;
    this.#areHintsTold = true;
    return isFirst;
  }

  clear(): void {
    this.#areHintsTold = false;
    this.#ownSizes.clear();
    this.#hasIdentities = false;
    this.#areSizesMissed = false;
    this.#chunkTokens = 0;
  }

  /** Whether it is the end of a prompt that fills no chunk: nothing goes on behind it. */
  #isPartial({ handles, tokens, blockSizeTokens }: BlockStored): boolean {
    if (blockSizeTokens < this.#chunkTokens) return true;
    this.#chunkTokens = blockSizeTokens;
    return tokens.length < handles.length * blockSizeTokens;
  }

  #isForeign(blockSizeTokens: number): boolean {
    const isTold = this.#ownSizes.size > 0 || this.#areSizesMissed;
    return isTold && blockSizeTokens > 0 && !this.#ownSizes.has(blockSizeTokens);
  }
}

/** Whether all that an engine of this name stores below the GPU is a connector's. */
export function isConnector(engine: EngineName | undefined): boolean {
  return engine === "lmcache" || engine === "mooncake";
}

function hasIdentity({ loraName, loraId, extraKeys, cacheSalt }: OwnStore): boolean {
  if (loraName !== null || loraId !== null || cacheSalt !== undefined) return true;
  return extraKeys?.some((block) => block !== null && block.length > 0) ?? false;
}
