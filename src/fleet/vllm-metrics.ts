/**
 * vLLM's /metrics, Prometheus text format 0.0.4, to the few signals that are used.
 *
 * Names of all vLLM versions, also with Ray's prefix. Data-parallel ranks are several series of
 * one name (label `engine`): counts are summed, of usages the highest is taken. Pure.
 */
import { ok, type Result, refused } from "../core/result.ts";
import { type EngineSignals, SIGNAL_REQUESTS_MAX } from "./signals.ts";

/** Longest text accepted; a vLLM server with all its histograms exports some 200 kB. */
export const METRICS_BYTES_MAX = 4_194_304;

/** too-large: over METRICS_BYTES_MAX; malformed: not the format, or a value out of its range. */
export type MetricsReason = "too-large" | "malformed";

/** `vllm:x` everywhere, `ray_vllm:x` or `ray_vllm_x` behind Ray. */
const VLLM_NAME = /^(?:ray_)?vllm[:_](.+)$/;
const SAMPLE_NAME = /[a-zA-Z_:][a-zA-Z0-9_:]*/y;
const LABEL = /\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?/y;
const LABELS_END = /\s*\}/y;
/** Value, and the time that may follow it. */
const VALUE = /^\s*([^\s]+)(?:\s+-?\d+)?\s*$/;

interface Sample {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

export function parseVllmMetrics(text: string): Result<EngineSignals, MetricsReason> {
  if (Buffer.byteLength(text) > METRICS_BYTES_MAX) {
    return refused("too-large", `metrics of ${text.length} characters, limit ${METRICS_BYTES_MAX}`);
  }
  const signals: Mutable<EngineSignals> = {
    waiting: null,
    running: null,
    kvUsage: null,
    blockSizeTokens: null,
    gpuBlocks: null,
  };
  for (const [index, line] of text.split("\n").entries()) {
    const problem = line.length === 0 || line.startsWith("#") ? null : readLine(line, signals);
    if (problem !== null) return refused("malformed", `line ${index + 1}: ${problem}`);
  }
  return ok(signals);
}

type Mutable<Shape> = { -readonly [Key in keyof Shape]: Shape[Key] };

/** Null when the line is used or is none of ours; else what is wrong with it. */
function readLine(line: string, signals: Mutable<EngineSignals>): string | null {
  SAMPLE_NAME.lastIndex = 0;
  const fullName = SAMPLE_NAME.exec(line)?.[0];
  if (fullName === undefined) return line.trim() === "" ? null : "no metric name";
  const name = VLLM_NAME.exec(fullName)?.[1];
  if (name === undefined || !USED_NAMES.has(name)) return null;
  const sample = readSample(line, fullName.length, name);
  return sample === null ? `${name}: not a sample` : addSample(sample, signals);
}

function readSample(line: string, nameChars: number, name: string): Sample | null {
  const labels = new Map<string, string>();
  let at = nameChars;
  if (line[at] === "{") {
    LABEL.lastIndex = at + 1;
    at += 1;
    for (let match = LABEL.exec(line); match !== null; match = LABEL.exec(line)) {
      at = LABEL.lastIndex;
      labels.set(match[1] ?? "", match[2] ?? "");
    }
    LABELS_END.lastIndex = at;
    if (!LABELS_END.test(line)) return null;
    at = LABELS_END.lastIndex;
  }
  const value = VALUE.exec(line.slice(at))?.[1];
  return value === undefined ? null : { name, labels, value: numberOf(value) };
}

/** NaN for all that is no decimal number; infinities are refused with it. */
function numberOf(text: string): number {
  return /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text) ? Number(text) : Number.NaN;
}

const USED_NAMES: ReadonlySet<string> = new Set([
  "num_requests_waiting",
  "num_requests_running",
  "kv_cache_usage_perc",
  "gpu_cache_usage_perc",
  "cache_config_info",
]);

function addSample(sample: Sample, signals: Mutable<EngineSignals>): string | null {
  const { name, value } = sample;
  if (!Number.isFinite(value) || value < 0) return `${name}: ${value} is not a number >= 0`;
  if (name.startsWith("num_requests_") && value > SIGNAL_REQUESTS_MAX) {
    return `${name}: ${value} is over ${SIGNAL_REQUESTS_MAX}`;
  }
  switch (name) {
    case "num_requests_waiting":
      signals.waiting = (signals.waiting ?? 0) + value;
      return null;
    case "num_requests_running":
      signals.running = (signals.running ?? 0) + value;
      return null;
    case "cache_config_info":
      addCacheConfig(sample.labels, signals);
      return null;
    default:
      // Called a percentage, exported as a ratio by every version.
      if (value > 1) return `${name}: ${value} is over 1`;
      signals.kvUsage = Math.max(signals.kvUsage ?? 0, value);
      return null;
  }
}

/** An engine exports "None" until its pool is sized: such a label says nothing. */
function addCacheConfig(
  labels: ReadonlyMap<string, string>,
  signals: Mutable<EngineSignals>,
): void {
  const blockSize = countOf(labels.get("block_size"));
  const blocks = countOf(labels.get("num_gpu_blocks"));
  if (blockSize !== null)
    signals.blockSizeTokens = Math.max(signals.blockSizeTokens ?? 0, blockSize);
  if (blocks !== null) signals.gpuBlocks = (signals.gpuBlocks ?? 0) + blocks;
}

function countOf(text: string | undefined): number | null {
  if (text === undefined || !/^\d{1,15}$/.test(text)) return null;
  const count = Number(text);
  return count > 0 ? count : null;
}
