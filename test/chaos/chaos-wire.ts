/** What an engine of the chaos says, as bytes: every encoding that engines have, also mixed. */
import { Encoder } from "@msgpack/msgpack";
import type { EngineName } from "../../src/core/engine-name.ts";
import type { Chance } from "./chance.ts";
import type { TruthBlock } from "./chaos-content.ts";

export interface WireEvent {
  readonly type: string;
  readonly digests?: readonly Buffer[];
  readonly parent?: Buffer | null;
  readonly tokens?: readonly number[];
  readonly size?: number;
  readonly medium?: string;
  readonly lora?: string | null;
  readonly extras?: readonly (readonly unknown[] | null)[] | null;
  readonly group?: number;
  readonly kind?: string;
}

export interface EngineForm {
  readonly engine: "vllm" | "sglang";
  /** Of events: a batch may have both. */
  readonly encodings: readonly ("array" | "map")[];
  readonly hashForms: readonly ("unsigned" | "signed" | "bytes32" | "bytes16")[];
  /** False as in vLLM before 0.17: salts and images are not on the wire. */
  readonly areExtrasTold: boolean;
}

export interface EngineTraits extends EngineForm {
  readonly rank: number;
  /** Of a chain's blocks, again and again; one of these for each chain. */
  readonly chainSizes: readonly (readonly number[])[];
  /** It drops all that it has now and then. */
  readonly isClearing: boolean;
  readonly hasLowerTiers: boolean;
  /** It has a connector, which stores chunks in the CPU and never says that they are gone. */
  readonly hasConnector: boolean;
  /** The connector's name stands in the endpoints file; otherwise its stores show by what they are. */
  readonly isConnectorNamed: boolean;
  /** Media that it has in each tier. */
  readonly media: readonly (readonly string[])[];
  /** Groups of full attention: a block is of use where each has it. */
  readonly fullGroups: readonly number[];
  /** Groups beside the full attention, whose events repeat the same hashes. */
  readonly isHybrid: boolean;
  /** Says things that no index can follow. */
  readonly isOdd: boolean;
  /** Tells of blocks before those that they follow, of which it may never tell. */
  readonly isUnordered: boolean;
  /** Newest messages that its replay socket has; null: it has no such socket. */
  readonly bufferMessages: number | null;
}

/** As in the endpoints file. */
export function engineNameOf(traits: EngineTraits): EngineName {
  return traits.hasConnector && traits.isConnectorNamed ? "lmcache" : traits.engine;
}

/** As LMCache tells of chunks that follow each other. */
export function chunksEvent(chunks: readonly TruthBlock[]): WireEvent {
  const [first] = chunks;
  return {
    type: "BlockStored",
    digests: chunks.map(({ digest }) => digest),
    parent: first?.parent?.digest ?? null,
    tokens: chunks.flatMap(({ tokens }) => tokens),
    ...{ size: first?.size ?? 0, medium: "cpu", lora: null, extras: null },
  };
}

const encoder = new Encoder({ useBigInt64: true });

export function encodeBatch(
  events: readonly WireEvent[],
  options: {
    readonly atMs: number;
    readonly form: EngineForm;
    readonly chance: Chance;
    readonly rank: number;
  },
): Uint8Array {
  const { form, chance, rank } = options;
  const encoded = events.map((event) => {
    const fields = fieldsOf(event, form, chance);
    const isMap = chance.of(form.encodings) === "map";
    return isMap ? mapOf(fields, chance) : trimmed(fields.map(([, value]) => value));
  });
  return encoder.encode([options.atMs / 1000, encoded, rank]);
}

/** In the order of the array form, the tag first. */
function fieldsOf(event: WireEvent, form: EngineForm, chance: Chance): [string, unknown][] {
  const hash = (digest: Buffer): unknown => hashOf(digest, chance.of(form.hashForms));
  const { type, medium = null, group = null, kind = null, lora = null } = event;
  const tag: [string, unknown] = ["type", type];
  if (type === "AllBlocksCleared" || event.digests === undefined) return [tag];
  const hashes: [string, unknown] = ["block_hashes", event.digests.map(hash)];
  if (type === "BlockRemoved") return [tag, hashes, ["medium", medium], ["group_idx", group]];
  const common: [string, unknown][] = [
    tag,
    hashes,
    ["parent_block_hash", event.parent ? hash(event.parent) : null],
    ["token_ids", event.tokens ?? []],
    ["block_size", event.size ?? 0],
    ["lora_id", null],
    ["medium", medium],
  ];
  if (form.engine === "sglang") {
    const salt = event.extras?.[0]?.[0] ?? null;
    return [...common, ["cache_salt", salt], ["session_id", null], ["lora_name", lora]];
  }
  // The adapter stands first among a block's extras, and once more by itself.
  const extras = event.extras?.map((block) =>
    block === null && lora === null ? null : [...(lora === null ? [] : [lora]), ...(block ?? [])],
  );
  const isTold = form.areExtrasTold && extras?.some((block) => block !== null) === true;
  return [
    ...common,
    ["lora_name", lora],
    ["extra_keys", isTold ? extras : null],
    ["group_idx", group],
    ["kv_cache_spec_kind", kind],
  ];
}

/** Absent fields are null ones; unknown ones are none of ours. */
function mapOf(fields: readonly (readonly [string, unknown])[], chance: Chance): object {
  const told = fields.filter(([, value]) => value !== null || chance.is(0.5));
  const more = chance.is(0.2) ? [["since_a_later_version", { deep: [1, null] }]] : [];
  return Object.fromEntries([...told, ...more]);
}

function trimmed(values: readonly unknown[]): unknown[] {
  const end = values.findLastIndex((value) => value !== null);
  return values.slice(0, Math.max(end + 1, values.length > 5 ? 6 : 1));
}

function hashOf(digest: Buffer, form: EngineForm["hashForms"][number]): unknown {
  if (form === "bytes32") return digest;
  if (form === "bytes16") return digest.subarray(16);
  const handle = digest.readBigUInt64BE(24);
  return form === "unsigned" ? handle : BigInt.asIntN(64, handle);
}
