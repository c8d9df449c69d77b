/** Decides for one serving thread, in the thread that decides; see remote-decider.ts. */
import type { Clock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Meter } from "../core/meter.ts";
import type { EndOfRequest, PickOutcome } from "../extproc/picker.ts";
import type { RequestIds } from "../extproc/request-ids.ts";
import type { PromptKeys, PromptReader } from "../prompt/prompt-reader.ts";
import type { AskedRequest } from "./decider.ts";
import type { Asking, Deciding, KeyedPrompt } from "./edge-messages.ts";
import type { LocalDecider } from "./local-decider.ts";

export interface DecisionDeskDeps {
  readonly decider: LocalDecider;
  readonly prompt: Pick<PromptReader, "keyed">;
  /** Of the requests of all threads: two may serve the same id of clients at once. */
  readonly requestIds: RequestIds;
  /** All that is said on one message of the thread's. */
  readonly say: (messages: readonly Deciding[]) => void;
  readonly clock: Clock;
  readonly meter: Meter;
}

type Ask = Extract<Asking, { kind: "ask" }>;

export class DecisionDesk {
  readonly #deps: DecisionDeskDeps;
  /** Ids of the requests that were routed and have not ended, by their number. */
  readonly #routes = new Map<number, string>();
  /** Those that are held. */
  readonly #held = new Map<number, AbortController>();
  #unsaid: Deciding[] = [];

  constructor(deps: DecisionDeskDeps) {
    this.#deps = deps;
  }

  /** Requests that are routed or held. */
  get open(): number {
    return this.#routes.size + this.#held.size;
  }

  take(messages: readonly Asking[]): void {
    for (const message of messages) this.#take(message);
  }

  /** The thread is gone: what it had under way is over. */
  close(): void {
    for (const n of [...this.#held.keys(), ...this.#routes.keys()]) this.#withdraw(n);
  }

  #take(message: Asking): void {
    const { n } = message;
    if (message.kind === "ask") {
      this.#ask(message);
      return;
    }
    if (message.kind === "withdraw") {
      if (this.#routes.has(n)) this.#deps.meter.count("kvatlas_withdrawn_decisions_total");
      this.#withdraw(n);
      return;
    }
    const requestId = this.#routes.get(n);
    if (requestId === undefined) return;
    const { decider } = this.#deps;
    switch (message.kind) {
      case "started":
        decider.responseStarted(requestId, message.status, message.servedBy);
        return;
      case "first-byte":
        decider.firstByte(requestId);
        return;
      case "progress":
        decider.progressed(requestId, message.tokens);
        return;
      case "ended":
        this.#end(n, requestId, message.end);
    }
  }

  #ask({ n, request, isNow, untilMs }: Ask): void {
    const { decider, prompt, requestIds, clock } = this.#deps;
    // The thread has chosen by itself, or is about to.
    if (untilMs !== null && clock.nowMs() > untilMs) return;
    const { requestId } = requestIds.claim(request.requestId);
    const { read } = request;
    const keys = read && KnownKeys.of(read, prompt);
    const asked = { ...request, requestId, read: read && { ...read, keys } };
    try {
      const outcome = isNow ? decider.decideNow(asked) : this.#decide(n, asked);
      keys?.looked();
      if (outcome !== null) this.#settle(n, requestId, outcome);
    } catch (reason) {
      requestIds.release(requestId);
      if (reason instanceof KeysMissing) {
        this.#say({ kind: "again", n, blockSizes: decider.blockSizes() });
      } else this.#say({ kind: "failed", n, error: messageOf(reason) });
    }
  }

  /** Null: it is held, and settled later. */
  #decide(n: number, asked: AskedRequest): PickOutcome | null {
    const abort = new AbortController();
    const onHeld = (): void => this.#say({ kind: "held", n });
    const outcome = this.#deps.decider.decide(asked, abort.signal, onHeld);
    if (!(outcome instanceof Promise)) return outcome;
    this.#held.set(n, abort);
    void this.#whenDecided(n, asked, outcome);
    return null;
  }

  async #whenDecided(
    n: number,
    { requestId }: AskedRequest,
    outcome: Promise<PickOutcome>,
  ): Promise<void> {
    const { requestIds } = this.#deps;
    const decided = await outcome.catch((reason: unknown) => messageOf(reason));
    const isWanted = this.#held.delete(n);
    if (isWanted && typeof decided !== "string") {
      this.#settle(n, requestId, decided);
      return;
    }
    requestIds.release(requestId);
    if (isWanted) this.#say({ kind: "failed", n, error: String(decided) });
  }

  #settle(n: number, requestId: string, outcome: PickOutcome): void {
    if (outcome.kind === "route") this.#routes.set(n, requestId);
    else this.#deps.requestIds.release(requestId);
    this.#say({ kind: "outcome", n, outcome });
  }

  #withdraw(n: number): void {
    this.#held.get(n)?.abort();
    this.#held.delete(n);
    const requestId = this.#routes.get(n);
    if (requestId !== undefined) this.#end(n, requestId, { outcome: "aborted", usage: null });
  }

  #end(n: number, requestId: string, end: EndOfRequest): void {
    this.#routes.delete(n);
    this.#deps.decider.ended(requestId, end);
    this.#deps.requestIds.release(requestId);
  }

  #say(message: Deciding): void {
    this.#unsaid.push(message);
    if (this.#unsaid.length > 1) return;
    queueMicrotask(() => {
      const messages = this.#unsaid;
      this.#unsaid = [];
      this.#deps.say(messages);
    });
  }
}

/** The fleet has a block size for which the thread brought no keys. */
class KeysMissing extends Error {}

/** Keys as they came. Those that miss are asked for at the first look at the request, before it is booked. */
class KnownKeys implements PromptKeys {
  readonly #keysBySize: ReadonlyMap<number, BigUint64Array>;
  readonly #ofTokens: PromptKeys;
  #isLooked = false;

  /** Null: the prompt's tokens are not known. */
  static of(
    { keysBySize, tokens }: KeyedPrompt,
    prompt: Pick<PromptReader, "keyed">,
  ): KnownKeys | null {
    const ofTokens = prompt.keyed({ tokens, lora: null, cacheSalt: null });
    return keysBySize && new KnownKeys(keysBySize, ofTokens);
  }

  private constructor(keysBySize: ReadonlyMap<number, BigUint64Array>, ofTokens: PromptKeys) {
    this.#keysBySize = keysBySize;
    this.#ofTokens = ofTokens;
  }

  looked(): void {
    this.#isLooked = true;
  }

  keysOf(blockSizeTokens: number): BigUint64Array {
    const keys = this.#keysBySize.get(blockSizeTokens);
    if (keys === undefined && !this.#isLooked) throw new KeysMissing();
    return keys ?? NO_KEYS;
  }

  /** Goes on from a key: neither adapter nor salt enter it any more. */
  keysBehind(...args: Parameters<PromptKeys["keysBehind"]>): BigUint64Array {
    return this.#ofTokens.keysBehind(...args);
  }

  reuse(): void {}
}

const NO_KEYS: BigUint64Array = new BigUint64Array(0);
