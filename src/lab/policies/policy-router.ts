/** A policy as a router of the simulate protocol: bookkeeping here, the choice in the policy. */
import { type Random, seededRandom } from "../../core/random.ts";
import type {
  RouteAnswer,
  RouteMessage,
  SimulateAnswer,
  SimulatedRouter,
  SimulateMessage,
} from "../simulate/messages.ts";
import { type BookedPod, PodBook } from "./pod-book.ts";

export interface PolicyInput {
  readonly message: RouteMessage;
  /** At least one. */
  readonly candidates: readonly BookedPod[];
  readonly book: PodBook;
  readonly random: Random;
}

/** Lower is better; equal scores are decided by chance. */
export type Policy = (input: PolicyInput) => readonly number[];

/** Called after each choice; what only the policy itself remembers. */
export interface PolicyMemory {
  readonly score: Policy;
  readonly chosen?: (message: RouteMessage, pod: BookedPod) => void;
}

export class PolicyRouter implements SimulatedRouter {
  readonly #book = new PodBook();
  readonly #policy: PolicyMemory;
  #random = seededRandom(0);

  constructor(policy: PolicyMemory) {
    this.#policy = policy;
  }

  handle(message: SimulateMessage): SimulateAnswer | null {
    if (message.op === "route") return this.#route(message);
    this.#book.note(message);
    if (message.op !== "init") return null;
    this.#random = seededRandom(message.replica);
    return { ok: true };
  }

  #route(message: RouteMessage): RouteAnswer {
    const book = this.#book;
    const random = this.#random;
    const candidates = book.candidates(message.exclude, "prompt");
    const scores =
      candidates.length === 0 ? [] : this.#policy.score({ message, candidates, book, random });
    const pod = lowest(candidates, scores, random);
    if (pod === undefined) return { pod: null };
    const decodePod = book.hasDecodePods ? this.#lightestDecodePod(message) : null;
    if (decodePod === undefined) return { pod: null, decode_pod: null };
    const hit = PodBook.leading(message.blocks, (block) => pod.held.gpu.has(block));
    const newTokens = Math.max(1, message.input_tokens - hit * book.blockTokens);
    book.book(message, { pod, decodePod, newTokens });
    this.#policy.chosen?.(message, pod);
    return decodePod === null
      ? { pod: pod.facts.id }
      : { pod: pod.facts.id, decode_pod: decodePod.facts.id };
  }

  /** Peers choose the decode pod by requests in flight. */
  #lightestDecodePod(message: RouteMessage): BookedPod | undefined {
    const pods = this.#book.candidates(message.exclude, "decode");
    return lowest(
      pods,
      pods.map(({ requests }) => requests.size),
      this.#random,
    );
  }
}

function lowest(
  pods: readonly BookedPod[],
  scores: readonly number[],
  random: Random,
): BookedPod | undefined {
  const best = Math.min(...scores);
  const ties = pods.filter(
    (_, index) => (scores[index] ?? Number.POSITIVE_INFINITY) <= best + 1e-9,
  );
  return ties[Math.floor(random.next() * ties.length)];
}
