/**
 * The common forms of vLLM's payloads read straight from their bytes, without values in between.
 *
 * Whatever is unusual (other widths of integers, text that is not ASCII, extras, unknown fields,
 * anything malformed) gives null, and the general decoder decides: for what is read here it would say
 * the same. The rest of the write path cannot tell them apart.
 */
import { type EngineKey, engineKey, RANK_MAX } from "../core/ids.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import {
  type BlockRemoved,
  type BlockStored,
  EVENTS_MAX,
  type KvEvent,
  type KvEventBatch,
} from "./kv-event.ts";
import { MsgpackScan, UNUSUAL } from "./msgpack-scan.ts";

/** Fields of the longest array that is read here; a longer one is of a later version. */
const STORED_FIELDS = 11;
const REMOVED_FIELDS = 4;

/** One of these is filled field by field, in any order. */
interface Draft {
  type: string | null;
  handles: BigUint64Array | null;
  parent: EngineKey | null;
  tokens: Uint32Array | null;
  blockSizeTokens: number | null;
  loraId: number | null;
  medium: string | null;
  loraName: string | null;
  extraKeys: null[] | null;
  group: number | null;
  specKind: string | null;
}

/** Null: not of a common form. `tsMax`: Unix seconds. */
export function scanVllmBatch(payload: Uint8Array, tsMax: number): KvEventBatch | null {
  const scan = new MsgpackScan(payload);
  const fields = scan.arrayLength();
  const ts = scan.float64();
  const length = scan.arrayLength();
  if ((fields !== 2 && fields !== 3) || !(ts >= 0 && ts <= tsMax) || length === UNUSUAL) {
    return null;
  }
  if (length > EVENTS_MAX) return null;
  const events: KvEvent[] = [];
  for (let position = 0; position < length; position += 1) {
    const event = scanEvent(scan);
    if (event === null) return null;
    events.push(event);
  }
  let rank: number | null = null;
  if (fields === 3 && !scan.isNil()) {
    rank = scan.count();
    if (rank === UNUSUAL || rank > RANK_MAX) return null;
  }
  return scan.isAtEnd ? { ts, rank, events } : null;
}

function scanEvent(scan: MsgpackScan): KvEvent | null {
  const fields = scan.mapLength();
  const event = fields === UNUSUAL ? scanArray(scan) : scanMap(scan, fields);
  return scan.isUnusual ? null : event;
}

/** The map form. */
function scanMap(scan: MsgpackScan, fields: number): KvEvent | null {
  const draft: Draft = {
    type: null,
    handles: null,
    parent: null,
    tokens: null,
    blockSizeTokens: null,
    loraId: null,
    medium: null,
    loraName: null,
    extraKeys: null,
    group: null,
    specKind: null,
  };
  scanEntries(scan, draft, fields);
  if (draft.type === "BlockStored") return storedOf(draft);
  if (draft.type === "BlockRemoved") return removedOf(draft);
  return draft.type === "AllBlocksCleared" ? { type: "cleared" } : null;
}

function storedOf(draft: Draft): BlockStored | null {
  const { handles, parent, tokens, blockSizeTokens, medium } = draft;
  if (handles === null || tokens === null || blockSizeTokens === null) return null;
  if (blockSizeTokens > BLOCK_SIZE_TOKENS_MAX) return null;
  const { loraName, loraId, extraKeys, group, specKind } = draft;
  return {
    type: "stored",
    handles,
    parent,
    tokens,
    blockSizeTokens,
    medium,
    loraName,
    loraId,
    extraKeys,
    group,
    specKind,
  };
}

function removedOf({ handles, medium, group }: Draft): BlockRemoved | null {
  return handles === null ? null : { type: "removed", handles, medium, group };
}

