/** Payloads of every engine: captured ones where there are, written after the schema elsewhere. */
import { Encoder } from "@msgpack/msgpack";
import type { EngineName } from "../../src/core/engine-name.ts";
import { goldenNames, loadMessages } from "./golden.ts";

const encoder = new Encoder({ useBigInt64: true });
const TOKENS = Array.from({ length: 32 }, (_, position) => 1000 + position);

export type EventSamples = Readonly<Record<EngineName, readonly Uint8Array[]>>;

export function eventSamples(): EventSamples {
  return {
    vllm: captured("vllm"),
    sglang: captured("sglang"),
    trtllm: trtllmSamples(),
    dynamo: dynamoSamples(),
    lmcache: connectorSamples({ blockSize: 256, hasTokens: true }),
    mooncake: [
      ...connectorSamples({ blockSize: 16, hasTokens: true }),
      ...connectorSamples({ blockSize: 16, hasTokens: false }),
    ],
  };
}

function captured(engine: "vllm" | "sglang"): Uint8Array[] {
  return goldenNames(engine).flatMap((name) => loadMessages(name).map(({ payload }) => payload));
}

/** `text` is JSON: engines write integers that no JavaScript number holds. */
export function jsonPayload(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function msgpackPayload(value: unknown): Uint8Array {
  return encoder.encode(value);
}

/** A block of TensorRT-LLM's stored event, as JSON. */
export function trtllmBlock(hash: string, tokens: readonly number[], more = ""): string {
  const list = tokens.map((id) => `{"type":"unique_token","token_id":${id},"token_extra_id":0}`);
  const fields = `"block_hash":${hash},"tokens":[${list.join(",")}],"cache_level":0,"priority":35`;
  return `{"type":"stored_block",${fields}${more}}`;
}

function trtllmSamples(): Uint8Array[] {
  const image = `,"mm_keys":[{"type":"mm_key","hash":"${"ab".repeat(32)}","start_offset":0}]`;
  const events = [
    '"data":{"type":"created","num_blocks_per_cache_level":[101230,0]}',
    `"data":{"type":"stored","parent_hash":null,"blocks":[${trtllmBlock("17302193203112421310", TOKENS)},${trtllmBlock("4", TOKENS, image)}]}`,
    `"data":{"type":"stored","parent_hash":4,"blocks":[${trtllmBlock("5", TOKENS.slice(0, 7))}]}`,
    '"data":{"type":"updated","block_hash":4,"cache_level":{"type":"event_diff","new_value":1,"old_value":0},"priority":null}',
    '"data":{"type":"removed","block_hashes":[4,5,17302193203112421310]}',
  ].map((data, at) => `{"event_id":${at},${data},"window_size":4096,"attention_dp_rank":0}`);
  return [...events, `[${events.join(",")}]`].map(jsonPayload);
}

function dynamoSamples(): Uint8Array[] {
  const stored =
    '{"worker_id":7,"storage_tier":"device","event":{"event_id":0,"data":{"stored":{"parent_hash":null,"blocks":[{"block_hash":18446744073709551615,"tokens_hash":3,"mm_extra_info":null}]}},"dp_rank":0}}';
  const removed =
    '{"worker_id":7,"storage_tier":"host_pinned","event":{"event_id":1,"data":{"removed":{"block_hashes":[18446744073709551615]}},"dp_rank":0}}';
  const cleared = '{"worker_id":7,"event":{"event_id":2,"data":"cleared","dp_rank":0}}';
  const blocks = [{ block_hash: 2n ** 64n - 1n, tokens_hash: 3n, mm_extra_info: null }];
  const data = { stored: { parent_hash: 9n, blocks } };
  const packed = { worker_id: 7, storage_tier: "disk", event: { event_id: 3, data, dp_rank: 1 } };
  return [
    ...[stored, removed, cleared, `[${stored},${removed}]`].map(jsonPayload),
    msgpackPayload(packed),
    msgpackPayload([packed, packed]),
  ];
}

function connectorSamples(form: {
  readonly blockSize: number;
  readonly hasTokens: boolean;
}): Uint8Array[] {
  const tokens = Array.from({ length: form.blockSize }, (_, position) => position);
  const event = (hash: bigint, parent: bigint | null): object => ({
    type: "BlockStored",
    block_hashes: [hash],
    parent_block_hash: parent,
    token_ids: form.hasTokens ? tokens : [],
    block_size: form.blockSize,
    lora_id: null,
    medium: "cpu",
    lora_name: null,
  });
  return [msgpackPayload([1.5, [event(11n, null), event(2n ** 64n - 1n, 11n)], 0])];
}
