/**
 * Polls of TensorRT-LLM, one for each URL, whatever number of ranks is followed there: an engine forgets
 * what it has answered, and one answer has the events of all its attention data-parallel ranks.
 */
import type { Clock } from "../core/clock.ts";
import { type PollOutcome, pollTrtllmEvents } from "./http-trtllm-poll.ts";
import type { EngineMessage } from "./sequence.ts";
import { TrtllmDecoder } from "./trtllm-decoder.ts";

/** Who follows one rank. Of what is of no rank in particular, the first one of a URL is told. */
export interface RankFollower {
  readonly rank: number;
  /** An answer came, before its messages; the highest rank of all so far that nobody follows. */
  onAnswer(otherRank: number | null): void;
  onMessage(message: EngineMessage): void;
  /** An event of a rank that nobody follows. */
  onOtherRank(): void;
  onPoll(outcome: PollOutcome): void;
  onRefused(reason: string, detail: string, answer: Uint8Array): void;
}

interface Followed {
  readonly followers: Map<number, RankFollower>;
  /** Ranks that events came of, and nobody follows. */
  readonly otherRanks: Set<number>;
}

interface Poll extends Followed {
  readonly abort: AbortController;
  readonly ended: Promise<void>;
}

export class TrtllmPolls {
  readonly #polls = new Map<string, Poll>();

  /** Resolves when the signal has aborted, and with it the last one's poll has ended. */
  async follow(
    url: string,
    follower: RankFollower,
    deps: { readonly clock: Clock; readonly ready: Promise<void>; readonly signal: AbortSignal },
  ): Promise<void> {
    const { signal } = deps;
    const poll = this.#polls.get(url) ?? this.#begin(url, deps);
    poll.followers.set(follower.rank, follower);
    poll.otherRanks.delete(follower.rank);
    await new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => resolve(), { once: true });
      if (signal.aborted) resolve();
    });
    if (poll.followers.get(follower.rank) === follower) poll.followers.delete(follower.rank);
    if (poll.followers.size > 0) return;
    if (this.#polls.get(url) === poll) this.#polls.delete(url);
    poll.abort.abort();
    await poll.ended;
  }

  #begin(url: string, deps: { readonly clock: Clock; readonly ready: Promise<void> }): Poll {
    const followed = { followers: new Map(), otherRanks: new Set<number>() };
    const abort = new AbortController();
    const decoder = new TrtllmDecoder();
    const onPoll = (outcome: PollOutcome): void => tell(followed, outcome, decoder);
    const ended = pollTrtllmEvents(url, { ...deps, signal: abort.signal, onPoll });
    const poll = { ...followed, abort, ended };
    this.#polls.set(url, poll);
    return poll;
  }
}

function tell(
  { followers, otherRanks }: Followed,
  outcome: PollOutcome,
  decoder: TrtllmDecoder,
): void {
  const first = followers.get(Math.min(...followers.keys()));
  first?.onPoll(outcome);
  if (!outcome.ok) return;
  const drained = decoder.drain(outcome.value);
  const messages = drained.ok ? drained.value : [];
  for (const { rank } of messages) if (!followers.has(rank)) otherRanks.add(rank);
  const otherRank = otherRanks.size === 0 ? null : Math.max(...otherRanks);
  for (const follower of followers.values()) follower.onAnswer(otherRank);
  if (!drained.ok) first?.onRefused(drained.reason, drained.detail, outcome.value);
  for (const { rank, ...message } of messages) {
    const follower = followers.get(rank);
    if (follower === undefined) first?.onOtherRank();
    else follower.onMessage(message);
  }
}
