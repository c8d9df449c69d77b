/** `kvatlas prompt`: request bodies in, a line of JSON for each out. */
import { readFileSync } from "node:fs";
import { KvError, messageOf } from "../core/errors.ts";
import { type EndpointId, endpointId, isEndpointAddress } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { BLOCK_SIZE_TOKENS_MAX } from "../keys/namespace.ts";
import { promptConfigSchema } from "../prompt/config.ts";
import { type Engine, engineRules } from "../prompt/engine-rules.ts";
import { PromptReader, type PromptReading } from "../prompt/prompt-reader.ts";
import { guessRoute } from "../prompt/request-body.ts";
import { startTokenizer } from "../prompt/tokenizer-choice.ts";
import { printLine } from "./print.ts";

/** As commander hands them over. */
export interface PromptFlags {
  readonly model: string;
  readonly path?: string;
  readonly tokenizer?: string;
  readonly engine?: string;
  readonly engineKind?: Engine;
  readonly engineVersion?: string;
  readonly blockSize: number;
  readonly keySeed: number;
}

const ENGINE_MS_MAX = 30_000;
/** Keys that are printed. */
const FIRST_KEYS = 4;

export async function showPrompts(files: readonly string[], flags: PromptFlags): Promise<void> {
  const { model, blockSize } = flags;
  if (blockSize < 1 || blockSize > BLOCK_SIZE_TOKENS_MAX) {
    const message = `--block-size: got ${blockSize}, expected 1 to ${BLOCK_SIZE_TOKENS_MAX}`;
    throw new KvError("ERR_PROMPT_INVALID", message);
  }
  const endpoint = flags.engine === undefined ? null : engineOf(flags.engine);
  const tokenizerPath = flags.tokenizer ?? null;
  const otherwise = endpoint === null ? "off" : "engine";
  const config = promptConfigSchema.parse({
    ...{ tokenize: tokenizerPath === null ? otherwise : "local", tokenizerPath },
    ...{ engine: flags.engineKind, engineVersion: flags.engineVersion },
  });
  const chosen = await startTokenizer(config, {
    ...{ clock: nodeClock, log: silentLog, engines: () => (endpoint === null ? [] : [endpoint]) },
  });
  try {
    const hasher = await createBlockHasher(flags.keySeed);
    const { tokensMax } = config;
    const { tokenizer } = chosen;
    const reader = new PromptReader({
      ...{ tokensMax, model, rules: engineRules(config), hasher, tokenizer, meter: silentMeter },
    });
    for (const file of files) {
      const body = readBody(file);
      const path = flags.path ?? pathOf(body);
      const signal = AbortSignal.timeout(ENGINE_MS_MAX);
      const reading = await reader.read({ path, headers: new Map(), body }, signal);
      if (reading.reason === "not-json") {
        throw new KvError("ERR_PROMPT_INVALID", `${file}: ${reading.detail}`);
      }
      const keys = reader.keyed(reading).keysOf(blockSize);
      await printLine(JSON.stringify({ file, path, ...readingLine(reading), ...keysLine(keys) }));
    }
  } finally {
    await chosen.stop();
  }
}

function readingLine(reading: PromptReading): object {
  const { tokens, traits: _, isFirstTokenShown: __, ...rest } = reading;
  return { ...rest, firstTokens: [...(tokens ?? []).slice(0, FIRST_KEYS * 4)] };
}

function keysLine(keys: BigUint64Array): object {
  const hex = (key: bigint): string => key.toString(16).padStart(16, "0");
  return { blocks: keys.length, firstKeys: [...keys.subarray(0, FIRST_KEYS)].map(hex) };
}

export function engineOf(address: string): EndpointId {
  if (isEndpointAddress(address)) return endpointId(address);
  throw new KvError("ERR_PROMPT_INVALID", `--engine: got "${address}", expected host:port`);
}

export function readBody(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new KvError("ERR_PROMPT_INVALID", `${file}: ${messageOf(cause)}`, { cause });
  }
}

/** By the field that holds the prompt; what has none of them is refused as a completion. */
export function pathOf(body: Buffer): string {
  return guessRoute(body) ?? "/v1/completions";
}
