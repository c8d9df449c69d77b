/**
 * Generated conversations as requests of a simulation: lengths and blocks, no text.
 *
 * A session takes one of a few shared beginnings (Zipf popularity), opens with tokens of its own, and
 * each turn adds a message to all that was said before. Sessions arrive as a Poisson process that has
 * been running for ever: those that began earlier bring their later turns. Turns come at their planned
 * times whether or not the answer before has ended (an open loop), so that every policy gets the same
 * requests. Same seed, same requests.
 */
import type { Random } from "../../core/random.ts";
import { drawExponential, drawInt, type IntRange } from "../workload/draw.ts";
import { atLoad, workSeconds } from "./offered-load.ts";
import type { Scenario } from "./scenario.ts";
import type { SimRequest } from "./sim-request.ts";

export interface SessionShape {
  /** Shared beginnings: system prompts, tools, documents. */
  readonly beginnings: number;
  readonly beginningTokens: IntRange;
  readonly openingTokens: IntRange;
  readonly turns: IntRange;
  readonly messageTokens: IntRange;
  readonly answerTokens: IntRange;
  /** Mean of the exponential time from one turn to the next, answer included, s. */
  readonly turnMeanSeconds: number;
}

export const SESSION_SHAPES = {
  /** As Mooncake's conversations: long prompts, of which a quarter to a third can be reused. */
  conversation: {
    beginnings: 4,
    beginningTokens: { min: 512, max: 1024 },
    openingTokens: { min: 1000, max: 18_000 },
    turns: { min: 1, max: 4 },
    messageTokens: { min: 100, max: 5000 },
    answerTokens: { min: 20, max: 660 },
    turnMeanSeconds: 40,
  },
  /** Tool loops: many turns close together over a few large system prompts. */
  agent: {
    beginnings: 8,
    beginningTokens: { min: 4000, max: 8000 },
    openingTokens: { min: 300, max: 3000 },
    turns: { min: 5, max: 25 },
    messageTokens: { min: 100, max: 2500 },
    answerTokens: { min: 30, max: 300 },
    turnMeanSeconds: 6,
  },
  /** Questions about shared long documents: much reuse across sessions. */
  synthetic: {
    beginnings: 150,
    beginningTokens: { min: 2000, max: 30_000 },
    openingTokens: { min: 50, max: 3000 },
    turns: { min: 1, max: 3 },
    messageTokens: { min: 50, max: 1500 },
    answerTokens: { min: 20, max: 280 },
    turnMeanSeconds: 15,
  },
  /** Long sessions with pauses in which the GPU's cache moves on: what lower tiers are for. */
  paused: {
    beginnings: 8,
    beginningTokens: { min: 2000, max: 6000 },
    openingTokens: { min: 1000, max: 8000 },
    turns: { min: 3, max: 12 },
    messageTokens: { min: 100, max: 2500 },
    answerTokens: { min: 30, max: 400 },
    turnMeanSeconds: 60,
  },
  short: {
    beginnings: 16,
    beginningTokens: { min: 100, max: 600 },
    openingTokens: { min: 100, max: 1500 },
    turns: { min: 1, max: 4 },
    messageTokens: { min: 30, max: 400 },
    answerTokens: { min: 50, max: 400 },
    turnMeanSeconds: 15,
  },
  long: {
    beginnings: 1,
    beginningTokens: { min: 100, max: 100 },
    openingTokens: { min: 20_000, max: 90_000 },
    turns: { min: 1, max: 2 },
    messageTokens: { min: 100, max: 2000 },
    answerTokens: { min: 100, max: 400 },
    turnMeanSeconds: 40,
  },
} as const satisfies Readonly<Record<string, SessionShape>>;

export interface SessionDemand {
  /** Shapes, with the share of the sessions that each makes. */
  readonly parts: readonly { readonly shape: SessionShape; readonly share: number }[];
  readonly requests: number;
  /** Offered load, as offeredLoad counts it. */
  readonly load: number;
}

/** Sessions that the pace is estimated from. */
const PROBE_SESSIONS = 200;

