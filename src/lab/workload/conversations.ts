/**
 * The generated workload: conversations over shared system prompts.
 *
 * A conversation takes one of a few system prompts (Zipf popularity) and a document of its own; a
 * turn adds a user message to all that was said before. Conversations begin as a Poisson process;
 * the next turn is sent when the answer has been read. The answer in the next turn's prompt is made
 * up here, so the work does not depend on what an engine says. Same seed, same work.
 */
import type { Random } from "../../core/random.ts";
import { drawExponential, drawInt, drawTokens, drawZipf, type IntRange, mean } from "./draw.ts";
import type { OfferedLoad, PlannedRequest, PlannedWork } from "./planned-work.ts";

export interface ConversationShape {
  readonly systemPrompts: number;
  readonly systemTokens: IntRange;
  /** What a conversation is about; part of its first message. */
  readonly documentTokens: IntRange;
  readonly turns: IntRange;
  readonly messageTokens: IntRange;
  readonly answerTokens: IntRange;
  /** Mean of the exponential time between an answer's end and the next turn, ms. */
  readonly thinkMeanMs: number;
}

/** 68 to 75 % of the prompt tokens are reusable in 35 s of it, a little more in a longer work. */
export const CONVERSATION_SHAPE: ConversationShape = {
  systemPrompts: 8,
  systemTokens: { min: 1000, max: 3000 },
  documentTokens: { min: 1000, max: 6000 },
  turns: { min: 1, max: 5 },
  messageTokens: { min: 50, max: 600 },
  answerTokens: { min: 16, max: 64 },
  thinkMeanMs: 2000,
};

/** An answer's time that decides which turns still belong to the work, ms. */
const ANSWER_NOMINAL_MS = 1500;

interface Turn extends Omit<PlannedRequest, "after"> {
  /** Null for the first turn of a conversation. */
  readonly previous: Turn | null;
  readonly thinkMs: number;
}

export function planConversations(
  shape: ConversationShape,
  load: OfferedLoad,
  random: Random,
): PlannedWork {
  const systems = Array.from({ length: shape.systemPrompts }, () =>
    drawTokens(random, drawInt(random, shape.systemTokens)),
  );
  const endMs = load.seconds * 1000;
  const gapMs = (1000 * newTokensPerConversation(shape)) / load.newTokensPerSecond;
  const turns: Turn[] = [];
  let conversations = 0;
  let startMs = 0;
  while (startMs < endMs) {
    conversations += 1;
    const system = systems[drawZipf(random, systems.length)] ?? new Uint32Array(0);
    const conversation = drawConversation(shape, { system, startMs }, random);
    turns.push(...conversation.filter(({ dueMs }) => dueMs < endMs));
    startMs += drawExponential(random, gapMs);
  }
  return { requests: inOrder(turns), description: describe(shape, conversations) };
}

function newTokensPerConversation(shape: ConversationShape): number {
  const perTurn = mean(shape.messageTokens) + mean(shape.answerTokens);
  return mean(shape.documentTokens) + mean(shape.turns) * perTurn;
}

/** Prompts are views of one array, since each begins with the one before. */
function drawConversation(
  shape: ConversationShape,
  start: { readonly system: Uint32Array; readonly startMs: number },
  random: Random,
): Turn[] {
  const { system } = start;
  const parts = Array.from({ length: drawInt(random, shape.turns) }, () => ({
    messageTokens: drawInt(random, shape.messageTokens),
    outputTokens: drawInt(random, shape.answerTokens),
    thinkMs: drawExponential(random, shape.thinkMeanMs),
  }));
  const documentTokens = drawInt(random, shape.documentTokens);
  const said = parts.reduce((sum, part) => sum + part.messageTokens + part.outputTokens, 0);
  const tokens = new Uint32Array(system.length + documentTokens + said);
  tokens.set(system);
  tokens.set(drawTokens(random, tokens.length - system.length), system.length);

  const turns: Turn[] = [];
  let end = system.length + documentTokens;
  let dueMs = start.startMs;
  let previous: Turn | null = null;
  for (const { messageTokens, outputTokens, thinkMs } of parts) {
    end += messageTokens;
    if (previous !== null) dueMs += ANSWER_NOMINAL_MS + thinkMs;
    const turn: Turn = { dueMs, prompt: tokens.subarray(0, end), outputTokens, previous, thinkMs };
    turns.push(turn);
    end += outputTokens;
    previous = turn;
  }
  return turns;
}

function inOrder(turns: readonly Turn[]): PlannedRequest[] {
  const ordered = turns.toSorted((a, b) => a.dueMs - b.dueMs);
  const indexOf = new Map(ordered.map((turn, index) => [turn, index]));
  return ordered.map(({ dueMs, prompt, outputTokens, previous, thinkMs }) => {
    const index = previous === null ? undefined : indexOf.get(previous);
    return { dueMs, prompt, outputTokens, after: index === undefined ? null : { index, thinkMs } };
  });
}

function describe(shape: ConversationShape, conversations: number): string[] {
  return [
    `${conversations} conversations of ${words(shape.turns)} turns over ${shape.systemPrompts} ` +
      `shared system prompts of ${words(shape.systemTokens)} tokens (some far more popular),`,
    `each about a document of ${words(shape.documentTokens)} tokens; messages of ` +
      `${words(shape.messageTokens)}, answers of ${words(shape.answerTokens)} tokens`,
  ];
}

function words({ min, max }: IntRange): string {
  return `${min.toLocaleString("en-US")}-${max.toLocaleString("en-US")}`;
}