/** The array form: the tag first, the fields in their order, later ones left out. */
function scanArray(scan: MsgpackScan): KvEvent | null {
  const fields = scan.arrayLength();
  const type = fields < 1 ? null : scan.text();
  if (type === "BlockStored") return scanStored(scan, fields);
  if (type === "BlockRemoved") return scanRemoved(scan, fields);
  return type === "AllBlocksCleared" && fields === 1 ? { type: "cleared" } : null;
}

function scanStored(scan: MsgpackScan, fields: number): BlockStored | null {
  if (fields < 5 || fields > STORED_FIELDS) return null;
  const handles = scan.u64Array();
  const parent = scan.isNil() ? null : engineKey(scan.u64());
  const tokens = scan.u32Array();
  const blockSizeTokens = scan.count();
  const loraId = fields > 5 ? nullableCount(scan) : null;
  const medium = fields > 6 ? nullableText(scan) : null;
  const loraName = fields > 7 ? nullableText(scan) : null;
  const extraKeys = fields > 8 ? nullableNils(scan) : null;
  const group = fields > 9 ? nullableCount(scan) : null;
  const specKind = fields > 10 ? nullableText(scan) : null;
  if (blockSizeTokens > BLOCK_SIZE_TOKENS_MAX) return null;
  return {
    type: "stored",
    handles,
    parent,
    tokens,
    blockSizeTokens,
    medium,
    loraName,
    loraId,
    extraKeys,
    group,
    specKind,
  };
}

function scanRemoved(scan: MsgpackScan, fields: number): BlockRemoved | null {
  if (fields < 2 || fields > REMOVED_FIELDS) return null;
  const handles = scan.u64Array();
  const medium = fields > 2 ? nullableText(scan) : null;
  const group = fields > 3 ? nullableCount(scan) : null;
  return { type: "removed", handles, medium, group };
}

function scanEntries(scan: MsgpackScan, draft: Draft, fields: number): void {
  let seen = 0;
  for (let position = 0; position < fields && !scan.isUnusual; position += 1) {
    const bit = scanEntry(scan, draft, scan.text());
    // Of a field that comes twice, the general decoder knows which one counts.
    if (bit === 0 || (seen & bit) !== 0) scan.giveUp();
    seen |= bit;
  }
}

/** Reads one field by its name; returns its bit, 0 for an unknown one. */
function scanEntry(scan: MsgpackScan, draft: Draft, name: string): number {
  switch (name) {
    case "type":
      draft.type = scan.text();
      return 1;
    case "block_hashes":
      draft.handles = scan.u64Array();
      return 2;
    case "parent_block_hash":
      draft.parent = scan.isNil() ? null : engineKey(scan.u64());
      return 4;
    case "token_ids":
      draft.tokens = scan.u32Array();
      return 8;
    case "block_size":
      draft.blockSizeTokens = scan.count();
      return 16;
    case "lora_id":
      draft.loraId = nullableCount(scan);
      return 32;
    case "medium":
      draft.medium = nullableText(scan);
      return 64;
    case "lora_name":
      draft.loraName = nullableText(scan);
      return 128;
    case "extra_keys":
      draft.extraKeys = nullableNils(scan);
      return 256;
    case "group_idx":
      draft.group = nullableCount(scan);
      return 512;
    case "kv_cache_spec_kind":
      draft.specKind = nullableText(scan);
      return 1024;
    default:
      return 0;
  }
}

function nullableCount(scan: MsgpackScan): number | null {
  return scan.isNil() ? null : scan.count();
}

function nullableText(scan: MsgpackScan): string | null {
  return scan.isNil() ? null : scan.text();
}

/** Extras of blocks that have none; others are unusual. */
function nullableNils(scan: MsgpackScan): null[] | null {
  if (scan.isNil()) return null;
  const length = scan.arrayLength();
  const blocks: null[] = [];
  for (let position = 0; position < length; position += 1) {
    if (!scan.isNil()) {
      scan.giveUp();
      break;
    }
    blocks.push(null);
  }
  return blocks;
}
