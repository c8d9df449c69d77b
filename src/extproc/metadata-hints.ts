/** What a gateway says in `metadata_context`: the allowed endpoints, and which one answered. */
import type { Metadata__Output } from "./gen/envoy/service/ext_proc/v3/Metadata.ts";
import type { Value__Output } from "./gen/google/protobuf/Value.ts";

/** Namespace of the chosen destination and of the endpoint that served. */
export const LB_NAMESPACE = "envoy.lb";
const SUBSET_NAMESPACE = "envoy.lb.subset_hint";
const SUBSET_KEY = "x-gateway-destination-endpoint-subset";
const SERVED_KEY = "x-gateway-destination-endpoint-served";

/** Entries of a subset hint that are read; those beyond are treated as not allowed. */
const SUBSET_ENTRIES_MAX = 65_536;

/**
 * The subset hint's entries; null when the gateway gave none. A hint of another type than list or
 * comma-separated string allows nothing, because ignoring it would widen what is allowed.
 */
export function readSubsetHint(metadata: Metadata__Output | undefined): readonly string[] | null {
  const hint = readValue(metadata, SUBSET_NAMESPACE, SUBSET_KEY);
  if (hint === null) return null;
  if (hint.listValue !== undefined) {
    const values = hint.listValue.values ?? [];
    return splitEntries(
      values.slice(0, SUBSET_ENTRIES_MAX).map((value) => value.stringValue ?? ""),
    );
  }
  return splitEntries((hint.stringValue ?? "").split(",", SUBSET_ENTRIES_MAX));
}

/** Header of the endpoint picker's conformance tests. */
export const TEST_SELECTION_HEADER = "test-epp-endpoint-selection";

/** Of a comma-separated selection what the hint allows; null: there is no hint. */
export function narrowedSubset(hint: readonly string[] | null, selection: string): string[] {
  const selected = splitEntries(selection.split(",", SUBSET_ENTRIES_MAX));
  if (hint === null) return selected;
  const allowed = new Set(hint.flatMap((entry) => [entry, hostOf(entry)]));
  return selected.filter((entry) => allowed.has(entry) || hint.includes(hostOf(entry)));
}

/** Of "host:port" or "host". */
function hostOf(entry: string): string {
  return entry.replace(/:\d+$/, "");
}

/** The endpoint that the gateway reports to have answered, or null. */
export function readServedBy(metadata: Metadata__Output | undefined): string | null {
  const served = readValue(metadata, LB_NAMESPACE, SERVED_KEY)?.stringValue;
  return served === undefined || served === "" ? null : served;
}

function readValue(
  metadata: Metadata__Output | undefined,
  namespace: string,
  key: string,
): Value__Output | null {
  const namespaces = metadata?.filter_metadata;
  if (namespaces === undefined || !Object.hasOwn(namespaces, namespace)) return null;
  const fields = namespaces[namespace]?.fields;
  if (fields === undefined || !Object.hasOwn(fields, key)) return null;
  return fields[key] ?? null;
}

function splitEntries(entries: readonly string[]): string[] {
  return entries.map((entry) => entry.trim()).filter((entry) => entry !== "");
}
