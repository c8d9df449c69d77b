/**
 * LMCache's stores as its vLLM connector publishes them: vLLM's form, blocks of LMCache's own chunks
 * (256 tokens by default, the last one may be shorter) under its own hashes, and never a removal.
 *
 * What the stream has of the GPU is the engine's own.
 */
import type { Result } from "../core/result.ts";
import type { DecodeRefusal } from "./event-payload.ts";
import { type KvEventBatch, withoutRemovals } from "./kv-event.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";

export function decodeLmcacheBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  const decoded = decodeVllmBatch(payload);
  return decoded.ok ? { ok: true, value: withoutRemovals(decoded.value) } : decoded;
}
