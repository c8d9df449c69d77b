/**
 * The ext_proc address served by threads of their own, as the deciding thread sees them.
 *
 * All listen on one address, and the system spreads connections over them. One that fails takes its
 * streams with it: their bookings are released, and another is begun in its place.
 */
import type { Config } from "../config/schema.ts";
import { type Clock, sleep } from "../core/clock.ts";
import { KvError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import type { TlsMaterial } from "../extproc/file-tls.ts";
import type { EdgeListener } from "../extproc/grpc-listener.ts";
import { freeAddress } from "../extproc/net-listen.ts";
import { RequestIds } from "../extproc/request-ids.ts";
import { playTape } from "../observe/meter-tape.ts";
import { DecisionDesk, type DecisionDeskDeps } from "./decision-desk.ts";
import type { EdgeWorkerData, FromEdge, ToEdge } from "./edge-messages.ts";
import type { FollowedFleet } from "./followed-fleet.ts";
import { KeptThread, type ThreadFailure } from "./kept-thread.ts";
import type { LocalDecider } from "./local-decider.ts";

/** Code of a thread, without its ending. */
const CODE = new URL("./edge-worker", import.meta.url);
/** The threads are told so often which endpoints are ready, ms. */
const FLEET_MS = 250;
/** Wait of a read of /metrics for each thread, ms. */
const TELL_MS_MAX = 1000;
/** Wait for a thread's end, ms. */
const STOP_MS_MAX = 5000;
/** What an answer takes beyond what was waited for, ms. */
const ANSWER_MS_MAX = 1000;

export interface EdgeThreadsDeps {
  /** The last thread is given up: nobody serves the address any more. */
  readonly onLost: () => void;
  readonly decider: LocalDecider;
  readonly prompt: DecisionDeskDeps["prompt"];
  readonly followed: Pick<FollowedFleet, "told">;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly meter: Meter;
}

interface EdgeThread {
  readonly kept: KeptThread<ToEdge, FromEdge>;
  desk: DecisionDesk;
  isServing: boolean;
  isGivenUp: boolean;
}

export class EdgeThreads implements EdgeListener {
  readonly address: string;
  readonly #config: Config;
  readonly #deps: EdgeThreadsDeps;
  readonly #requestIds: RequestIds;
  readonly #bodyBytes: SharedArrayBuffer;
  readonly #closing = new AbortController();
  readonly #threads: EdgeThread[] = [];
  #tls: TlsMaterial | null;
  #isReady = false;

  /** Resolves when every thread serves; rejects with KvError where one cannot. */
  static async start(
    config: Config,
    tls: TlsMaterial | null,
    deps: EdgeThreadsDeps,
  ): Promise<EdgeThreads> {
    const address = await freeAddress(config.extProc.listen);
    const threads = new EdgeThreads(config, { address, tls }, deps);
    try {
      await threads.#begin();
    } catch (reason) {
      await threads.close();
      throw reason;
    }
    void threads.#tellFleet();
    return threads;
  }

  private constructor(
    config: Config,
    { address, tls }: Pick<EdgeWorkerData, "address" | "tls">,
    deps: EdgeThreadsDeps,
  ) {
    this.address = address;
    this.#config = config;
    this.#deps = deps;
    this.#tls = tls;
    this.#requestIds = new RequestIds(deps.random);
    this.#bodyBytes = new SharedArrayBuffer(
      config.extProc.workers * Float64Array.BYTES_PER_ELEMENT,
    );
  }

  /** Those that were routed or are held. */
  get openStreams(): number {
    return this.#threads.reduce((sum, { desk }) => sum + desk.open, 0);
  }

  get serving(): number {
    return this.#threads.filter(({ isServing }) => isServing).length;
  }

  setReady(isReady: boolean): void {
    this.#isReady = isReady;
    this.#sayAll({ kind: "ready", isReady });
  }

  setTls(tls: TlsMaterial): void {
    this.#tls = tls;
    this.#sayAll({ kind: "tls", tls });
  }

  async idle(waitMs: number): Promise<number> {
    const open = await Promise.all(
      this.#threads.map(({ kept }) =>
        kept.ask((id) => ({ kind: "idle", id, waitMs }), waitMs + ANSWER_MS_MAX),
      ),
    );
    return open.reduce<number>((sum, each) => sum + (each ?? 0), 0);
  }

  /** Resolves when what the threads counted so far is in the meter. */
  async report(): Promise<void> {
    await Promise.all(this.#threads.map(({ kept }) => kept.ask(question, TELL_MS_MAX)));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#threads.map(({ kept }) => kept.end({ kind: "stop" }, STOP_MS_MAX)));
    for (const { desk } of this.#threads) desk.close();
  }

  async #begin(): Promise<void> {
    const { workers } = this.#config.extProc;
    const opened = Array.from(
      { length: workers },
      (_, slot) =>
        new Promise<void>((resolve, reject) => {
          this.#threads.push(this.#thread(slot, { resolve, reject }));
        }),
    );
    await Promise.all(opened);
  }

  #thread(slot: number, begun: Begun): EdgeThread {
    const { clock, log } = this.#deps;
    const kept: EdgeThread["kept"] = new KeptThread<ToEdge, FromEdge>({
      ...{ clock, log, code: CODE, question },
      data: (): EdgeWorkerData => this.#dataOf(slot),
      onTold: (message): void => this.#take(thread, message, begun),
      onFailed: (failure): void => this.#failed(thread, failure, begun),
      onAnswering: (isAnswering): void => {
        if (isAnswering || !thread.isServing) return;
        log.error({ thread: slot }, "a serving thread does not answer");
        kept.cut();
      },
    });
    const thread: EdgeThread = {
      kept,
      desk: this.#deskOf(kept),
      isServing: false,
      isGivenUp: false,
    };
    return thread;
  }

  #deskOf(kept: EdgeThread["kept"]): DecisionDesk {
    const { decider, prompt, clock, meter } = this.#deps;
    return new DecisionDesk({
      ...{ decider, prompt, clock, meter, requestIds: this.#requestIds },
      say: (messages): void => kept.say({ kind: "deciding", messages }),
    });
  }

  #dataOf(slot: number): EdgeWorkerData {
    const { random, followed } = this.#deps;
    // A former life may have left something.
    new Float64Array(this.#bodyBytes)[slot] = 0;
    return {
      ...{ config: this.#config, address: this.address, tls: this.#tls, fleet: followed.told() },
      ...{ slot, bodyBytes: this.#bodyBytes, seed: Math.floor(random.next() * 2 ** 32) },
    };
  }

  #take(thread: EdgeThread, message: FromEdge, { resolve, reject }: Begun): void {
    switch (message.kind) {
      case "asking":
        thread.desk.take(message.messages);
        return;
      case "meter":
        playTape(message.tape, this.#deps.meter);
        return;
      case "refused":
        reject(new KvError(message.code, message.message));
        return;
      case "open":
        thread.kept.say({ kind: "ready", isReady: this.#isReady });
        this.#setServing(thread, true);
        resolve();
    }
  }

  #failed(thread: EdgeThread, { error, crashes, isLast }: ThreadFailure, { reject }: Begun): void {
    const { log, meter, onLost } = this.#deps;
    meter.count("kvatlas_extproc_worker_crashes_total");
    meter.count("kvatlas_extproc_streams_total", { outcome: "failed" }, thread.desk.open);
    log.error({ error, crashes, open_streams: thread.desk.open }, "a serving thread failed");
    // What it said before is not to meet what the next one says.
    thread.desk.close();
    thread.desk = this.#deskOf(thread.kept);
    this.#setServing(thread, false);
    if (!isLast) return;
    log.error({}, "a serving thread failed too often, and is not begun again");
    thread.isGivenUp = true;
    if (this.#threads.every(({ isGivenUp }) => isGivenUp)) onLost();
    reject(new KvError("ERR_PROCESS_FAILED", `a serving thread failed: ${error}`));
  }

  #setServing(thread: EdgeThread, isServing: boolean): void {
    thread.isServing = isServing;
    const isDegraded = this.serving < this.#threads.length;
    this.#deps.meter.gauge("kvatlas_degraded", { component: "extproc" }, isDegraded ? 1 : 0);
  }

  async #tellFleet(): Promise<void> {
    const { clock, followed } = this.#deps;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await sleep(clock, FLEET_MS, signal);
      this.#sayAll({ kind: "fleet", fleet: followed.told() });
    }
  }

  #sayAll(message: ToEdge): void {
    for (const { kept } of this.#threads) kept.say(message);
  }
}

interface Begun {
  readonly resolve: () => void;
  readonly reject: (reason: KvError) => void;
}

const question = (id: number): ToEdge => ({ kind: "tell", id });
