/** Documents as blocks: what engines of the chaos store, with the keys that follow by definition. */
import { createHash } from "node:crypto";
import type { KeysByDefinition } from "../harness/golden-holdings.ts";
import type { Chance } from "./chance.ts";

/** A block by its content: the same for every copy, tier and time of one life. */
export interface TruthBlock {
  readonly digest: Buffer;
  readonly handle: bigint;
  readonly parent: TruthBlock | null;
  readonly tokens: readonly number[];
  readonly size: number;
  readonly lora: string | null;
  /** As on the wire, the adapter's name left out. */
  readonly extras: readonly unknown[] | null;
  readonly key: bigint;
  /** The key that it would have were all its identity its tokens. */
  readonly plainKey: bigint;
}

export interface Identity {
  readonly lora: string | null;
  readonly salt: string | null;
  readonly image: string | null;
}

/** A document with an identity, cut into blocks and hashed by one engine. */
export interface ChainOf extends Identity {
  readonly document: number;
  /** Tokens of its blocks, again and again. */
  readonly sizes: readonly number[];
  readonly hashSeed: number;
}

export const PLAIN: Identity = { lora: null, salt: null, image: null };

export function identityOf(chance: Chance): Identity {
  return {
    lora: chance.is(0.2) ? chance.of(["sql", "chat"]) : null,
    salt: chance.is(0.25) ? chance.of(["tenant-a", "tenant-b"]) : null,
    image: chance.is(0.15) ? chance.of(["img-1", "img-2"]) : null,
  };
}

export const DOCUMENTS = 4;
const CHAIN_BLOCKS_MAX = 6;
const CHAIN_TOKENS_MAX = 96;

export class ChaosContent {
  readonly #keysOf: KeysByDefinition;
  readonly #model: string;
  readonly #chains = new Map<string, readonly TruthBlock[]>();

  constructor(deps: { readonly keysOf: KeysByDefinition; readonly model: string }) {
    this.#keysOf = deps.keysOf;
    this.#model = deps.model;
  }

  /** Hashed as an engine hashes: over parent, tokens, adapter and extras. The same for equal input. */
  chain(of: ChainOf): readonly TruthBlock[] {
    const name = JSON.stringify(of);
    const known = this.#chains.get(name);
    if (known !== undefined) return known;
    const { sizes, lora, salt, image } = of;
    const fitting = Math.floor(CHAIN_TOKENS_MAX / Math.max(...sizes));
    const depths = Math.max(2, Math.min(CHAIN_BLOCKS_MAX, fitting));
    const sizesTokens = Array.from(
      { length: depths },
      (_, depth) => sizes[depth % sizes.length] ?? 1,
    );
    const endOf = (depth: number): number =>
      sizesTokens.slice(0, depth + 1).reduce((sum, each) => sum + each, 0);
    const blocks = sizesTokens.map((size, depth) => ({
      tokens: documentTokens(of.document, endOf(depth)).slice(-size),
      extras: [
        ...(image !== null && depth > 0 && depth < 3 ? [[image, 3 - depth]] : []),
        ...(salt !== null && depth === 0 ? [salt] : []),
      ],
    }));
    const tokens = blocks.flatMap((block) => block.tokens);
    const told = blocks.map(({ extras }) => (extras.length === 0 ? null : JSON.stringify(extras)));
    const [blockSizeTokens = 1] = sizes;
    const plain = { model: this.#model, lora, blockSizeTokens, sizesTokens, tokens };
    const keys = this.#keysOf({ ...plain, extras: told });
    const plainKeys = this.#keysOf(plain);
    const chain: TruthBlock[] = [];
    for (const [depth, block] of blocks.entries()) {
      const parent = chain.at(-1) ?? null;
      const hashed = [of.hashSeed, parent?.digest.toString("hex"), block.tokens, lora, told[depth]];
      const digest = createHash("sha256").update(JSON.stringify(hashed)).digest();
      chain.push({
        ...{ digest, handle: digest.readBigUInt64BE(24), parent, lora },
        ...{ tokens: block.tokens, size: block.tokens.length },
        extras: block.extras.length === 0 ? null : block.extras,
        ...{ key: keys[depth] ?? 0n, plainKey: plainKeys[depth] ?? 0n },
      });
    }
    this.#chains.set(name, chain);
    return chain;
  }
}

export function documentTokens(document: number, length: number): number[] {
  return Array.from({ length }, (_, place) => tokenAt(document, place));
}

/** Neighbours of one size: an event tells of such. */
export function runsOfSize(blocks: readonly TruthBlock[]): TruthBlock[][] {
  const runs: TruthBlock[][] = [];
  for (const block of blocks) {
    const run = runs.at(-1);
    if (run !== undefined && run[0]?.size === block.size) run.push(block);
    else runs.push([block]);
  }
  return runs;
}

/** Token at a place of a document; neighbours share their beginnings. */
function tokenAt(document: number, place: number): number {
  return place < 8 * document ? 7000 + place : 100_000 * (document + 1) + place;
}
