/**
 * NVIDIA Dynamo's router events, JSON or msgpack maps: one, or an array of one rank's.
 *
 * A stored block is told by its hash and by a hash of its tokens, which no key can be made of: it can
 * be placed only where its handle is known, and is counted as `unknown-handle` otherwise. Source:
 * lib/kv-router/src/protocols.rs; schema only, no captured bytes.
 */
import { RANK_MAX } from "../core/ids.ts";
import { ok, type Result, refused } from "../core/result.ts";
import {
  type Fields,
  isCount,
  isFields,
  readHash,
  readHashes,
  readNullable,
} from "./event-fields.ts";
import { type DecodeRefusal, readJson, readMsgpack, tooManyEvents } from "./event-payload.ts";
import { type KvEvent, type KvEventBatch, MALFORMED_EVENT, UNKNOWN_TAG_EVENT } from "./kv-event.ts";

/** Dynamo's tiers whose names are not those of a medium. */
const MEDIUM_OF_TIER: ReadonlyMap<string, string> = new Map([["host_pinned", "CPU_PINNED"]]);

export function decodeDynamoBatch(payload: Uint8Array): Result<KvEventBatch, DecodeRefusal> {
  const read = isJson(payload) ? readJson(payload) : readMsgpack(payload);
  if (!read.ok) return read;
  const items: readonly unknown[] = Array.isArray(read.value) ? read.value : [read.value];
  const tooMany = tooManyEvents(items.length);
  if (tooMany !== null) return tooMany;
  if (!items.every(isFields)) return refused("malformed-batch", "an event is not a map");
  const events = items.map((item) => innerOf(item));
  const ranks = new Set(events.map(({ dp_rank: rank }) => rank ?? null));
  const [rank = null] = ranks;
  if (ranks.size > 1 || (rank !== null && !isCount(rank, RANK_MAX))) {
    return refused("malformed-batch", `dp_rank differs, or is not in 0..${RANK_MAX}`);
  }
  return ok({ ts: 0, rank, events: items.map((item) => decodeEvent(item)) });
}

/** As msgpack, these bytes are small integers, and no map. */
function isJson(payload: Uint8Array): boolean {
  return payload[0] === 0x7b || payload[0] === 0x5b;
}

/** The event of a router event, or a bare one. */
function innerOf(item: Fields): Fields {
  const inner = item["event"];
  return isFields(inner) ? inner : item;
}

function decodeEvent(item: Fields): KvEvent {
  const { data } = innerOf(item);
  if (data === "cleared") return { type: "cleared" };
  const tier = item["storage_tier"];
  if (!isFields(data) || (tier !== undefined && tier !== null && typeof tier !== "string")) {
    return typeof data === "string" ? UNKNOWN_TAG_EVENT : MALFORMED_EVENT;
  }
  const medium = typeof tier === "string" ? (MEDIUM_OF_TIER.get(tier) ?? tier) : null;
  if ("stored" in data) return decodeStored(data["stored"], medium) ?? MALFORMED_EVENT;
  if ("removed" in data) return decodeRemoved(data["removed"], medium) ?? MALFORMED_EVENT;
  if ("cleared" in data) return { type: "cleared" };
  return UNKNOWN_TAG_EVENT;
}

function decodeStored(stored: unknown, medium: string | null): KvEvent | null {
  if (!isFields(stored) || !Array.isArray(stored["blocks"])) return null;
  const parent = readNullable(stored["parent_hash"], readHash);
  const hashes = (stored["blocks"] as readonly unknown[]).map((block) =>
    isFields(block) ? block["block_hash"] : undefined,
  );
  const handles = readHashes(hashes);
  if (handles === undefined || parent === undefined) return null;
  const identity = { loraName: null, loraId: null, extraKeys: null, group: null, specKind: null };
  const tokens = new Uint32Array(0);
  return { type: "stored", handles, parent, tokens, blockSizeTokens: 0, medium, ...identity };
}

function decodeRemoved(removed: unknown, medium: string | null): KvEvent | null {
  const handles = isFields(removed) ? readHashes(removed["block_hashes"]) : undefined;
  return handles === undefined ? null : { type: "removed", handles, medium, group: null };
}
