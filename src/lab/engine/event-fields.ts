/**
 * The two shapes of one event on the wire.
 *
 * `array`: as vLLM up to 0.23 writes it, tag first, with the fields of 0.22; trailing fields at their
 * default are cut off. `map`: as 0.24 and later write it, keyed by name, defaults left out.
 */

export type EventEncoding = "array" | "map";
export type EventTag = "BlockStored" | "BlockRemoved" | "AllBlocksCleared";

/** The optional fields: their default is nil. */
const OPTIONAL = ["extra_keys", "group_idx", "kv_cache_spec_kind", "session_id"];
/** Fields that only the map form knows. */
const MAP_ONLY = ["session_id"];
/** Fields behind the tag in the array form of vLLM 0.22. */
const ARRAY_FIELDS: Readonly<Record<EventTag, number>> = {
  BlockStored: 11,
  BlockRemoved: 3,
  AllBlocksCleared: 0,
};
/** A field that no version has. */
const EXTRA_FIELD = "lab_extra";
const EXTRA_VALUE: readonly unknown[] = ["of no known version", { nested: [1, null] }];

/** `fields` stand in the order of the array form. */
export function eventFields(
  tag: EventTag,
  fields: Readonly<Record<string, unknown>>,
  options: { readonly encoding: EventEncoding; readonly hasExtraField: boolean },
): unknown {
  const entries = Object.entries(fields);
  if (options.encoding === "map") {
    const kept = entries.filter(([name, value]) => value !== null || !OPTIONAL.includes(name));
    if (options.hasExtraField) kept.push([EXTRA_FIELD, EXTRA_VALUE]);
    return { type: tag, ...Object.fromEntries(kept) };
  }
  const kept = entries.filter(([name]) => !MAP_ONLY.includes(name));
  while (kept.length > 0 && isDefault(kept.at(-1))) kept.pop();
  const values = kept.map(([, value]) => value);
  if (!options.hasExtraField) return [tag, ...values];
  // Behind the last field that a reader may know.
  const padding = new Array<null>(Math.max(0, ARRAY_FIELDS[tag] - values.length)).fill(null);
  return [tag, ...values, ...padding, EXTRA_VALUE];
}

/** An event of a kind that no version has. */
export function unknownEvent(encoding: EventEncoding): unknown {
  return encoding === "map"
    ? { type: "LabBlockPinned", block_hashes: [1], reason: "none" }
    : ["LabBlockPinned", [1], "none"];
}

function isDefault(entry: readonly [string, unknown] | undefined): boolean {
  return entry !== undefined && entry[1] === null && OPTIONAL.includes(entry[0]);
}
