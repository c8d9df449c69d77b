/** Kinds of histories: how often what happens in each, and which engines each is of. */
import { Chance } from "./chance.ts";
import { MEDIA } from "./chaos-held.ts";
import type { EngineTraits } from "./chaos-wire.ts";

/**
 * - any: everything, each thing seldom
 * - lanes: copies in several media and groups, while routers and relays are restarted
 * - middle: engines that had spoken before anybody listened, and are asked for it
 * - sizes: chains in which the size of blocks changes
 * - lives: small engines that start again and are cut off all the time
 * - orphans: blocks that are told before those that they follow
 * - chunks: a connector's, in the engine's own stream too
 * - sequence: messages alone, many short histories in one (sequence-history.ts)
 */
const ENGINE_KINDS = ["any", "lanes", "middle", "sizes", "lives", "orphans", "chunks"] as const;
export type EngineKind = (typeof ENGINE_KINDS)[number];
export const KINDS = [...ENGINE_KINDS, "sequence"] as const;
export type Kind = (typeof KINDS)[number];

const TURNS = {
  ...{ act: 450, step: 400, read: 110, reconnect: 8, restartEngine: 10, restartRouter: 4 },
  ...{ restartRelays: 3, purge: 3, heal: 3, overtake: 1, elapsed: 1, resync: 1, keep: 6, ask: 0 },
};
export type Turn = keyof typeof TURNS;
const RARE = { restartEngine: 4, reconnect: 4 };
const TURNS_OF: Readonly<Record<EngineKind, Readonly<Record<Turn, number>>>> = {
  any: TURNS,
  lanes: { ...TURNS, ...RARE, restartRouter: 20, restartRelays: 20, keep: 40, heal: 15, purge: 8 },
  middle: { ...TURNS, reconnect: 20, restartRelays: 15, heal: 15, resync: 15, purge: 10, keep: 20 },
  sizes: { ...TURNS, restartRouter: 8, keep: 20, ask: 60 },
  lives: {
    ...{ ...TURNS, act: 350, reconnect: 50, restartEngine: 30, restartRouter: 10 },
    ...{ restartRelays: 15, heal: 15, resync: 6, overtake: 10, purge: 6, keep: 20 },
  },
  orphans: { ...TURNS, restartRouter: 10, restartRelays: 10, keep: 20, heal: 10, reconnect: 4 },
  chunks: { ...TURNS, restartRouter: 10, restartRelays: 10, keep: 20, elapsed: 20, heal: 10 },
};

/** How often an engine speaks while nobody listens, of the times at which that may be. */
export const UNHEARD_OF: Readonly<Record<EngineKind, number>> = {
  any: 0,
  lanes: 0,
  middle: 0.5,
  sizes: 0,
  lives: 0.3,
  orphans: 0,
  chunks: 0.1,
};

/** How often a way that may lose, double, swap or damage does not, of the ways of all engines. */
export const CALM_OF: Readonly<Record<EngineKind, number>> = {
  any: 0.5,
  lanes: 0.9,
  middle: 0.9,
  sizes: 0.9,
  lives: 0.4,
  orphans: 0.9,
  chunks: 0.9,
};

/** Half of all seeds are of the first kind. */
export function kindOf(seed: number): Kind {
  const chance = new Chance(seed ^ 0x6b69_6e64);
  return chance.is(0.5) ? "any" : chance.of(KINDS);
}

export function turnOf(kind: EngineKind, chance: Chance): Turn {
  const turns = Object.entries(TURNS_OF[kind]) as [Turn, number][];
  let dice = chance.below(turns.reduce((sum, [, weight]) => sum + weight, 0));
  const found = turns.find(([, weight]) => {
    dice -= weight;
    return dice < 0;
  });
  return found?.[0] ?? "act";
}

/** One, or two of which each has its own copies. */
function someOf(media: readonly string[], chance: Chance): readonly string[] {
  return [...new Set([chance.of(media), chance.of(media)])];
}

export function traitsOf(kind: EngineKind, chance: Chance): Omit<EngineTraits, "rank"> {
  const engine = chance.is(0.25) ? "sglang" : "vllm";
  const hashForms = ["unsigned", "signed", "bytes32", "bytes16"] as const;
  const fullGroups = engine === "vllm" && chance.is(0.3) ? [0, 2] : [0];
  const hasConnector = engine === "vllm" && chance.is(0.2);
  // Groups of full attention have blocks of one size.
  const sizes = chance.of([[1], [2], [16], [4], fullGroups.length > 1 ? [8] : [4, 8]]);
  const traits: Omit<EngineTraits, "rank"> = {
    engine,
    encodings: chance.of([["array"], ["map"], ["array", "map"]]),
    hashForms: chance.is(0.5) ? [chance.of(hashForms)] : hashForms,
    areExtrasTold: engine === "sglang" || chance.is(0.85),
    chainSizes: sizes.map((size) => [size]),
    isClearing: true,
    hasLowerTiers: !hasConnector && chance.is(0.3),
    hasConnector,
    media: MEDIA.map((media, tier) => (tier === 0 ? media : someOf(media, chance))),
    fullGroups,
    isHybrid: engine === "vllm" && chance.is(0.3),
    isOdd: chance.is(0.15),
    isUnordered: false,
    isConnectorNamed: true,
    bufferMessages: chance.of([null, 5, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]),
  };
  switch (kind) {
    case "any":
      return traits;
    case "lanes":
      // Of what lower tiers hold after a clear nobody knows: it would end all claims.
      return {
        ...{ ...traits, isClearing: false, isOdd: false, hasConnector: false },
        ...{ hasLowerTiers: chance.is(0.8), media: MEDIA, bufferMessages: buffer(chance) },
      };
    case "middle":
      return { ...traits, isOdd: false, hasConnector: false, bufferMessages: buffer(chance) };
    case "sizes": {
      const chainSizes = chance.of(SIZES);
      const isTold = { areExtrasTold: true, isOdd: false, hasConnector: false };
      return { ...traits, ...isTold, chainSizes, fullGroups: [0] };
    }
    case "lives":
      return {
        ...{ ...traits, chainSizes: [[2]], fullGroups: [0], isHybrid: false, isOdd: false },
        ...{ areExtrasTold: true, hasLowerTiers: false, hasConnector: false },
        bufferMessages: chance.of([null, 2, 5, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]),
      };
    case "orphans":
      return {
        ...{ ...traits, isUnordered: true, areExtrasTold: true, isOdd: false, hasConnector: false },
        ...{ isClearing: chance.is(0.5), bufferMessages: buffer(chance) },
      };
    case "chunks":
      return {
        ...{ ...traits, engine: "vllm", hasConnector: true, isConnectorNamed: chance.is(0.3) },
        ...{ hasLowerTiers: false, isOdd: false, areExtrasTold: true },
        bufferMessages: buffer(chance),
      };
  }
}

/** At most as many sizes as a holder may have. */
const SIZES: readonly (readonly (readonly number[])[])[] = [
  [[8], [8, 4], [4, 8]],
  [
    [2, 4],
    [4, 2],
  ],
  [[1, 2, 3]],
  [[16, 16, 8], [16]],
  [[6], [3], [6, 3], [3, 3, 6], [2, 6]],
];

function buffer(chance: Chance): number {
  return chance.is(0.8) ? Number.POSITIVE_INFINITY : 5;
}
