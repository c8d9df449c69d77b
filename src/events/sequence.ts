/** One holder's messages as the sequencer takes them, and what it says of them. */
import type { HeldShare } from "./held-budget.ts";
import { detached, type KvEventBatch } from "./kv-event.ts";

export interface EngineMessage {
  readonly seq: number;
  /** Null: it could not be decoded. */
  readonly batch: KvEventBatch | null;
  /** Memory that its events take; default 0: of an engine that cannot be asked again. */
  readonly bytes?: number;
  /** An answer brought it: the live socket may not have said it; default false. */
  readonly isAnswer?: boolean;
}

/** A message in its place. */
export interface Delivery extends EngineMessage {
  /** No message, but word of the place behind `seq`; -1: a life begins, of which nothing is known. */
  readonly isNote: boolean;
  /** The engine has said more than this, and was asked for it. */
  readonly isCatchingUp: boolean;
  /** It goes on where the last one ended, but nothing shows that the engine is in the same life. */
  readonly isUnproven: boolean;
  /** Counts the engine's lives and the starts anew, from 1. */
  readonly epoch: number;
  /** Engine's time, Unix ms; 0 when unknown. */
  readonly engineMs: number;
}

/** Where a message stands to the cursor. */
export type Place = "next" | "repeat" | "new-life" | "hole";

/** The last delivered message; survives a restart of the router. */
export interface SequenceCursor {
  readonly epoch: number;
  readonly seq: number;
  readonly engineMs: number;
}

export interface SequencerStep {
  readonly deliveries: readonly Delivery[];
  /** Ask the engine for its messages from here on, and drop a replay that runs; null: do not. */
  readonly replayFrom: number | null;
  /** Messages not delivered, by reason. */
  readonly drops: readonly SequenceDrop[];
}

/**
 * - duplicate: delivered before
 * - held-full: beyond HELD_MESSAGES_MAX, HELD_BYTES_MAX or HELD_SUM_BYTES_MAX while a replay runs
 */
export type SequenceDrop = "duplicate" | "held-full";

/** Shared by the steps that have none, which are most. */
export const NO_DELIVERIES: readonly Delivery[] = [];
export const NO_DROPS: readonly SequenceDrop[] = [];

/** Live messages held while a replay runs: half a minute of a busy engine. */
export const HELD_MESSAGES_MAX = 4096;
/** Memory of the messages held. */
export const HELD_BYTES_MAX = 33_554_432;

/** An answer of the engine that is under way. */
export interface Replay {
  /** The cursor's message has to come first, to show that the engine is in the same life. */
  isLifeOpen: boolean;
  /** Asked from 0 on: an answer that begins there begins another epoch. */
  isHealing: boolean;
  /** The engine is known to have said more than was delivered. */
  isBehind: boolean;
  /** Newest message of the answer, not looked at yet. */
  newest: EngineMessage | null;
  /** Live messages that arrived meanwhile, oldest first. */
  readonly held: EngineMessage[];
  heldBytes: number;
}

export function newReplay(options: Pick<Replay, "isLifeOpen" | "isHealing">): Replay {
  return { ...options, isBehind: false, newest: null, held: [], heldBytes: 0 };
}

/** Holds a live message while a replay runs. False: there is no room. */
export function hold(replay: Replay, message: EngineMessage, share: HeldShare | null): boolean {
  const bytes = replay.heldBytes + (message.bytes ?? 0);
  const bytesMax = Math.min(HELD_BYTES_MAX, share?.bytesMax() ?? HELD_BYTES_MAX);
  if (replay.held.length >= HELD_MESSAGES_MAX || bytes > bytesMax) return false;
  replay.held.push(ownMessage(message));
  replay.heldBytes = bytes;
  return true;
}

/** Readies a replay that broke off for another answer, from what it has brought. Returns its first number. */
export function askAgain(replay: Replay | null, cursor: SequenceCursor | null): number {
  const seq = cursor?.seq ?? -1;
  if (replay !== null) {
    if (replay.newest !== null) replay.held.unshift(ofAnswer(ownMessage(replay.newest)));
    replay.newest = null;
    replay.isLifeOpen = seq >= 0;
  }
  return replay?.isHealing === true ? 0 : Math.max(0, seq);
}

export function ofAnswer(message: EngineMessage): EngineMessage {
  return { ...message, isAnswer: true };
}

/** A copy that holds on to no bytes of the wire. */
export function ownMessage(message: EngineMessage): EngineMessage {
  const { batch } = message;
  return batch === null
    ? message
    : { ...message, batch: { ...batch, events: batch.events.map(detached) } };
}

/** A life begins that has said nothing yet. */
export const NOTHING_SAID: EngineMessage = { seq: -1, batch: { ts: 0, rank: null, events: [] } };

/** Engine's time, Unix ms; 0 when the message says none. */
export function engineMsOf({ batch }: EngineMessage): number {
  return batch === null ? 0 : Math.round(batch.ts * 1000);
}

/** Whether a held message was said before the newest one of the replay: another life's last words. */
export function isOfBefore(message: EngineMessage, cursor: SequenceCursor | null): boolean {
  const engineMs = engineMsOf(message);
  return engineMs > 0 && engineMs < (cursor?.engineMs ?? 0);
}

/** Held live messages behind the cursor that an answer, which goes on with this one, no longer has. */
export function heardBefore(
  first: EngineMessage,
  { held }: Replay,
  cursor: SequenceCursor | null,
): EngineMessage[] {
  let seq = cursor?.seq ?? -1;
  if (first.seq <= seq + 1) return [];
  return held.filter((each) => {
    const isRising = each.seq > seq && each.seq < first.seq;
    const isHeard = isRising && !isOfBefore(each, cursor) && engineMsOf(each) <= engineMsOf(first);
    if (isHeard) seq = each.seq;
    return isHeard;
  });
}

/** Whether the live socket has said it too, so that what that said before is of the same life. */
export function isHeard(message: EngineMessage, { held }: Replay): boolean {
  const engineMs = engineMsOf(message);
  return held.some(
    (each) =>
      each.isAnswer !== true &&
      each.seq === message.seq &&
      engineMs > 0 &&
      engineMsOf(each) === engineMs,
  );
}
