/**
 * The Mooncake store's events as its vLLM connector publishes them: vLLM's form, one block an event,
 * presence by sequence hash (`token_ids` may be [] with a block size), and never a removal.
 *
 * In a vLLM stream the same events are recognised by their medium; see vllm-decoder.ts.
 */
import type { Result } from "../core/result.ts";
import type { DecodeRefusal } from "./event-payload.ts";
import { type KvEventBatch, withoutRemovals } from "./kv-event.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";

export function decodeMooncakeBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  const decoded = decodeVllmBatch(payload);
  return decoded.ok ? { ok: true, value: withoutRemovals(decoded.value) } : decoded;
}
