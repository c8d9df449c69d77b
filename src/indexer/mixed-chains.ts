/**
 * How far holders go on with a prompt where the size of blocks changes within a chain: behind any block
 * that one has, a block of another of its sizes may follow (vLLM fills a large block step by step).
 *
 * A block's key follows from the key before it, so each change is looked for by the key that a block of
 * the other size would have there: a hash and a look-up for every block held and every other size. All
 * changes are found; the ends of runs come first, because engines change the size there. Pure.
 */
import { holderName } from "../core/ids.ts";
import type { HolderMatch, IndexReader } from "./block-index.ts";

/** Blocks of one size behind each other, from the prompt's beginning on. */
export interface FirstRun {
  readonly blockSizeTokens: number;
  readonly keys: BigUint64Array;
  readonly matches: readonly HolderMatch[];
}

/** A place in a prompt: behind so many blocks, of which this is the last one's key. */
export interface PromptPlace {
  readonly key: bigint;
  readonly tokens: number;
  readonly blocks: number;
}

export interface MixedChainsInput {
  /** From the prompt's beginning, one for each size or root; their matches are of the holders asked for. */
  readonly starts: readonly FirstRun[];
  /** Sizes of these holders' blocks. */
  readonly blockSizesTokens: readonly number[];
  /** Keys of the prompt's next blocks behind a place: so many at most. */
  readonly keysBehind: (
    place: PromptPlace,
    blockSizeTokens: number,
    blocksMax: number,
  ) => BigUint64Array;
  readonly index: Pick<IndexReader, "match">;
  /** Places, each with one other size, that are looked at. */
  readonly probesMax: number;
}

export interface MixedChains {
  /** In tokens, of each run behind another: a holder has as many as it has runs. */
  readonly matches: readonly HolderMatch[];
  /** `probesMax` was reached: there may be longer ones. */
  readonly isCut: boolean;
}

type Matches = ReadonlyMap<string, HolderMatch>;

interface Run {
  readonly start: PromptPlace;
  readonly blockSizeTokens: number;
  readonly keys: BigUint64Array;
  /** By holder: of the run, and in tokens what there is before it. */
  readonly matches: Matches;
  readonly before: Matches;
  /** Behind so many blocks, and all before these, a change is still to be looked for. */
  depth: number;
}

/** By how much longer than what was found the next part of a chain is that is looked for. */
const GROWTH = 8;
const BEGINNING: PromptPlace = { key: 0n, tokens: 0, blocks: 0 };

export function mixedChains(input: MixedChainsInput): MixedChains {
  const { starts, blockSizesTokens, probesMax } = input;
  const found: HolderMatch[] = [];
  const open: Run[] = starts.map(({ matches, ...start }) => ({
    ...{ ...start, start: BEGINNING, matches: byHolder(matches), before: new Map() },
    depth: deepest(matches),
  }));
  let probes = 0;
  for (let run = open.at(-1); run !== undefined; run = open.at(-1)) {
    const { depth } = run;
    if (depth === 0) {
      open.pop();
      continue;
    }
    run.depth -= 1;
    for (const size of blockSizesTokens) {
      if (size === run.blockSizeTokens) continue;
      if (probes === probesMax) return { matches: found, isCut: true };
      probes += 1;
      const next = runBehind(run, depth, size, input);
      if (next === null) continue;
      for (const [name, match] of next.matches) {
        found.push(together(next.before.get(name), match, size));
      }
      open.push(next);
    }
  }
  return { matches: found, isCut: false };
}

/** What goes on with blocks of this size behind the first `depth` blocks of a run; null: nothing. */
function runBehind(
  run: Run,
  depth: number,
  blockSizeTokens: number,
  { keysBehind, index }: MixedChainsInput,
): Run | null {
  const start: PromptPlace = {
    key: run.keys[depth - 1] ?? 0n,
    tokens: run.start.tokens + depth * run.blockSizeTokens,
    blocks: run.start.blocks + depth,
  };
  const matchOf = ({ holder }: HolderMatch): HolderMatch | undefined =>
    run.matches.get(holderName(holder));
  let [keys, found, blocksMax]: [BigUint64Array, HolderMatch[], number] = [NO_KEYS, [], 0];
  do {
    blocksMax = Math.max(1, GROWTH * blocksMax);
    keys = keysBehind(start, blockSizeTokens, blocksMax);
    const all = keys.length === 0 ? [] : index.match(keys);
    found = all.filter((each) => (matchOf(each)?.blocks ?? 0) >= depth);
  } while (deepest(found) === blocksMax);
  if (found.length === 0) return null;
  const areAtEnd = found.every((each) => matchOf(each)?.blocks === depth);
  const upTo = areAtEnd ? run.matches : byHolder(index.match(run.keys.subarray(0, depth)));
  const matches = new Map<string, HolderMatch>();
  const before = new Map<string, HolderMatch>();
  for (const [name, match] of byHolder(found)) {
    const first = upTo.get(name);
    // Otherwise it has lost some of them meanwhile.
    if (first?.blocks !== depth) continue;
    matches.set(name, match);
    before.set(name, together(run.before.get(name), first, run.blockSizeTokens));
  }
  return { start, blockSizeTokens, keys, matches, before, depth: deepest([...matches.values()]) };
}

function byHolder(matches: readonly HolderMatch[]): Matches {
  return new Map(matches.map((match) => [holderName(match.holder), match]));
}

function deepest(matches: readonly HolderMatch[]): number {
  return matches.reduce((most, { blocks }) => Math.max(most, blocks), 0);
}

/** In tokens: what a holder has before a run, and of the run. */
function together(before: HolderMatch | undefined, run: HolderMatch, size: number): HolderMatch {
  const { gpuBlocks, blocks, blocksByTier } = before ?? NOTHING;
  const { gpu, cpu, nvme, shared } = run.blocksByTier;
  return {
    holder: run.holder,
    gpuBlocks: gpuBlocks < blocks ? gpuBlocks : gpuBlocks + size * run.gpuBlocks,
    blocks: blocks + size * run.blocks,
    blocksByTier: {
      gpu: blocksByTier.gpu + size * gpu,
      cpu: blocksByTier.cpu + size * cpu,
      nvme: blocksByTier.nvme + size * nvme,
      shared: blocksByTier.shared + size * shared,
    },
  };
}

const NO_KEYS = new BigUint64Array(0);
const NOTHING: Omit<HolderMatch, "holder"> = {
  ...{ gpuBlocks: 0, blocks: 0 },
  blocksByTier: { gpu: 0, cpu: 0, nvme: 0, shared: 0 },
};
