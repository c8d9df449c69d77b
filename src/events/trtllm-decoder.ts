/**
 * TensorRT-LLM's KV events: the JSON array that `POST /kv_cache_events` drains, or one event of it.
 *
 * A move between tiers ("updated") is a store in the one and a removal from the other. Blocks that are
 * not full are reported too: they are left out, and so are their removals. The wire does not tell the
 * block size: it is the longest block of the stream, and a length that is no power of two is never it.
 * Events carry no time. Source: tensorrt_llm/_utils.py (KVCacheEventSerializer); schema only, no
 * captured bytes.
 */
import { type EngineKey, engineKey, RANK_MAX } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import {
  type Fields,
  isCount,
  isFields,
  readCount,
  readHash,
  readHashes,
  readNullable,
} from "./event-fields.ts";
import { type DecodeRefusal, PAYLOAD_BYTES_MAX, readJson, tooManyEvents } from "./event-payload.ts";
import { type KvEvent, type KvEventBatch, MALFORMED_EVENT, UNKNOWN_TAG_EVENT } from "./kv-event.ts";
import type { EngineMessage } from "./sequence.ts";
import { readTrtllmBlocks, type TrtllmBlock } from "./trtllm-blocks.ts";

/** Blocks not full that are remembered, oldest forgotten first: one for each running request. */
export const PARTIAL_BLOCKS_MAX = 65_536;
/** Blocks below the GPU whose level is remembered, oldest forgotten first. */
export const LOWER_BLOCKS_MAX = 1_048_576;
/** The tier of each cache level. */
const MEDIA = ["GPU", "CPU"];

interface Group {
  readonly group: number | null;
  readonly specKind: string | null;
  /** 0 where the engine does not say. */
  readonly rank: number;
}

export interface RankMessage extends EngineMessage {
  /** 0 where the engine does not say. */
  readonly rank: number;
}

/** Remembers one stream: partial blocks, block size and attention windows. */
export class TrtllmDecoder {
  /** By their places: each rank has blocks of its own under the same hashes. */
  readonly #partials = new Set<bigint>();
  /** Cache level of the blocks that are not on the GPU: a removal does not tell it. */
  readonly #lowerLevels = new Map<bigint, number>();
  #blockSizeTokens = 0;
  #windowMax = 0;

  /** All events of a message as one batch, of no rank where they are of several; never throws. */
  decode(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
    const items = itemsOf(readJson(payload));
    if (!items.ok) return items;
    return tooManyEvents(items.value.length) ?? ok(this.#decodeItems(items.value));
  }

  /** The same of a whole answer, which may be as large as those that are drained. */
  decodeAnswer(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
    const items = itemsOf(readJson(payload, PAYLOAD_BYTES_MAX));
    return items.ok ? ok(this.#decodeItems(items.value)) : items;
  }

  /** One message for each event of a drain, numbered by the engine, by each rank from 0; never throws. */
  drain(payload: Uint8Array): Result<readonly RankMessage[], DecodeRefusal> {
    const read = readJson(payload, PAYLOAD_BYTES_MAX);
    if (!read.ok) return read;
    if (!Array.isArray(read.value)) return refused("malformed-batch", "the answer is no array");
    const messages: RankMessage[] = [];
    for (const item of read.value as readonly unknown[]) {
      const seq = isFields(item) ? readCount(item["event_id"]) : undefined;
      // Without its number an event has no place: it shows as a gap.
      if (!isFields(item) || seq === undefined) continue;
      const rank = rankOf(item);
      if (rank === "bad") messages.push({ seq, rank: 0, batch: null });
      else {
        const batch = { ts: 0, rank, events: this.#decodeEvent(item) };
        messages.push({ seq, rank: rank ?? 0, batch });
      }
    }
    return ok(messages);
  }

  #decodeItems(items: readonly unknown[]): KvEventBatch {
    const ranks = new Set(items.filter(isFields).map(rankOf));
    const [rank = null] = ranks;
    const events = items.flatMap((item) =>
      isFields(item) ? this.#decodeEvent(item) : [MALFORMED_EVENT],
    );
    return { ts: 0, rank: ranks.size > 1 || rank === "bad" ? null : rank, events };
  }

  #decodeEvent(item: Fields): KvEvent[] {
    const data = item["data"];
    const group = this.#groupOf(item);
    if (!isFields(data) || group === null) return [MALFORMED_EVENT];
    switch (data["type"]) {
      case "created":
        return [];
      case "stored":
        return this.#decodeStored(data, group) ?? [MALFORMED_EVENT];
      case "removed":
        return this.#decodeRemoved(data, group) ?? [MALFORMED_EVENT];
      case "updated":
        return this.#decodeUpdated(data, group) ?? [MALFORMED_EVENT];
      default:
        return [UNKNOWN_TAG_EVENT];
    }
  }

  /** A window shorter than another one is a sliding one; `created` events tell all of them first. */
  #groupOf(item: Fields): Group | null {
    const window = readNullable(item["window_size"], readCount);
    const layerGroup = readNullable(item["layer_group_id"], readCount);
    const rank = rankOf(item) ?? 0;
    if (window === undefined || layerGroup === undefined || rank === "bad") return null;
    this.#windowMax = Math.max(this.#windowMax, window ?? 0);
    if (window === null) return { group: layerGroup, specKind: null, rank };
    const specKind = window < this.#windowMax ? "sliding_window" : "full_attention";
    return { group: layerGroup ?? window, specKind, rank };
  }

