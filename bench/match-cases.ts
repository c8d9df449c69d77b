/** Rows of the longest prefix: of a fresh index, of one after hours of churn, and beside its writer. */
import { Worker } from "node:worker_threads";
import { blockKey } from "../src/core/ids.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { seededRandom } from "../src/core/random.ts";
import { HotIndex } from "../src/indexer/hot-index.ts";
import { mixedChains } from "../src/indexer/mixed-chains.ts";
import type { TableHandle } from "../src/indexer/table-memory.ts";
import { TableReader } from "../src/indexer/table-reader.ts";
import type { BlockHasher } from "../src/keys/block-hasher.ts";
import { ChurningEngine } from "./churn.ts";
import { type BenchCase, percentiles, type ValueCase } from "./harness.ts";
import { naiveHasher, naiveMatch } from "./naive.ts";
import { BLOCK, holderOf, NAMESPACE, tokensOf } from "./workload.ts";

/** Holders of a prompt: the first has 1/8 of it, the last all. */
const HOLDERS = 8;
const CHURNED_BLOCKS = 2048;
const CHURN_ENGINES = 64;
const ENGINE_BLOCKS = 4096;
/** How often every engine's cache is stored anew: one that stores 1,250 blocks a second takes hours. */
const TURNOVERS = 20;
/** Of a conversation's turn: blocks of the prompt, in pieces, and those generated after it. */
const TURN_BLOCKS = 128;
const PROMPT_BLOCKS = 96;
const PIECE_BLOCKS = 32;
const INGEST_MS = 3000;
const INGEST_MS_QUICK = 50;
/** Below it, the row has measured something else. */
const BLOCKS_PER_SECOND_MIN = 900_000;

export async function matchCases(hasher: BlockHasher): Promise<BenchCase[]> {
  const naive = await naiveHasher();
  const sizes = [64, 512, 2048, 8192].map((blocks) => ({ blocks, endpoints: 64 }));
  return [...sizes, { blocks: 2048, endpoints: 1024 }]
    .flatMap((size) => sizeCases(hasher, naive, size))
    .concat(churnedCase(hasher), mixedCase(hasher));
}

type NaiveHasher = Awaited<ReturnType<typeof naiveHasher>>;

function sizeCases(
  hasher: BlockHasher,
  naiveHash: NaiveHasher,
  { blocks, endpoints }: { readonly blocks: number; readonly endpoints: number },
): BenchCase[] {
  const tokens = tokensOf(blocks);
  const parent = hasher.rootKey(NAMESPACE);
  const keys = hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK });
  const index = new HotIndex();
  const sets = Array.from({ length: endpoints }, () => new Set<bigint>());
  const naiveKeys = naiveHash(parent, tokens);
  for (let holder = 1; holder <= HOLDERS; holder += 1) {
    const held = (blocks * holder) / HOLDERS;
    index.storeMany(holderOf((holder - 1) * 8), "gpu", keys.subarray(0, held));
    sets[(holder - 1) * 8] = new Set(naiveKeys.slice(0, held));
  }
  const name = `${blocks}x${endpoints}`;
  // A clock costs as much as a short match: several are timed together.
  const row = { unit: "us", blocks, calls: Math.max(1, 2048 / blocks) } as const;
  return [
    { ...row, name: `naive.match.keys.${name}`, run: () => void naiveMatch(sets, naiveKeys) },
    {
      ...row,
      name: `match.keys.${name}`,
      run: (): void => void index.match(keys),
      reference: `naive.match.keys.${name}`,
    },
    {
      ...row,
      name: `naive.match.tokens.${name}`,
      run: (): void => void naiveMatch(sets, naiveHash(parent, tokens)),
    },
    {
      ...row,
      name: `match.tokens.${name}`,
      // As prompts are matched for a decision.
      run: (): void => {
        hasher.reuse();
        index.match(hasher.passingKeys({ parent, tokens, blockSizeTokens: BLOCK }));
      },
      reference: `naive.match.tokens.${name}`,
    },
  ];
}

