/** One engine's messages -> KV events: the interface, and the decoder of each engine. */
import type { EngineName } from "../core/engine-name.ts";
import type { Result } from "../core/result.ts";
import { decodeDynamoBatch } from "./dynamo-decoder.ts";
import type { DecodeRefusal } from "./event-payload.ts";
import type { KvEventBatch } from "./kv-event.ts";
import { decodeLmcacheBatch } from "./lmcache-decoder.ts";
import { decodeMooncakeBatch } from "./mooncake-decoder.ts";
import { decodeSglangBatch } from "./sglang-decoder.ts";
import { TrtllmDecoder } from "./trtllm-decoder.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";

export interface EventDecoder {
  /**
   * Decodes one message of a stream, in the stream's order; never throws. What cannot be used of a
   * batch comes out as "skipped", and the rest is kept.
   */
  decode(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal>;
}

/** A decoder may remember its stream: each stream needs its own. */
const DECODERS: Readonly<Record<EngineName, () => EventDecoder>> = {
  vllm: () => ({ decode: decodeVllmBatch }),
  sglang: () => ({ decode: decodeSglangBatch }),
  trtllm: () => new TrtllmDecoder(),
  dynamo: () => ({ decode: decodeDynamoBatch }),
  lmcache: () => ({ decode: decodeLmcacheBatch }),
  mooncake: () => ({ decode: decodeMooncakeBatch }),
};

export function createEventDecoder(engine: EngineName): EventDecoder {
  return DECODERS[engine]();
}