  #decodeStored(data: Fields, group: Group): KvEvent[] | null {
    const parent = readNullable(data["parent_hash"], readHash);
    const blocks = readTrtllmBlocks(data);
    if (parent === undefined || blocks === null) return null;
    for (const { tokens } of blocks) this.#learnBlockSize(tokens.length);
    const partialAt = blocks.findIndex(({ tokens }) => tokens.length !== this.#blockSizeTokens);
    const fullBlocks = partialAt === -1 ? blocks : blocks.slice(0, partialAt);
    const [partial, ...behind] = blocks.slice(fullBlocks.length);
    // Nothing follows a block that is not full.
    if (behind.length > 0) return null;
    if (partial !== undefined) this.#rememberPartial(placeOf(partial.handle, group));
    for (const { handle, level } of fullBlocks) this.#setLevel(placeOf(handle, group), level);
    return this.#runs(fullBlocks, { ...group, parent, isEagle: data["is_eagle"] === true });
  }

  /** One event for the blocks next to each other that have tier and adapter in common. */
  #runs(
    blocks: readonly TrtllmBlock[],
    chain: Group & { readonly parent: EngineKey | null; readonly isEagle: boolean },
  ): KvEvent[] {
    const events: KvEvent[] = [];
    let { parent } = chain;
    let start = 0;
    for (let end = 1; end <= blocks.length; end += 1) {
      const [first, next] = [blocks[start], blocks[end]];
      if (first === undefined || (next !== undefined && isSameRun(first, next))) continue;
      const run = blocks.slice(start, end);
      const tokens = new Uint32Array(run.length * this.#blockSizeTokens);
      run.forEach((block, at) => {
        tokens.set(block.tokens, at * this.#blockSizeTokens);
      });
      const extras = run.map((block, at) =>
        extrasOf(block, { isRoot: parent === null && at === 0 }),
      );
      events.push({
        type: "stored",
        handles: BigUint64Array.from(run, ({ handle }) => handle),
        parent,
        tokens,
        blockSizeTokens: this.#blockSizeTokens,
        medium: mediumOf(first.level),
        loraName: first.loraName,
        loraId: first.loraId,
        extraKeys: extras.some((each) => each !== null) ? extras : null,
        group: chain.group,
        specKind: chain.specKind,
        ...(chain.isEagle ? { caveat: "token-pairs" } : {}),
      });
      parent = run.at(-1)?.handle ?? null;
      start = end;
    }
    return events;
  }

  #decodeRemoved(data: Fields, source: Group): KvEvent[] | null {
    const all = readHashes(data["block_hashes"]);
    if (all === undefined) return null;
    const isPlain = this.#partials.size === 0 && this.#lowerLevels.size === 0;
    if (isPlain)
      return [{ type: "removed", handles: all, medium: mediumOf(0), group: source.group }];
    const byLevel = new Map<number, EngineKey[]>();
    for (const each of all) {
      const handle = engineKey(each);
      const place = placeOf(handle, source);
      if (this.#partials.delete(place)) continue;
      const level = this.#lowerLevels.get(place) ?? 0;
      this.#lowerLevels.delete(place);
      const handles = byLevel.get(level);
      if (handles === undefined) byLevel.set(level, [handle]);
      else handles.push(handle);
    }
    return [...byLevel].map(([level, handles]) => ({
      type: "removed",
      handles: BigUint64Array.from(handles),
      medium: mediumOf(level),
      group: source.group,
    }));
  }

  #decodeUpdated(data: Fields, source: Group): KvEvent[] | null {
    const { group, specKind } = source;
    const handle = readHash(data["block_hash"]);
    const level = readNullable(data["cache_level"], (value) =>
      isFields(value) ? value : undefined,
    );
    if (handle === undefined || level === undefined) return null;
    // A change of priority alone, or of a block that is not indexed.
    if (level === null || this.#partials.has(placeOf(handle, source))) return [];
    const from = readCount(level["old_value"]);
    const to = readCount(level["new_value"]);
    if (from === undefined || to === undefined) return null;
    this.#setLevel(placeOf(handle, source), to);
    const identity = { loraName: null, loraId: null, extraKeys: null, group, specKind };
    // The store comes first, so that its handle still is known.
    return [
      {
        type: "stored",
        handles: BigUint64Array.of(handle),
        parent: null,
        tokens: new Uint32Array(0),
        blockSizeTokens: 0,
        medium: mediumOf(to),
        ...identity,
      },
      { type: "removed", handles: BigUint64Array.of(handle), medium: mediumOf(from), group },
    ];
  }

  #learnBlockSize(tokens: number): void {
    const isPowerOfTwo = tokens > 0 && (tokens & (tokens - 1)) === 0;
    const isPossible = isPowerOfTwo && tokens <= BLOCK_SIZE_TOKENS_MAX;
    if (isPossible) this.#blockSizeTokens = Math.max(this.#blockSizeTokens, tokens);
  }

  #setLevel(place: bigint, level: number): void {
    this.#lowerLevels.delete(place);
    if (level === 0) return;
    this.#lowerLevels.set(place, level);
    if (this.#lowerLevels.size <= LOWER_BLOCKS_MAX) return;
    const oldest = this.#lowerLevels.keys().next();
    if (!oldest.done) this.#lowerLevels.delete(oldest.value);
  }

  #rememberPartial(place: bigint): void {
    this.#partials.add(place);
    if (this.#partials.size <= PARTIAL_BLOCKS_MAX) return;
    const oldest = this.#partials.keys().next();
    if (!oldest.done) this.#partials.delete(oldest.value);
  }
}

