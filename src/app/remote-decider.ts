/**
 * Asks the thread that decides, from one that serves: keys go there, outcomes come back.
 *
 * Where that thread says nothing for QUIET_MS_MAX after a question, a request past its deadline gets an
 * endpoint by the load that was told last; the thread is told of it, and books it when it comes to it.
 */
import type { Clock } from "../core/clock.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Random } from "../core/random.ts";
import type { EndOfRequest, PickOutcome } from "../extproc/picker.ts";
import { isInSubset } from "../router/decide.ts";
import type { AskedRequest, Decider, ReadPrompt } from "./decider.ts";
import type { Asking, Deciding, KeyedPrompt, ToldFleet } from "./edge-messages.ts";

/** Silence after a question from which on the deciding thread counts as late, ms. */
const QUIET_MS_MAX = 25;

export interface RemoteDeciderDeps {
  /** All that was to be said by then. */
  readonly say: (messages: readonly Asking[]) => void;
  /** See extProc.deadlineMs. */
  readonly deadlineMs: number;
  readonly clock: Clock;
  readonly random: Random;
}

/** How long the phases of an answer may wait to be told, ms. */
const LATER_MS = 2;

interface Waiting {
  readonly asked: AskedRequest;
  readonly isNow: boolean;
  readonly untilMs: number | null;
  readonly resolve: (outcome: PickOutcome) => void;
  readonly reject: (reason: Error) => void;
  readonly onHeld: () => void;
}

export class RemoteDecider implements Decider {
  readonly #deps: RemoteDeciderDeps;
  /** Numbers of requests from the question to the end, by their id. */
  readonly #open = new Map<string, number>();
  /** Questions without an outcome. */
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #unsaid: Asking[] = [];
  #isSaying = false;
  #cancelLater: (() => void) | null = null;
  #blockSizes: readonly number[] = [];
  #fleet: ToldFleet = { ready: [], whole: [] };
  /** When the first question was put since the last answer; null: none was. */
  #quietSinceMs: number | null = null;

  constructor(deps: RemoteDeciderDeps) {
    this.#deps = deps;
  }

  /** As it was told last. */
  get fleet(): ToldFleet {
    return this.#fleet;
  }

  fleetTold(fleet: ToldFleet): void {
    this.#fleet = fleet;
  }

  /** Says what waits to be said. */
  flush(): void {
    this.#isSaying = false;
    this.#cancelLater?.();
    this.#cancelLater = null;
    const messages = this.#unsaid;
    if (messages.length === 0) return;
    this.#unsaid = [];
    this.#deps.say(messages);
  }

  take(messages: readonly Deciding[]): void {
    this.#quietSinceMs = null;
    for (const message of messages) this.#take(message);
  }