/** Holders' last blocks are half as large as those before: each block is a place where that may be so. */
function mixedCase(hasher: BlockHasher): BenchCase {
  const blocks = 512;
  const tokens = tokensOf(blocks);
  const parent = hasher.rootKey(NAMESPACE);
  const keys = hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK });
  const index = new HotIndex();
  for (let holder = 1; holder <= HOLDERS; holder += 1) {
    const held = (blocks * holder) / HOLDERS - 1;
    const key = blockKey(keys[held - 1] ?? 0n);
    const rest = tokens.subarray(held * BLOCK, held * BLOCK + BLOCK / 2);
    const half = hasher.chainKeys({ parent: key, tokens: rest, blockSizeTokens: BLOCK / 2 });
    index.storeMany(holderOf((holder - 1) * 8), "gpu", keys.subarray(0, held));
    index.storeMany(holderOf((holder - 1) * 8), "gpu", half, BigUint64Array.of(key));
  }
  return {
    ...{ name: `match.tokens.${blocks}x64.mixed-sizes`, unit: "us", blocks },
    reference: `match.tokens.${blocks}x64`,
    run: (): void => {
      hasher.reuse();
      const held = hasher.passingKeys({ parent, tokens, blockSizeTokens: BLOCK });
      mixedChains({
        starts: [{ blockSizeTokens: BLOCK, keys: held, matches: index.match(held) }],
        ...{ blockSizesTokens: [BLOCK, BLOCK / 2], index, probesMax: 8192 },
        keysBehind: (place, blockSizeTokens, blocksMax) => {
          const end = place.tokens + blockSizeTokens * blocksMax;
          const behind = {
            parent: blockKey(place.key),
            tokens: tokens.subarray(place.tokens, end),
          };
          return hasher.chainKeys({ ...behind, blockSizeTokens });
        },
      });
    },
  };
}

/** A conversation that grew turn by turn among the others', late in the churn of 64 engines. */
function churnedCase(hasher: BlockHasher): BenchCase {
  const parent = hasher.rootKey(NAMESPACE);
  const tokens = tokensOf(CHURNED_BLOCKS);
  const keys = hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK });
  let index: HotIndex | null = null;
  return {
    name: `match.keys.${CHURNED_BLOCKS}x64.churned`,
    unit: "us",
    blocks: CHURNED_BLOCKS,
    // Churned when the row is measured, not when rows are listed.
    start: (isQuick) => {
      index = churned(keys, isQuick ? 0.1 : TURNOVERS);
    },
    run: (): void => void index?.match(keys),
    reference: `match.keys.${CHURNED_BLOCKS}x64`,
  };
}

function churned(keys: BigUint64Array, turnovers: number): HotIndex {
  const index = new HotIndex();
  const random = seededRandom(1);
  const engines = Array.from({ length: CHURN_ENGINES }, (_, engine) => {
    const holder = holderOf(engine);
    return new ChurningEngine({ index, holder, seed: engine + 1, blocksMax: ENGINE_BLOCKS });
  });
  const step = (): void => engines[Math.floor(random.next() * CHURN_ENGINES)]?.step();
  const goal = turnovers * ENGINE_BLOCKS * CHURN_ENGINES;
  while (engines.reduce((sum, { stored }) => sum + stored, 0) < goal) {
    for (let event = 0; event < 1000; event += 1) step();
  }
  // Turn by turn: pieces of the prompt, then block by block what was generated.
  for (let start = 0; start < keys.length; ) {
    const end = start + (start % TURN_BLOCKS < PROMPT_BLOCKS ? PIECE_BLOCKS : 1);
    const parents = new BigUint64Array(end - start);
    parents[0] = keys[start - 1] ?? 0n;
    index.storeMany(holderOf(0), "gpu", keys.subarray(start, end), parents);
    start = end;
    for (let event = 0; event < CHURN_ENGINES; event += 1) step();
  }
  for (let holder = 1; holder < HOLDERS; holder += 1) {
    const held = (keys.length * holder) / HOLDERS;
    index.storeMany(holderOf(holder * 8), "gpu", keys.subarray(0, held));
  }
  return index;
}

/** Times of matches while another thread stores and removes a million blocks a second. */
export function duringIngestCase(hasher: BlockHasher): ValueCase {
  const parent = hasher.rootKey(NAMESPACE);
  const tokens = tokensOf(CHURNED_BLOCKS);
  const keys = hasher.chainKeys({ parent, tokens, blockSizeTokens: BLOCK });
  return {
    name: `match.keys.${CHURNED_BLOCKS}x64.during-ingest`,
    unit: "us",
    reference: `match.keys.${CHURNED_BLOCKS}x64`,
    value: async (isQuick) => {
      const worker = new Worker(new URL("./ingest-writer.ts", import.meta.url), {
        workerData: keys,
      });
      const handle = await new Promise<TableHandle>((resolve, reject) => {
        worker.once("message", resolve);
        worker.once("error", reject);
      });
      const reader = new TableReader(handle);
      const samples: number[] = [];
      const end = nodeClock.nowMs() + (isQuick ? INGEST_MS_QUICK : INGEST_MS);
      while (nodeClock.nowMs() < end) {
        const startMs = nodeClock.nowMs();
        reader.match(keys);
        samples.push(1000 * (nodeClock.nowMs() - startMs));
      }
      const blocksPerSecond = await new Promise<number>((resolve) => {
        worker.once("message", resolve);
        worker.postMessage("stop");
      });
      if (!isQuick && blocksPerSecond < BLOCKS_PER_SECOND_MIN) {
        process.stderr.write(`only ${Math.round(blocksPerSecond)} blocks/s were ingested\n`);
      }
      return percentiles(samples);
    },
  };
}
