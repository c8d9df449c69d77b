/**
 * One line of the simulate protocol -> message. Whatever JSON comes, the outcome is a message or a
 * reason; unknown fields are counted, never used.
 */
import { ok, type Result, refused } from "../../core/result.ts";
import { SIGNAL_REQUESTS_MAX } from "../../fleet/signals.ts";
import type {
  InitMessage,
  KvTier,
  ModelFacts,
  PodFacts,
  PodRole,
  PodState,
  SimulateMessage,
} from "./messages.ts";

/**
 * - unknown-op: no operation of the protocol
 * - field-invalid: a field is missing or not of its form
 */
export type MessageRefusal = "unknown-op" | "field-invalid";

export interface ReadMessage {
  readonly message: SimulateMessage;
  /** Fields that the protocol does not know. */
  readonly unknownFields: number;
}

type Fields = Readonly<Record<string, unknown>>;

/** Seconds of a time, either side of zero: 30,000 years, in ms still a safe integer. */
const SECONDS_MAX = 1e12;
/** A fact of the model is 0 or within these, so that products of facts and counts stay finite. */
const FACT_MIN = 1e-15;
const FACT_MAX = 1e15;
const BLOCK_MAX = 0xff_ff_ff_ff;

const MODEL_FIELDS = [
  "prefill_s_per_token",
  "attn_s_per_pair",
  "decode_s_per_ctx_token",
  "step_base_s",
  "chunk_tokens",
  "kv_bytes_per_token",
  "cpu_bw",
  "disk_bw",
] as const satisfies readonly (keyof ModelFacts)[];

const FIELDS: Readonly<Record<SimulateMessage["op"], ReadonlySet<string>>> = {
  init: fields("v", "t", "replica", "replicas", "block_size", "pods", "model"),
  pod: fields("t", "pod", "state"),
  kv: fields("t", "pod", "type", "tier", "blocks"),
  metrics: fields("t", "pod", "scraped_at", "waiting", "running", "kv_usage"),
  route: fields("t", "id", "session", "input_tokens", "blocks", "exclude"),
  first_token: fields("t", "id"),
  progress: fields("t", "pod", "ids", "tokens"),
  finish: fields("t", "id", "output_tokens", "ok"),
  refused: fields("t", "id", "pod"),
  peer: fields("t", "share"),
  end: fields("t"),
};

/** `value`: a parsed line. Cost: one pass over its arrays. */
export function readMessage(value: unknown): Result<ReadMessage, MessageRefusal> {
  if (!isObject(value)) return refused("unknown-op", "the line is no object");
  const { op } = value;
  if (typeof op !== "string" || !Object.hasOwn(FIELDS, op)) {
    return refused("unknown-op", `op ${String(JSON.stringify(op)).slice(0, 40)}`);
  }
  const known = FIELDS[op as SimulateMessage["op"]];
  let unknownFields = 0;
  for (const name of Object.keys(value)) if (!known.has(name)) unknownFields += 1;
  const message = readFields(op as SimulateMessage["op"], value);
  return message === null
    ? refused("field-invalid", `a field of op "${op}" is missing or not of its form`)
    : ok({ message, unknownFields });
}

function readFields(op: SimulateMessage["op"], value: Fields): SimulateMessage | null {
  if (op === "end") return { op };
  if (op === "init") return readInit(value);
  const { t } = value;
  if (!isSeconds(t)) return null;
  switch (op) {
    case "pod": {
      const { pod, state } = value;
      return isText(pod) && isPodState(state) ? { op, t, pod, state } : null;
    }
    case "kv": {
      const { pod, type, tier, blocks } = value;
      const isType = type === "stored" || type === "removed";
      return isText(pod) && isType && isTier(tier) && isBlocks(blocks)
        ? { op, t, pod, type, tier, blocks }
        : null;
    }
    case "metrics":
      return readMetrics(t, value);
    case "route":
      return readRoute(t, value);
    case "peer":
      return isText(value["share"]) ? { op, t, share: value["share"] } : null;
    default:
      return readPhase(op, t, value);
  }
}

