/**
 * Facts of the pool as the bytes that vLLM publishes: msgpack [ts, events, data_parallel_rank].
 *
 * `array`: events as vLLM up to 0.23 writes them, tag first, with the fields of 0.22.
 * `map`: events as 0.24 and later write them, keyed by name, fields at their default left out.
 * Hashes are unsigned 64-bit integers by default, or the raw 32 bytes.
 */
import { Encoder } from "@msgpack/msgpack";
import { assertNever } from "../../core/assert.ts";
import type { BlockChain } from "./block-chain.ts";
import type { CacheFact } from "./block-pool.ts";

type EventEncoding = "array" | "map";
type HashForm = "u64" | "bytes";

export interface EventEncoderOptions {
  readonly encoding: EventEncoding;
  readonly hashForm: HashForm;
  readonly dataParallelRank: number;
}

const MEDIUM = "GPU";
const GROUP_INDEX = 0;
const SPEC_KIND = "full_attention";
/** msgpack: array of 3, then a float64. `ts` stays a float even where it is a whole number. */
const BATCH_HEADER = [0x93, 0xcb] as const;
const TIMESTAMP_BYTES = 8;

export class EventEncoder {
  readonly #options: EventEncoderOptions;
  readonly #encoder = new Encoder({ useBigInt64: true });

  constructor(options: EventEncoderOptions) {
    this.#options = options;
  }

  /** `timestampSeconds` is Unix time of the scheduler step. */
  batch(timestampSeconds: number, facts: readonly CacheFact[]): Uint8Array {
    const events = this.#encoder.encode(facts.map((fact) => this.#event(fact)));
    const rank = this.#encoder.encode(this.#options.dataParallelRank);
    const headBytes = BATCH_HEADER.length + TIMESTAMP_BYTES;
    const bytes = new Uint8Array(headBytes + events.length + rank.length);
    bytes.set(BATCH_HEADER, 0);
    new DataView(bytes.buffer).setFloat64(BATCH_HEADER.length, timestampSeconds);
    bytes.set(events, headBytes);
    bytes.set(rank, headBytes + events.length);
    return bytes;
  }

  #event(fact: CacheFact): unknown {
    switch (fact.kind) {
      case "stored":
        return this.#stored(fact.chain, fact.firstDepth, fact.blocks);
      case "removed":
        return this.#fields("BlockRemoved", {
          block_hashes: [this.#hash(fact.chain, fact.depth)],
          medium: MEDIUM,
          group_idx: GROUP_INDEX,
        });
      case "cleared":
        return this.#fields("AllBlocksCleared", {});
      default:
        return assertNever(fact);
    }
  }

  #stored(chain: BlockChain, firstDepth: number, blocks: number): unknown {
    const size = chain.blockSizeTokens;
    const depths = Array.from({ length: blocks }, (_, index) => firstDepth + index);
    return this.#fields("BlockStored", {
      block_hashes: depths.map((depth) => this.#hash(chain, depth)),
      parent_block_hash: firstDepth === 0 ? null : this.#hash(chain, firstDepth - 1),
      token_ids: Array.from(chain.tokens(firstDepth * size, (firstDepth + blocks) * size)),
      block_size: size,
      lora_id: chain.identity.loraId,
      medium: MEDIUM,
      lora_name: chain.identity.loraName,
      extra_keys: depths.map((depth) => chain.extraKeysAt(depth)),
      group_idx: GROUP_INDEX,
      kv_cache_spec_kind: SPEC_KIND,
    });
  }

  /** Both encodings have the fields in one order; what follows them is nil and left out. */
  #fields(tag: string, fields: Readonly<Record<string, unknown>>): unknown {
    return this.#options.encoding === "map"
      ? { type: tag, ...fields }
      : [tag, ...Object.values(fields)];
  }

  #hash(chain: BlockChain, depth: number): bigint | Uint8Array {
    return this.#options.hashForm === "u64" ? chain.hashAt(depth) : chain.digestAt(depth);
  }
}
