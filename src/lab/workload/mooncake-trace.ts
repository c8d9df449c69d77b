/**
 * Traces in Mooncake's form: JSON lines with arrival, lengths, and an id per block of 512 tokens.
 * Equal ids mean equal blocks with all that is before them; the last block is a partial one.
 */
import { z } from "zod";
import { KvError } from "../../core/errors.ts";
import { seededRandom } from "../../core/random.ts";
import { drawTokens } from "./draw.ts";

export const TRACE_BLOCK_TOKENS = 512;
/** Lines read of one trace; a longer one is refused. */
export const TRACE_REQUESTS_MAX = 1_000_000;
/** Odd: spreads neighbouring ids over the generator's states. */
const SEED_STRIDE = 0x9e3779b1;

const lineSchema = z.object({
  /** ms since the start of the trace. */
  timestamp: z.number().min(0),
  input_length: z.int().min(1),
  output_length: z.int().min(0),
  hash_ids: z.array(z.int().min(0)).min(1),
});

export interface TraceRequest {
  readonly atMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly hashIds: readonly number[];
}

/** In order of time. Throws KvError ERR_TRACE_INVALID with `file` and the first bad line. */
export function parseTrace(text: string, file: string): TraceRequest[] {
  const requests: TraceRequest[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const where = `${file}:${index + 1}`;
    if (requests.length >= TRACE_REQUESTS_MAX) {
      throw invalid(`${where}: more than ${TRACE_REQUESTS_MAX} requests`);
    }
    requests.push(parseLine(line, where));
  }
  if (requests.length === 0) throw invalid(`${file}: has no requests`);
  return requests.sort((a, b) => a.atMs - b.atMs);
}

/** Made from the ids alone: equal ids give equal tokens, in every run. */
export function traceTokens({ hashIds, inputTokens }: TraceRequest): Uint32Array {
  const tokens = new Uint32Array(inputTokens);
  for (const [block, hashId] of hashIds.entries()) {
    const start = block * TRACE_BLOCK_TOKENS;
    const random = seededRandom(Math.imul(hashId, SEED_STRIDE));
    tokens.set(drawTokens(random, Math.min(TRACE_BLOCK_TOKENS, inputTokens - start)), start);
  }
  return tokens;
}

function parseLine(line: string, where: string): TraceRequest {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (cause) {
    throw invalid(`${where}: is not JSON`, cause);
  }
  const parsed = lineSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const path = issue?.path.join(".") ?? "";
    throw invalid(`${where}: ${path === "" ? "" : `${path}: `}${issue?.message ?? "not accepted"}`);
  }
  const { timestamp, input_length, output_length, hash_ids } = parsed.data;
  const blocks = Math.ceil(input_length / TRACE_BLOCK_TOKENS);
  if (hash_ids.length !== blocks) {
    const has = `hash_ids has ${hash_ids.length} ids`;
    throw invalid(`${where}: ${has}, input_length ${input_length} asks for ${blocks}`);
  }
  return {
    atMs: timestamp,
    inputTokens: input_length,
    outputTokens: output_length,
    hashIds: hash_ids,
  };
}

function invalid(message: string, cause?: unknown): KvError {
  return new KvError("ERR_TRACE_INVALID", message, { cause });
}
