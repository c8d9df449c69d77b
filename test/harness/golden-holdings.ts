/**
 * The brute-force truth for golden captures: what an index must hold after the engine's own events.
 *
 * Written apart from src/: block keys come from the requests' token ids by the definition of a key,
 * and holdings from counting stores and removals. Nothing here is fast.
 */
import xxhash from "xxhash-wasm";
import { type GoldenCapture, type GoldenEvent, type GoldenRequest, handleOf } from "./golden.ts";

export interface KeyedChain {
  readonly model: string;
  readonly lora: string | null;
  readonly blockSizeTokens: number;
  /** Of each block, where they differ; the namespace is the first one's. */
  readonly sizesTokens?: readonly number[];
  readonly tokens: readonly number[];
  /** Extras of each block as JSON text; absent or null: none. */
  readonly extras?: readonly (string | null)[];
}

/** Keys of the full blocks of a chain. */
export type KeysByDefinition = (chain: KeyedChain) => bigint[];

/**
 * key = XXH64(tokens u32 LE ++ parent u64 LE, seed); root = XXH64(JSON of the namespace, seed);
 * a block with extras takes XXH64(extras, seed = parent) for its parent.
 */
export async function keysByDefinition(seed: number): Promise<KeysByDefinition> {
  const { h64Raw } = await xxhash();
  const hash = (data: Buffer, hashSeed: bigint): bigint => h64Raw(new Uint8Array(data), hashSeed);
  return ({ model, lora, blockSizeTokens, sizesTokens = [], tokens, extras = [] }) => {
    const namespace = JSON.stringify(["kvatlas-key/1", model, lora, blockSizeTokens]);
    let parent = hash(Buffer.from(namespace), BigInt(seed));
    const keys: bigint[] = [];
    for (let start = 0; ; ) {
      const size = sizesTokens[keys.length] ?? blockSizeTokens;
      if (start + size > tokens.length) break;
      const text = extras[keys.length] ?? null;
      if (text !== null) parent = hash(Buffer.from(text), parent);
      const block = Buffer.alloc(size * 4 + 8);
      tokens.slice(start, start + size).forEach((token, position) => {
        block.writeUInt32LE(token, position * 4);
      });
      block.writeBigUInt64LE(parent, size * 4);
      parent = hash(block, BigInt(seed));
      keys.push(parent);
      start += size;
    }
    return keys;
  };
}

/** The chain of a request as far as its identity stands on the wire of its engine's version. */
export function chainOf(request: GoldenRequest, capture: GoldenCapture, model: string): KeyedChain {
  const { version, block_size: blockSizeTokens } = capture.expected;
  const tokens = [...request.prompt_token_ids, ...request.output_token_ids];
  // vLLM 0.11.2 sends an adapter's id, and neither salts nor images.
  if (version === "0.11.2") {
    const lora = request.lora ? `id:${request.lora.id}` : null;
    return { model, lora, blockSizeTokens, tokens };
  }
  const blocks = Math.floor(tokens.length / blockSizeTokens);
  const extras = Array.from({ length: blocks }, (_, depth) =>
    extrasOf(request, { start: depth * blockSizeTokens, end: (depth + 1) * blockSizeTokens }),
  );
  return { model, lora: request.lora?.name ?? null, blockSizeTokens, tokens, extras };
}

function extrasOf(
  { mm, cache_salt: salt }: GoldenRequest,
  block: { readonly start: number; readonly end: number },
): string | null {
  const extras: unknown[] = (mm ?? [])
    .filter(({ offset, length }) => offset < block.end && offset + length > block.start)
    .map(({ identifier, offset }) => [identifier, offset - block.start]);
  if (salt && block.start === 0) extras.push(salt);
  return extras.length === 0 ? null : JSON.stringify(extras);
}

/** Engine handle -> our key, for every block of every request. */
export function keyOfHandle(
  capture: GoldenCapture,
  model: string,
  keysOf: KeysByDefinition,
): Map<bigint, bigint> {
  const keys = new Map<bigint, bigint>();
  for (const request of capture.expected.requests) {
    const chain = keysOf(chainOf(request, capture, model));
    request.block_hashes_external.forEach((hash, depth) => {
      const key = chain[depth];
      if (key !== undefined) keys.set(handleOf(hash), key);
    });
  }
  return keys;
}

export interface Holdings {
  /** Copies by handle, in the GPU and in the CPU tier. */
  readonly gpu: ReadonlyMap<bigint, number>;
  readonly cpu: ReadonlyMap<bigint, number>;
  /** Stored blocks that cannot be keyed, because nothing says what comes before them. */
  readonly blocksLost: number;
}

/** Counts stores and removals of what the capture still has. */
export function holdingsOf({ expected }: GoldenCapture): Holdings {
  const gpu = new Map<bigint, number>();
  const cpu = new Map<bigint, number>();
  const known = new Set<bigint>();
  const isSliding = (event: GoldenEvent): boolean =>
    expected.batches.some(({ events }) =>
      events.some(
        (other) =>
          other.kv_cache_spec_kind === "sliding_window" && other.group_idx === event.group_idx,
      ),
    );
  const dropAll = (): void => {
    for (const table of [gpu, cpu, known]) table.clear();
  };
  let blocksLost = 0;
  let seqLast = -1;
  for (const { seq, events } of expected.batches) {
    if (seq <= seqLast) dropAll();
    seqLast = seq;
    for (const event of events) {
      if (event.type === "AllBlocksCleared") dropAll();
      if (event.type === "AllBlocksCleared" || isSliding(event)) continue;
      const copies = event.medium === "CPU" ? cpu : gpu;
      const handles = (event.block_hashes ?? []).map(handleOf);
      if (event.type === "BlockRemoved") {
        for (const handle of handles) take(copies, handle);
        continue;
      }
      const parent = event.parent_block_hash ?? null;
      const isKeyed = parent === null || known.has(handleOf(parent));
      for (const handle of handles) {
        const isPlaced = event.token_ids?.length === 0 ? known.has(handle) : isKeyed;
        if (!isPlaced) blocksLost += 1;
        if (!isPlaced) continue;
        known.add(handle);
        copies.set(handle, (copies.get(handle) ?? 0) + 1);
      }
    }
  }
  return { gpu, cpu, blocksLost };
}

function take(copies: Map<bigint, number>, handle: bigint): void {
  const count = copies.get(handle) ?? 0;
  if (count > 1) copies.set(handle, count - 1);
  else copies.delete(handle);
}
