/**
 * One decoded message as the JSON that `kvatlas events decode` prints; scripts depend on its form.
 *
 * Hashes are decimal strings, and so are integers above 2^53; byte strings are "0x" hex.
 */
import type { Result } from "../core/result.ts";
import type { ExtraKey } from "../keys/extra-keys.ts";
import { tierOfMedium } from "../tiers/tier.ts";
import type { KvEvent, KvEventBatch, SentStore } from "./kv-event.ts";

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

export function messageJson(seq: number, decoded: Result<KvEventBatch, string>): Json {
  if (!decoded.ok) {
    const events = [{ type: "skipped", reason: decoded.reason }];
    return { seq, ts: null, rank: null, events };
  }
  const { ts, rank, events } = decoded.value;
  return { seq, ts, rank, events: events.map(eventJson) };
}

function eventJson(event: KvEvent): Json {
  switch (event.type) {
    case "stored":
      return storedJson({ ...event, tokens: [...event.tokens] });
    case "removed":
      return {
        type: "removed",
        blockHashes: Array.from(event.handles, decimal),
        tier: tierOfMedium(event.medium),
        group: event.group,
      };
    case "cleared":
      return { type: "cleared" };
    case "skipped":
      return event.sent === undefined
        ? { type: "skipped", reason: event.reason }
        : storedJson(event.sent);
  }
}

function storedJson(event: SentStore): Json {
  return {
    type: "stored",
    blockHashes: Array.from(event.handles, decimal),
    parentHash: event.parent === null ? null : decimal(event.parent),
    tokenIds: event.tokens.map(integerJson),
    blockSize: integerJson(event.blockSizeTokens),
    tier: tierOfMedium(event.medium),
    medium: event.medium,
    loraName: event.loraName,
    loraId: event.loraId === null ? null : integerJson(event.loraId),
    group: event.group === null ? null : integerJson(event.group),
    extraKeys: event.extraKeys?.map((block) => block?.map(extraJson) ?? null) ?? null,
  };
}

function decimal(handle: bigint): string {
  return handle.toString();
}

/** Decoders give a bigint only for what no number holds. */
function integerJson(integer: number | bigint): Json {
  return typeof integer === "bigint" ? decimal(integer) : integer;
}

function extraJson(extra: ExtraKey): Json {
  if (extra instanceof Uint8Array) return `0x${Buffer.from(extra).toString("hex")}`;
  if (typeof extra === "bigint") return decimal(extra);
  if (Array.isArray(extra)) return extra.map(extraJson);
  return extra as Json;
}