function readInit(value: Fields): InitMessage | null {
  const { v, t = 0, replica = 0, replicas = 1, block_size, pods, model } = value;
  if (v !== 1 || !isSeconds(t) || !isCount(replica) || !isCount(replicas)) return null;
  if (replica >= replicas) return null;
  if (!isCount(block_size) || block_size === 0 || !Array.isArray(pods) || !isObject(model)) {
    return null;
  }
  if (!MODEL_FIELDS.every((name) => isFact(model[name] ?? 0))) return null;
  const amount = (name: keyof ModelFacts): number => Math.max(0, Number(model[name] ?? 0));
  const facts: ModelFacts = {
    prefill_s_per_token: amount("prefill_s_per_token"),
    attn_s_per_pair: amount("attn_s_per_pair"),
    decode_s_per_ctx_token: amount("decode_s_per_ctx_token"),
    step_base_s: amount("step_base_s"),
    chunk_tokens: amount("chunk_tokens"),
    kv_bytes_per_token: amount("kv_bytes_per_token"),
    cpu_bw: amount("cpu_bw"),
    disk_bw: amount("disk_bw"),
  };
  const read = pods.map(readPod);
  if (!read.every((pod) => pod !== null)) return null;
  if (new Set(read.map(({ id }) => id)).size < read.length) return null;
  return { op: "init", v, t, replica, replicas, block_size, pods: read, model: facts };
}

function readPod(value: unknown): PodFacts | null {
  if (!isObject(value)) return null;
  const { id, state = "ready", role = "both", kv_tokens = 0, max_seqs = 0, tiers = [] } = value;
  const isKnown = isText(id) && isPodState(state) && isRole(role);
  if (!isKnown || !isCount(kv_tokens) || !isCount(max_seqs) || !Array.isArray(tiers)) return null;
  return { id, state, role, kv_tokens, max_seqs, tiers: tiers.filter(isTier) };
}

function readMetrics(t: number, value: Fields): SimulateMessage | null {
  const { pod, scraped_at, waiting = 0, running = 0, kv_usage = 0 } = value;
  if (!isText(pod) || !isSeconds(scraped_at)) return null;
  if (!isAmount(waiting) || !isAmount(running) || !isAmount(kv_usage)) return null;
  if (Math.max(waiting, running) > SIGNAL_REQUESTS_MAX) return null;
  // A share that was rounded up is a full pool.
  return { op: "metrics", t, pod, scraped_at, waiting, running, kv_usage: Math.min(1, kv_usage) };
}

function readRoute(t: number, value: Fields): SimulateMessage | null {
  const { id, session = "", input_tokens, blocks = [], exclude = [] } = value;
  if (!isId(id) || !isCount(input_tokens) || !isBlocks(blocks)) return null;
  if (!Array.isArray(exclude) || !exclude.every(isText)) return null;
  return { op: "route", t, id, session: String(session), input_tokens, blocks, exclude };
}

function readPhase(
  op: "first_token" | "progress" | "finish" | "refused",
  t: number,
  value: Fields,
): SimulateMessage | null {
  if (op === "progress") {
    const { pod = "", ids, tokens } = value;
    if (!isText(pod) || !Array.isArray(ids) || !ids.every(isId) || !isAmount(tokens)) return null;
    return { op, t, pod, ids, tokens };
  }
  const { id } = value;
  if (!isId(id)) return null;
  if (op === "first_token") return { op, t, id };
  if (op === "refused") {
    const { pod = "" } = value;
    return isText(pod) ? { op, t, id, pod } : null;
  }
  const { output_tokens = 0, ok: isOk = true } = value;
  return isAmount(output_tokens) ? { op, t, id, output_tokens, ok: isOk === true } : null;
}

function fields(...names: string[]): ReadonlySet<string> {
  return new Set(["op", ...names]);
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function isAmount(value: unknown): value is number {
  return isNumber(value) && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}

function isSeconds(value: unknown): value is number {
  return isNumber(value) && Math.abs(value) <= SECONDS_MAX;
}

/** What is below zero counts as zero. */
function isFact(value: unknown): value is number {
  return isNumber(value) && (value <= 0 || (value >= FACT_MIN && value <= FACT_MAX));
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isId(value: unknown): value is number | string {
  return isText(value) || isNumber(value);
}

function isBlocks(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((block) => isCount(block) && block <= BLOCK_MAX);
}

function isPodState(value: unknown): value is PodState {
  return value === "ready" || value === "draining" || value === "gone";
}

function isRole(value: unknown): value is PodRole {
  return value === "both" || value === "prefill" || value === "decode";
}

function isTier(value: unknown): value is KvTier {
  return value === "gpu" || value === "cpu" || value === "disk";
}