function placeOf(handle: EngineKey, { rank }: Group): bigint {
  return handle * BigInt(RANK_MAX + 1) + BigInt(rank);
}

/** The events of an answer, or the one that it is. */
function itemsOf(read: Result<unknown, DecodeRefusal>): Result<readonly unknown[], DecodeRefusal> {
  if (!read.ok) return read;
  if (Array.isArray(read.value)) return ok(read.value);
  return isFields(read.value)
    ? ok([read.value])
    : refused("malformed-batch", "neither an array nor an object");
}

function rankOf(item: Fields): number | null | "bad" {
  const rank = item["attention_dp_rank"];
  if (rank === undefined || rank === null) return null;
  return isCount(rank, RANK_MAX) ? rank : "bad";
}

function isSameRun(a: TrtllmBlock, b: TrtllmBlock): boolean {
  return a.level === b.level && a.loraId === b.loraId;
}

/** A salt is of the first block of a chain: later ones have it from there. */
function extrasOf(
  { extras, salt }: TrtllmBlock,
  { isRoot }: { readonly isRoot: boolean },
): TrtllmBlock["extras"] | null {
  const all = isRoot && salt !== null ? [...extras, salt] : extras;
  return all.length === 0 ? null : all;
}

function mediumOf(level: number): string {
  return MEDIA[level] ?? `LEVEL_${level}`;
}