export function drawSessions(
  demand: SessionDemand,
  scenario: Scenario,
  random: Random,
): SimRequest[] {
  const ids = new BlockIds(scenario.blockTokens);
  const sources = demand.parts.map(({ shape, share }) => ({
    share,
    shape,
    beginnings: new Beginnings(shape, ids, random),
  }));
  const shares = demand.parts.reduce((sum, { share }) => sum + share, 0);
  const draw = (): SimRequest[] => {
    let left = random.next() * shares;
    for (const { share, shape, beginnings } of sources) {
      left -= share;
      if (left < 0) return drawSession(shape, beginnings, ids, random);
    }
    return [];
  };
  const probes = Array.from({ length: PROBE_SESSIONS }, draw).flat();
  const workPerRequest = workSeconds(probes, scenario) / probes.length;
  const seconds = (demand.requests * workPerRequest) / demand.load;
  const longest = Math.max(...probes.map(({ atSeconds }) => atSeconds));
  const requests: SimRequest[] = [];
  while (requests.length < demand.requests) {
    const startSeconds = -longest + random.next() * (longest + seconds);
    for (const turn of draw()) {
      const atSeconds = startSeconds + turn.atSeconds;
      if (atSeconds >= 0 && atSeconds < seconds) requests.push({ ...turn, atSeconds });
    }
  }
  requests.sort((a, b) => a.atSeconds - b.atSeconds);
  return atLoad(requests, demand.load, scenario);
}

/** Ids never given before; an id stands for its block with all that is before it. */
class BlockIds {
  readonly blockTokens: number;
  #next = 1;
  #sessions = 0;

  constructor(blockTokens: number) {
    this.blockTokens = blockTokens;
  }

  take(tokens: number): number[] {
    const first = this.#next;
    const blocks = Math.floor(tokens / this.blockTokens);
    this.#next += blocks;
    return Array.from({ length: blocks }, (_, index) => first + index);
  }

  session(): string {
    this.#sessions += 1;
    return `s${this.#sessions}`;
  }
}

class Beginnings {
  readonly #all: readonly { readonly tokens: number; readonly blocks: readonly number[] }[];
  /** Summed Zipf weights. */
  readonly #weights: number[] = [];

  constructor(shape: SessionShape, ids: BlockIds, random: Random) {
    let weight = 0;
    this.#all = Array.from({ length: shape.beginnings }, (_, index) => {
      weight += 1 / (index + 1);
      this.#weights.push(weight);
      const tokens = drawInt(random, shape.beginningTokens);
      return { tokens, blocks: ids.take(tokens) };
    });
  }

  draw(random: Random): { readonly tokens: number; readonly blocks: readonly number[] } {
    const place = random.next() * (this.#weights.at(-1) ?? 0);
    const index = this.#weights.findIndex((weight) => place < weight);
    return this.#all[index] ?? { tokens: 0, blocks: [] };
  }
}

/** Turns of one session, from its own time 0. */
function drawSession(
  shape: SessionShape,
  beginnings: Beginnings,
  ids: BlockIds,
  random: Random,
): SimRequest[] {
  const beginning = beginnings.draw(random);
  const session = ids.session();
  const parts = Array.from({ length: drawInt(random, shape.turns) }, (_, turn) => ({
    messageTokens: drawInt(random, turn === 0 ? shape.openingTokens : shape.messageTokens),
    answerTokens: drawInt(random, shape.answerTokens),
    gapSeconds: turn === 0 ? 0 : drawExponential(random, shape.turnMeanSeconds),
  }));
  const said = parts.reduce((sum, part) => sum + part.messageTokens + part.answerTokens, 0);
  const sharedTokens = beginning.blocks.length * ids.blockTokens;
  const all = [...beginning.blocks, ...ids.take(beginning.tokens - sharedTokens + said)];
  let tokens = beginning.tokens;
  let atSeconds = 0;
  return parts.map(({ messageTokens, answerTokens, gapSeconds }) => {
    atSeconds += gapSeconds;
    tokens += messageTokens;
    const inputTokens = tokens;
    tokens += answerTokens;
    const fullBlocks = Math.floor(inputTokens / ids.blockTokens);
    return {
      atSeconds,
      session,
      inputTokens,
      outputTokens: answerTokens,
      blocks: all.slice(0, fullBlocks),
      answerBlocks: all.slice(fullBlocks, Math.floor(tokens / ids.blockTokens)),
    };
  });
}
