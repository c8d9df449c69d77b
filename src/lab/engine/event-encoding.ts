/**
 * Facts of the pool as the bytes that vLLM publishes: msgpack [ts, events, data_parallel_rank].
 *
 * The shapes of one event are in event-fields.ts, those of the lower tiers in offload-fields.ts.
 * Hashes are unsigned 64-bit integers by default, or the raw 32 bytes.
 */
import { Encoder } from "@msgpack/msgpack";
import { assertNever } from "../../core/assert.ts";
import type { BlockChain } from "./block-chain.ts";
import type { EngineFact } from "./engine-facts.ts";
import { type EventEncoding, type EventTag, eventFields, unknownEvent } from "./event-fields.ts";
import { OFFLOAD_DEFAULTS, type OffloadOptions, offloadEvents } from "./offload-fields.ts";

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
/** The same with a fourth element, which no version has. */
const EXTRA_HEADER = [0x94, 0xcb] as const;
const TIMESTAMP_BYTES = 8;
/** Session of the requests whose hits are reported. */
const SESSION_ID = "lab-session";

/** A fault: the batch and its events have one element or field more than any version. */
export interface BatchExtras {
  readonly hasExtraFields: boolean;
}

export class EventEncoder {
  readonly #options: EventEncoderOptions;
  readonly #offload: OffloadOptions;
  readonly #encoder = new Encoder({ useBigInt64: true });

  constructor(options: EventEncoderOptions, offload: OffloadOptions = OFFLOAD_DEFAULTS) {
    this.#options = options;
    this.#offload = offload;
  }

  /** `timestampSeconds` is Unix time of the scheduler step. */
  batch(
    timestampSeconds: number,
    facts: readonly EngineFact[],
    extras: BatchExtras = { hasExtraFields: false },
  ): Uint8Array {
    const events = this.#encoder.encode(facts.flatMap((fact) => this.#events(fact, extras)));
    const tail = [this.#encoder.encode(this.#options.dataParallelRank)];
    if (extras.hasExtraFields) tail.push(this.#encoder.encode({ lab_extra: true }));
    const header = extras.hasExtraFields ? EXTRA_HEADER : BATCH_HEADER;
    const head = new Uint8Array(header.length + TIMESTAMP_BYTES);
    head.set(header, 0);
    new DataView(head.buffer).setFloat64(header.length, timestampSeconds);
    return joined([head, events, ...tail]);
  }

  #events(fact: EngineFact, extras: BatchExtras): unknown[] {
    const { encoding } = this.#options;
    const event = (tag: EventTag, fields: Readonly<Record<string, unknown>>): unknown =>
      eventFields(tag, fields, { encoding, hasExtraField: extras.hasExtraFields });
    switch (fact.kind) {
      case "stored":
      case "reported":
        return [event("BlockStored", this.#stored(fact))];
      case "removed":
        return [event("BlockRemoved", removedFields(this.#hash(fact.chain, fact.depth)))];
      case "removed_unknown":
        return [event("BlockRemoved", removedFields(this.#digestOnWire(fact.digest)))];
      case "cleared":
        return [event("AllBlocksCleared", {})];
      case "tier_stored":
      case "tier_removed":
        return offloadEvents(fact, this.#offload).map(({ tag, fields }) => event(tag, fields));
      case "unknown_event":
        return [unknownEvent(encoding)];
      default:
        return assertNever(fact);
    }
  }

  #stored(fact: EngineFact & { readonly kind: "stored" | "reported" }): Record<string, unknown> {
    const { chain, firstDepth, blocks } = fact;
    const size = chain.blockSizeTokens;
    const depths = Array.from({ length: blocks }, (_, index) => firstDepth + index);
    return {
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
      session_id: fact.kind === "reported" ? SESSION_ID : null,
    };
  }

  #hash(chain: BlockChain, depth: number): bigint | Uint8Array {
    return this.#options.hashForm === "u64" ? chain.hashAt(depth) : chain.digestAt(depth);
  }

  #digestOnWire(digest: Uint8Array): bigint | Uint8Array {
    if (this.#options.hashForm === "bytes") return digest;
    return new DataView(digest.buffer, digest.byteOffset).getBigUint64(digest.length - 8);
  }
}

function removedFields(hash: bigint | Uint8Array): Record<string, unknown> {
  return { block_hashes: [hash], medium: MEDIUM, group_idx: GROUP_INDEX };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}
