/**
 * Prompts that routers have dispatched of late, told to each other by a few of their keys.
 *
 * An engine's events tell of a prompt's blocks once they are computed; until then only the router that
 * sent it knows where its beginning will be. A block's key stands for all before it, so that the keys of
 * every n-th block are enough to know how much two prompts share, to within n blocks. What was told is
 * believed for some seconds: then the engine has spoken, or will not. Losing a message loses a hint.
 */
import type { EndpointId } from "../core/ids.ts";

/** Keys by which one prompt is told. */
const PROMPT_KEYS_MAX = 32;
/** Dispatches that one line tells of; of more, the newest. */
const PROMPTS_PER_LINE_MAX = 64;
/** How long a prompt is believed to be at its endpoint, ms. */
const PROMPT_KEPT_MS = 5000;
/** Prompts of other routers that are believed; of more, the newest. */
const PROMPTS_TOLD_MAX = 8192;
/** Most blocks between two keys of a prompt: prompts of 2 million blocks. */
const STRIDE_BLOCKS_MAX = 65_536;

interface Dispatched {
  readonly endpointId: EndpointId;
  readonly keys: BigUint64Array;
}

export interface ToldPrompt {
  readonly endpointId: EndpointId;
  /** Blocks from one key to the next: 1, 2, 4, ... */
  readonly strideBlocks: number;
  /** Keys of the blocks `strideBlocks`, 2 x `strideBlocks`, ... */
  readonly keys: readonly bigint[];
}

interface Believed extends ToldPrompt {
  readonly untilMs: number;
}

export class PeerPrompts {
  /** Own dispatches that no line has told of. */
  readonly #untold: Dispatched[] = [];
  /** Others', in order of arrival. */
  readonly #believed: Believed[] = [];
  /** By stride, by key: until when, by endpoint. */
  readonly #told = new Map<number, Map<bigint, Map<EndpointId, number>>>();

  /** This router has sent a prompt with these blocks to the endpoint. */
  dispatched(endpointId: EndpointId, keys: BigUint64Array): void {
    if (keys.length === 0) return;
    this.#untold.push({ endpointId, keys });
    if (this.#untold.length > PROMPTS_PER_LINE_MAX) this.#untold.shift();
  }

  /** The last part of a line: `endpoint,stride,key,...|...`; what it tells is not told again. */
  takeText(): string {
    return this.#untold
      .splice(0)
      .map(({ endpointId, keys }) => {
        const strideBlocks = strideOf(keys.length);
        const hex = keysAt(keys, strideBlocks).map((key) => key.toString(16));
        return [endpointId, strideBlocks, ...hex].join(",");
      })
      .join("|");
  }

  /** Another router has sent them. */
  believe(prompts: readonly ToldPrompt[], nowMs: number): void {
    for (const prompt of prompts) {
      const untilMs = nowMs + PROMPT_KEPT_MS;
      this.#believed.push({ ...prompt, untilMs });
      const byKey = this.#told.get(prompt.strideBlocks) ?? new Map();
      this.#told.set(prompt.strideBlocks, byKey);
      for (const key of prompt.keys) {
        const untilMsAt: Map<EndpointId, number> = byKey.get(key) ?? new Map();
        byKey.set(key, untilMsAt.set(prompt.endpointId, untilMs));
      }
    }
    this.#forget(nowMs);
  }

  /** Leading blocks of a prompt that other routers' prompts have at each endpoint. */
  leading(keys: BigUint64Array, nowMs: number): ReadonlyMap<EndpointId, number> {
    this.#forget(nowMs);
    const blocksAt = new Map<EndpointId, number>();
    for (const [strideBlocks, byKey] of this.#told) {
      for (let blocks = strideBlocks; blocks <= keys.length; blocks += strideBlocks) {
        const endpoints = byKey.get(keys[blocks - 1] ?? 0n);
        if (endpoints === undefined) break;
        for (const endpointId of endpoints.keys()) {
          blocksAt.set(endpointId, Math.max(blocks, blocksAt.get(endpointId) ?? 0));
        }
      }
    }
    return blocksAt;
  }

  #forget(nowMs: number): void {
    let count = Math.max(0, this.#believed.length - PROMPTS_TOLD_MAX);
    while (count < this.#believed.length && (this.#believed[count]?.untilMs ?? 0) <= nowMs)
      count += 1;
    if (count === 0) return;
    for (const { endpointId, strideBlocks, keys, untilMs } of this.#believed.splice(0, count)) {
      const byKey = this.#told.get(strideBlocks);
      for (const key of keys) {
        const endpoints = byKey?.get(key);
        // Told again since: believed for longer.
        if (endpoints?.get(endpointId) !== untilMs) continue;
        endpoints.delete(endpointId);
        if (endpoints.size === 0) byKey?.delete(key);
      }
      if (byKey?.size === 0) this.#told.delete(strideBlocks);
    }
  }
}

/** Null: not of the form. */
export function parsePrompts(text: string): ToldPrompt[] | null {
  if (text === "") return [];
  const prompts: ToldPrompt[] = [];
  for (const part of text.split("|")) {
    const [id = "", stride = "", ...hex] = part.split(",");
    const strideBlocks = /^\d{1,5}$/.test(stride) ? Number(stride) : 0;
    const isPower = (strideBlocks & (strideBlocks - 1)) === 0;
    const isForm = strideBlocks > 0 && isPower && strideBlocks <= STRIDE_BLOCKS_MAX;
    const isBounded = hex.length <= PROMPT_KEYS_MAX && prompts.length < PROMPTS_PER_LINE_MAX;
    if (!(isForm && isBounded && hex.every((key) => /^[0-9a-f]{1,16}$/.test(key)))) return null;
    prompts.push({
      ...{ endpointId: id as EndpointId, strideBlocks },
      keys: hex.map((key) => BigInt(`0x${key}`)),
    });
  }
  return prompts;
}

function strideOf(blocks: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, blocks / PROMPT_KEYS_MAX)));
}

function keysAt(keys: BigUint64Array, strideBlocks: number): bigint[] {
  return [...keys].filter((_, index) => (index + 1) % strideBlocks === 0);
}
