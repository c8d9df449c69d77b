/** `kvatlas index query` and `kvatlas index stats`: ask the admin server and print a table. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { KvError, messageOf } from "../core/errors.ts";
import { stateText } from "../router/known-state.ts";
import { TIERS } from "../tiers/tier.ts";
import { askAdmin } from "./http-ask-admin.ts";
import { printLine, printTable } from "./print.ts";

/** Of keys where nothing else is said. */
const BLOCK_SIZE_TOKENS_DEFAULT = 16;

/** As commander hands them over. */
export interface StatsFlags {
  readonly url: string;
  readonly output: string;
}

export interface QueryFlags extends StatsFlags {
  readonly keys?: boolean;
  readonly blockSize?: number;
  readonly lora?: string;
  readonly salt?: string;
}

const stateSchema = z.object({
  state: z.enum(["EXACT", "DEGRADED", "FALLBACK"]),
  reason: z.string().nullable(),
});
const tiersSchema = z.object({
  gpu: z.number(),
  cpu: z.number(),
  nvme: z.number(),
  shared: z.number(),
});
const holdingSchema = z.object({
  endpointId: z.string(),
  state: stateSchema,
  gpuPrefixTokens: z.number(),
  prefixTokens: z.number(),
  tokensByTier: tiersSchema,
  reachableTokens: z.number(),
});
const matchSchema = z.object({
  endpoints: z.array(holdingSchema),
  best: holdingSchema.nullable(),
  promptTokens: z.number(),
  sharedPrefixTokens: z.number(),
  availableTokens: z.number(),
});
const statsSchema = z.object({
  blocks: z.number(),
  entriesByTier: tiersSchema,
  endpointsByState: z.object({ EXACT: z.number(), DEGRADED: z.number(), FALLBACK: z.number() }),
  blockSizesTokens: z.array(z.number()),
});

export async function queryIndex(file: string, flags: QueryFlags): Promise<void> {
  const isKeys = flags.keys === true;
  const words = wordsOf(file, isKeys ? z.string() : z.number());
  const body = isKeys ? keyBytes(words, file) : tokenBytes(words, file);
  const names = { lora: flags.lora ?? "", salt: flags.salt ?? "" };
  const query = new URLSearchParams(
    isKeys ? { blockSize: `${flags.blockSize ?? BLOCK_SIZE_TOKENS_DEFAULT}` } : names,
  );
  const { url } = flags;
  const answer = await askAdmin({ url, path: `/index/query?${query}`, body }, matchSchema);
  if (flags.output === "json") {
    await printLine(JSON.stringify(answer, null, 2));
    return;
  }
  const rows = answer.endpoints.map(({ endpointId, state, tokensByTier, ...prefix }) => [
    endpointId,
    stateText(state),
    String(prefix.gpuPrefixTokens),
    String(prefix.prefixTokens),
    ...TIERS.map((tier) => String(tokensByTier[tier])),
    String(prefix.reachableTokens),
  ]);
  const tiers = TIERS.map((tier) => tier.toUpperCase());
  await printTable([["ENDPOINT", "STATE", "IN GPU", "ANY TIER", ...tiers, "WITH SHARED"], ...rows]);
  const { best, promptTokens, sharedPrefixTokens, availableTokens } = answer;
  const found = best === null ? "none" : `${best.reachableTokens} at ${best.endpointId}`;
  await printLine(`best of ${promptTokens} tokens: ${found}`);
  await printLine(`from shared tiers: ${sharedPrefixTokens}; anywhere: ${availableTokens}`);
}

export async function showIndexStats({ url, output }: StatsFlags): Promise<void> {
  const stats = await askAdmin({ url, path: "/index/stats" }, statsSchema);
  if (output === "json") {
    await printLine(JSON.stringify(stats, null, 2));
    return;
  }
  const { blocks, entriesByTier, endpointsByState, blockSizesTokens } = stats;
  await printTable([
    ["blocks", String(blocks)],
    ...TIERS.map((tier) => [`entries in ${tier}`, String(entriesByTier[tier])]),
    ...Object.entries(endpointsByState).map(([state, n]) => [`endpoints ${state}`, String(n)]),
    ["tokens per block", blockSizesTokens.join(", ") || "-"],
  ]);
}

/** What begins with "[" is JSON, an array of `form`. */
function wordsOf(file: string, form: z.ZodType<string | number>): string[] {
  const text = read(file).trim();
  const words = text.startsWith("[") ? arrayOf(text, form) : text.split(/[\s,]+/).filter(Boolean);
  if (words === null) {
    throw new KvError(
      "ERR_QUERY_INVALID",
      `${file}: is no JSON array of token ids, or of hex keys as text`,
    );
  }
  if (words.length === 0) {
    throw new KvError("ERR_QUERY_INVALID", `${file}: has no token ids or keys`);
  }
  return words;
}

function read(file: string): string {
  try {
    return readFileSync(file === "-" ? process.stdin.fd : file, "utf8");
  } catch (cause) {
    throw new KvError("ERR_QUERY_INVALID", `${file}: ${messageOf(cause)}`, { cause });
  }
}

/** Null: the text is none. Why stays unsaid, because the parser's message has a piece of the prompt. */
function arrayOf(text: string, form: z.ZodType<string | number>): string[] | null {
  try {
    return z.array(form).parse(JSON.parse(text)).map(String);
  } catch {
    return null;
  }
}

function tokenBytes(words: readonly string[], file: string): Uint8Array<ArrayBuffer> {
  const bad = words.findIndex((word) => !/^\d{1,10}$/.test(word) || Number(word) > 0xffff_ffff);
  if (bad >= 0) throw invalid(file, bad, "a token id from 0 to 4294967295");
  return new Uint8Array(Uint32Array.from(words, Number).buffer);
}

function keyBytes(words: readonly string[], file: string): Uint8Array<ArrayBuffer> {
  const bad = words.findIndex((word) => !/^(0x)?[0-9a-f]{1,16}$/i.test(word));
  if (bad >= 0) throw invalid(file, bad, "a key of up to 16 hex digits");
  const keys = words.map((word) => BigInt(`0x${word.replace(/^0x/i, "")}`));
  return new Uint8Array(BigUint64Array.from(keys).buffer);
}

/** Names the place and not the word: it is of a prompt. */
function invalid(file: string, at: number, expected: string): KvError {
  return new KvError("ERR_QUERY_INVALID", `${file}: word ${at + 1} is not ${expected}`);
}