  decide(asked: AskedRequest, signal: AbortSignal, onHeld: () => void): Promise<PickOutcome> {
    if (signal.aborted) return Promise.resolve(UNWANTED);
    const untilMs = this.#deps.clock.nowMs() + this.#deps.deadlineMs;
    return new Promise((resolve, reject) => {
      const n = this.#ask({ asked, isNow: false, untilMs, resolve, reject, onHeld });
      signal.addEventListener("abort", () => this.#withdraw(n), { once: true });
    });
  }

  decideNow(asked: AskedRequest): PickOutcome | Promise<PickOutcome> {
    const endpointId = this.#isLate() ? this.#leastLoaded(asked) : null;
    if (endpointId !== null) return this.#chosenHere(asked, endpointId);
    return new Promise((resolve, reject) => {
      const cancel = this.#deps.clock.after(QUIET_MS_MAX, () => {
        const chosen = this.#leastLoaded(asked);
        if (chosen !== null) resolve(this.#chosenHere(asked, chosen));
      });
      const question = { asked, isNow: true, untilMs: null, onHeld: (): void => {} };
      this.#ask({
        ...question,
        resolve: (outcome): void => {
          cancel();
          resolve(outcome);
        },
        reject: (reason): void => {
          cancel();
          reject(reason);
        },
      });
    });
  }

  responseStarted(requestId: string, status: number, servedBy: string | null): void {
    this.#tell(requestId, (n) => ({ kind: "started", n, status, servedBy }));
  }

  firstByte(requestId: string): void {
    this.#tell(requestId, (n) => ({ kind: "first-byte", n }));
  }

  progressed(requestId: string, tokens: number): void {
    this.#tell(requestId, (n) => ({ kind: "progress", n, tokens }));
  }

  ended(requestId: string, end: EndOfRequest): void {
    this.#tell(requestId, (n) => ({ kind: "ended", n, end }));
    this.#open.delete(requestId);
  }

  #take(message: Deciding): void {
    const { n } = message;
    const waiting = this.#waiting.get(n);
    if (waiting === undefined) return;
    switch (message.kind) {
      case "held":
        waiting.onHeld();
        return;
      case "again":
        this.#blockSizes = message.blockSizes;
        this.#say(this.#question(n, waiting));
        return;
      case "outcome":
        this.#waiting.delete(n);
        if (message.outcome.kind === "refuse") this.#open.delete(waiting.asked.requestId);
        waiting.resolve(message.outcome);
        return;
      case "failed":
        this.#waiting.delete(n);
        this.#open.delete(waiting.asked.requestId);
        waiting.reject(new Error(message.error));
    }
  }

  #ask(waiting: Waiting): number {
    const { requestId } = waiting.asked;
    // A stream that is gone may have left a question of the same id.
    const former = this.#open.get(requestId);
    if (former !== undefined) this.#withdraw(former);
    const n = this.#next;
    this.#next += 1;
    this.#open.set(requestId, n);
    this.#waiting.set(n, waiting);
    this.#quietSinceMs ??= this.#deps.clock.nowMs();
    this.#say(this.#question(n, waiting));
    return n;
  }

  #question(n: number, { asked, isNow, untilMs }: Waiting): Asking {
    const read = asked.read === null ? null : this.#keyed(asked.read);
    return { kind: "ask", n, request: { ...asked, read }, isNow, untilMs };
  }

  /** Copied, since what is a part of larger memory would cross with all of it. */
  #keyed({ keys, tokens, chunkKeys, ...read }: ReadPrompt): KeyedPrompt {
    keys?.reuse();
    const sizes = this.#blockSizes;
    const keysBySize =
      keys && new Map(sizes.map((size) => [size, keys.keysOf(size).slice()] as const));
    const told = sizes.length > 1 && tokens !== null ? tokens.slice() : null;
    return { ...read, keysBySize, tokens: told, chunkKeys: chunkKeys.slice() };
  }

  #withdraw(n: number): void {
    this.#drop(n)?.resolve(UNWANTED);
  }

  #drop(n: number): Waiting | null {
    const waiting = this.#waiting.get(n);
    if (waiting === undefined) return null;
    this.#waiting.delete(n);
    this.#open.delete(waiting.asked.requestId);
    this.#say({ kind: "withdraw", n });
    return waiting;
  }

  #isLate(): boolean {
    const { clock } = this.#deps;
    return this.#quietSinceMs !== null && clock.nowMs() - this.#quietSinceMs >= QUIET_MS_MAX;
  }

  /** Null: nothing that was told fits. Of two by chance the better: all threads know the same best. */
  #leastLoaded({ subset }: AskedRequest): EndpointId | null {
    const fitting = this.#fleet.whole.filter((endpointId) => isInSubset(endpointId, subset));
    const draw = (): number => Math.floor(this.#deps.random.next() * fitting.length);
    return fitting[Math.min(draw(), draw())] ?? null;
  }

  /** What the deciding thread makes of it comes too late to matter, but for the booking. */
  #chosenHere(asked: AskedRequest, endpointId: EndpointId): PickOutcome {
    const former = this.#open.get(asked.requestId);
    if (former !== undefined) this.#drop(former);
    const question = { asked: { ...asked, subset: [endpointId] }, isNow: true, untilMs: null };
    this.#waiting.delete(this.#ask({ ...question, resolve: noop, reject: noop, onHeld: noop }));
    return { kind: "route", endpointId, chosenBy: "old-load" };
  }

  #tell(requestId: string, message: (n: number) => Asking): void {
    const n = this.#open.get(requestId);
    if (n !== undefined) this.#sayLater(message(n));
  }

  /** At once, with what waited. */
  #say(message: Asking): void {
    this.#unsaid.push(message);
    if (this.#isSaying) return;
    this.#isSaying = true;
    queueMicrotask(() => this.flush());
  }

  /** With what is said next, or soon: a message by itself costs as much as a request's decision. */
  #sayLater(message: Asking): void {
    this.#unsaid.push(message);
    this.#cancelLater ??= this.#deps.clock.after(LATER_MS, () => this.flush());
  }
}

const noop = (): void => {};

/** Nobody waits for it. */
const UNWANTED = {
  kind: "refuse",
  status: 503,
  reason: "no-ready-endpoint",
  message: "the request was given up",
} as const;
