/** The blocks of TensorRT-LLM's "stored" event: tokens, tier, and what else identifies them. */
import type { EngineKey } from "../core/ids.ts";
import type { ExtraKey } from "../keys/extra-keys.ts";
import {
  type Fields,
  isFields,
  readCount,
  readHash,
  readId,
  readNullable,
  readString,
  readTokens,
} from "./event-fields.ts";

export interface TrtllmBlock {
  readonly handle: EngineKey;
  /** Fewer than a block's size where it is not full. */
  readonly tokens: Uint32Array;
  /** 0 is the GPU, 1 the host. */
  readonly level: number;
  readonly loraName: string | null;
  readonly loraId: number | bigint | null;
  /** Multimodal items, and extra ids of tokens. */
  readonly extras: readonly ExtraKey[];
  readonly salt: ExtraKey | null;
}

/** Null: a bad field. */
export function readTrtllmBlocks(data: Fields): TrtllmBlock[] | null {
  const list = data["blocks"];
  const loraName = readNullable(data["lora_name"], readString);
  if (!Array.isArray(list) || loraName === undefined) return null;
  const blocks: TrtllmBlock[] = [];
  for (const item of list) {
    const block = isFields(item) ? readBlock(item, loraName) : null;
    if (block === null) return null;
    blocks.push(block);
  }
  return blocks;
}

function readBlock(item: Fields, loraName: string | null): TrtllmBlock | null {
  const handle = readHash(item["block_hash"]);
  const tokens = readTokens(tokenFields(item["tokens"], "token_id"));
  const tokenExtras = tokenFields(item["tokens"], "token_extra_id");
  const level = readNullable(item["cache_level"], readCount);
  const loraId = readNullable(item["lora_id"], readId);
  const items = readNullable(item["mm_keys"], readMultimodal);
  const salt = readNullable(item["cache_salt"], readSalt);
  if (
    handle === undefined ||
    tokens === undefined ||
    level === undefined ||
    loraId === undefined ||
    items === undefined ||
    salt === undefined
  ) {
    return null;
  }
  const extras = [...(items ?? []), ...extraIds(tokenExtras)];
  return { handle, tokens, level: level ?? 0, loraName, loraId, extras, salt };
}

/** One field of each token; bad ones come out as bad ones. */
function tokenFields(tokens: unknown, name: string): unknown {
  if (!Array.isArray(tokens)) return undefined;
  return tokens.map((token: unknown) => (isFields(token) ? token[name] : undefined));
}

/** Extra ids tell tokens of equal ids apart; 0 says nothing. */
function extraIds(ids: unknown): ExtraKey[] {
  if (!Array.isArray(ids)) return [];
  const told = new Set(
    ids.filter((id) => (typeof id === "number" && id !== 0) || typeof id === "string"),
  );
  return told.size === 0 ? [] : [["token_extra_ids", ...told]];
}

/** Pairs of content hash and offset, as vLLM has them. */
function readMultimodal(value: unknown): ExtraKey[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const items: ExtraKey[] = [];
  for (const item of value) {
    const hash = isFields(item) ? item["hash"] : undefined;
    const offset = isFields(item) ? item["start_offset"] : undefined;
    if (typeof hash !== "string" || typeof offset !== "number") return undefined;
    items.push([hash, offset]);
  }
  return items;
}

function readSalt(value: unknown): ExtraKey | undefined {
  return typeof value === "string" || typeof value === "number" ? value : undefined;
}
