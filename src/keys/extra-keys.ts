/**
 * What else than tokens identifies a block: cache salt, multimodal items, prompt embeddings.
 *
 * Engines send them per block (vLLM 0.17 and later: `extra_keys`); the salt stands on the first
 * block only and reaches later blocks through the chain. Both paths turn one block's extras into
 * the same canonical text, which then enters its key.
 */

export type ExtraKey = string | number | bigint | boolean | Uint8Array | null | readonly ExtraKey[];

/** Canonical text of one block's extras; null when there are none. Bytes become "0x" hex. */
export function extraText(extras: readonly ExtraKey[] | null): string | null {
  if (extras === null || extras.length === 0) return null;
  return JSON.stringify(extras.map(canonical));
}

function canonical(extra: ExtraKey): unknown {
  if (extra instanceof Uint8Array) return `0x${Buffer.from(extra).toString("hex")}`;
  if (typeof extra === "bigint") return extra.toString();
  if (Array.isArray(extra)) return extra.map(canonical);
  return extra;
}

/** The extras of a request with a cache salt, for its first block, in vLLM's order. */
export function saltExtras(cacheSalt: string | null): readonly ExtraKey[] | null {
  return cacheSalt === null ? null : [cacheSalt];
}

/** A first block's extras with the salt behind them, unless it is among them already. */
export function withSalt(
  extras: readonly ExtraKey[] | null,
  cacheSalt: string,
): readonly ExtraKey[] {
  if (extras === null) return [cacheSalt];
  return extras.includes(cacheSalt) ? extras : [...extras, cacheSalt];
}
