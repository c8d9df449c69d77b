/**
 * The common forms of vLLM's payloads read straight from their bytes, without values in between.
 *
 * Whatever is unusual (other widths of integers, text that is not ASCII, extras, unknown fields,
 * anything malformed) gives null, and the general decoder decides: for what is read here it would say
 * the same. The rest of the write path cannot tell them apart.
 */
import { type EngineKey, engineKey, RANK_MAX } from "../core/ids.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import type { BlockRemoved, BlockStored, KvEvent, KvEventBatch } from "./kv-event.ts";
import { MsgpackScan, UNUSUAL } from "./msgpack-scan.ts";

/** Fields of the longest array that is read here; a longer one is of a later version. */
const STORED_FIELDS = 11;
const REMOVED_FIELDS = 4;

/** One of these is filled field by field, in any order. */
interface Draft {
  type: string | null;
  handles: EngineKey[] | null;
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
  const fields = scan.mapLength();
  if (fields === UNUSUAL) scanFields(scan, draft);
  else scanEntries(scan, draft, fields);
  if (scan.isUnusual) return null;
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
function scanFields(scan: MsgpackScan, draft: Draft): void {
  const fields = scan.arrayLength();
  if (fields < 1) {
    scan.giveUp();
    return;
  }
  draft.type = scan.text();
  if (draft.type === "BlockStored") scanStoredFields(scan, draft, fields);
  else if (draft.type === "BlockRemoved") scanRemovedFields(scan, draft, fields);
  else if (fields !== 1) scan.giveUp();
}

function scanStoredFields(scan: MsgpackScan, draft: Draft, fields: number): void {
  if (fields < 5 || fields > STORED_FIELDS) {
    scan.giveUp();
    return;
  }
  draft.handles = scanHashes(scan);
  draft.parent = scan.isNil() ? null : scanHash(scan);
  draft.tokens = scan.u32Array();
  draft.blockSizeTokens = scan.count();
  if (fields > 5) draft.loraId = nullableCount(scan);
  if (fields > 6) draft.medium = nullableText(scan);
  if (fields > 7) draft.loraName = nullableText(scan);
  if (fields > 8) draft.extraKeys = nullableNils(scan);
  if (fields > 9) draft.group = nullableCount(scan);
  if (fields > 10) draft.specKind = nullableText(scan);
}

function scanRemovedFields(scan: MsgpackScan, draft: Draft, fields: number): void {
  if (fields < 2 || fields > REMOVED_FIELDS) {
    scan.giveUp();
    return;
  }
  draft.handles = scanHashes(scan);
  if (fields > 2) draft.medium = nullableText(scan);
  if (fields > 3) draft.group = nullableCount(scan);
}

/** The map form. */
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
      draft.handles = scanHashes(scan);
      return 2;
    case "parent_block_hash":
      draft.parent = scan.isNil() ? null : scanHash(scan);
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

function scanHash(scan: MsgpackScan): EngineKey {
  return engineKey(scan.u64());
}

function scanHashes(scan: MsgpackScan): EngineKey[] {
  const length = scan.arrayLength();
  const handles: EngineKey[] = [];
  for (let position = 0; position < length && !scan.isUnusual; position += 1) {
    handles.push(scanHash(scan));
  }
  return handles;
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
