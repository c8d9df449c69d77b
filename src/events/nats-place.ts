/** Where a stream stands, and whether it still is the one it was. */
import type { JetStreamManager } from "@nats-io/jetstream";
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";

const LOOK_MS = 1000;

export interface StreamPlace {
  /** Time of its creation: tells it from one that was deleted and made anew. */
  readonly created: string;
  /** First message that is retained; `lastSeq` + 1 when there is none. */
  readonly firstSeq: number;
  readonly lastSeq: number;
}

export async function placeOf(manager: JetStreamManager, stream: string): Promise<StreamPlace> {
  const { created, state } = await manager.streams.info(stream);
  return { created: String(created), firstSeq: state.first_seq, lastSeq: state.last_seq };
}

export function isStreamGone(error: unknown): boolean {
  return messageOf(error).includes("stream not found");
}

/**
 * Looks every second; resolves with true once the stream is gone, another one, or shorter than it
 * was, and with false when the signal aborts. A server that is away is waited for.
 */
export async function streamReplaced(options: {
  /** Asks where the stream stands now. */
  readonly look: () => Promise<StreamPlace>;
  readonly place: StreamPlace;
  /** Last message known to have been in the stream. */
  readonly seqSeen: () => number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}): Promise<boolean> {
  const { look, place, seqSeen, clock, signal } = options;
  let { lastSeq } = place;
  while (!signal.aborted) {
    await sleep(clock, LOOK_MS, signal);
    if (signal.aborted) break;
    try {
      // Before the question: what is read until the answer is there may be beyond it.
      lastSeq = Math.max(lastSeq, seqSeen());
      const seen = await look();
      if (seen.created !== place.created || seen.lastSeq < lastSeq) return true;
      lastSeq = seen.lastSeq;
    } catch (error) {
      if (isStreamGone(error)) return true;
    }
  }
  return false;
}
