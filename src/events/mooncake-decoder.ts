/**
 * The Mooncake store's events as its vLLM connector publishes them: vLLM's form, one block an event,
 * presence by sequence hash (`token_ids` may be [] with a block size), and never a removal.
 *
 * What the stream has of the GPU is the engine's own.
 */
import type { Result } from "../core/result.ts";
import type { DecodeRefusal } from "./event-payload.ts";
import { type KvEventBatch, withoutRemovals } from "./kv-event.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";

export function decodeMooncakeBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  const decoded = decodeVllmBatch(payload);
  return decoded.ok ? { ok: true, value: withoutRemovals(decoded.value) } : decoded;
}
