/** Loads the golden captures of test/golden: wire bytes, and what the engine itself says they mean. */
import { readdirSync, readFileSync } from "node:fs";

const ROOT = new URL("../golden/", import.meta.url);
const CAPTURE = ".jsonl";

export interface GoldenMessage {
  readonly topic: string;
  readonly seq: number;
  readonly payload: Uint8Array;
  /** The three ZMQ frames as a SUB socket receives them. */
  readonly frames: readonly [Uint8Array, Uint8Array, Uint8Array];
}

/** One event by the engine's decoder. Hashes: decimal for integers, "0x" hex for byte strings. */
export interface GoldenEvent {
  readonly type: "BlockStored" | "BlockRemoved" | "AllBlocksCleared";
  readonly block_hashes?: readonly string[];
  readonly parent_block_hash?: string | null;
  readonly token_ids?: readonly number[];
  readonly block_size?: number;
  readonly lora_id?: number | null;
  readonly lora_name?: string | null;
  readonly medium?: string | null;
  /** SGLang's. */
  readonly cache_salt?: string | null;
  readonly extra_keys?: readonly (readonly unknown[] | null)[] | null;
  readonly group_idx?: number | null;
  readonly kv_cache_spec_kind?: string | null;
}

export interface GoldenBatch {
  readonly seq: number;
  /** Unix seconds. */
  readonly ts: number;
  readonly data_parallel_rank?: number | null;
  /** The same of SGLang. */
  readonly attn_dp_rank?: number | null;
  readonly events: readonly GoldenEvent[];
}

export interface GoldenRequest {
  readonly id: string;
  readonly prompt_token_ids: readonly number[];
  readonly output_token_ids: readonly number[];
  readonly cache_salt?: string | null;
  readonly lora?: { readonly name: string; readonly id: number } | null;
  /** Multimodal items by their place in the prompt, in tokens. */
  readonly mm?:
    | readonly { readonly identifier: string; readonly offset: number; readonly length: number }[]
    | null;
  /** The engine's hashes of the request's full blocks, as they stand on the wire. */
  readonly block_hashes_external: readonly string[];
}

export interface GoldenExpected {
  readonly version: string;
  readonly block_size: number;
  readonly topic: string;
  readonly batches: readonly GoldenBatch[];
  readonly requests: readonly GoldenRequest[];
  readonly dropped_frames?: readonly { readonly seq: number }[];
}

export interface GoldenCapture {
  /** Folder and file: "vllm-0.33.0/b_eviction". */
  readonly name: string;
  readonly messages: readonly GoldenMessage[];
  readonly expected: GoldenExpected;
}

/** Names of all captures of one engine: "vllm" or "sglang". */
export function goldenNames(engine: "vllm" | "sglang"): string[] {
  return readdirSync(ROOT)
    .filter((folder) => folder.startsWith(`${engine}-`))
    .flatMap((folder) =>
      readdirSync(new URL(`${folder}/`, ROOT))
        .filter((file) => file.endsWith(CAPTURE))
        .map((file) => `${folder}/${file.slice(0, -CAPTURE.length)}`),
    )
    .sort();
}

export function loadMessages(name: string): GoldenMessage[] {
  return readFileSync(new URL(name + CAPTURE, ROOT), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => {
      const { topic, seq, seq_hex, payload_hex } = JSON.parse(line) as Record<string, string> & {
        readonly seq: number;
      };
      const payload = new Uint8Array(Buffer.from(payload_hex ?? "", "hex"));
      const sequence = new Uint8Array(Buffer.from(seq_hex ?? "", "hex"));
      return {
        topic: topic ?? "",
        seq,
        payload,
        frames: [new TextEncoder().encode(topic), sequence, payload],
      };
    });
}

export function loadCapture(name: string): GoldenCapture {
  const expected = JSON.parse(
    readFileSync(new URL(`${name}.expected.json`, ROOT), "utf8"),
  ) as GoldenExpected;
  return { name, messages: loadMessages(name), expected };
}

/** Low 64 bits of a hash as the expected files write it. */
export function handleOf(hash: string): bigint {
  return BigInt.asUintN(64, BigInt(hash));
}
