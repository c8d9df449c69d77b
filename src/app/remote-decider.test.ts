/** Threads that serve and the one that decides, with what they tell each other delivered by the test. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import { MODEL, recordOf, requestOf, routerOf } from "../../test/harness/read-side-router.ts";
import { SteppedClock } from "../../test/harness/stepped-clock.ts";
import { blockKey, endpointId } from "../core/ids.ts";
import { seededRandom } from "../core/random.ts";
import type { PickOutcome } from "../extproc/picker.ts";
import { RequestIds } from "../extproc/request-ids.ts";
import type { EndpointSpec } from "../fleet/endpoint.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { DecisionDesk } from "./decision-desk.ts";
import type { Asking, Deciding } from "./edge-messages.ts";
import { KvPicker } from "./kv-picker.ts";
import { RemoteDecider } from "./remote-decider.ts";

const DEADLINE_MS = 100;
const PODS = ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"].map((each) => endpointId(each));
const ABORTED = { outcome: "aborted", usage: null } as const;
const PROMPT = Array.from({ length: 160 }, (_, at) => at);

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function setUp(threads: number, spec: Partial<EndpointSpec> = {}) {
  const clock = new SteppedClock();
  const router = await routerOf(PODS.map((id) => specOf(id, spec)));
  const requestIds = new RequestIds(seededRandom(2));
  const begin = () => {
    const toDesk: Asking[] = [];
    const toThread: Deciding[] = [];
    const decider = new RemoteDecider({
      ...{ clock, random: seededRandom(3), deadlineMs: DEADLINE_MS },
      say: (messages) => void toDesk.push(...structuredClone(messages)),
    });
    decider.fleetTold({ ready: PODS, whole: PODS });
    const desk = new DecisionDesk({
      ...{ decider: router.decider, prompt: router.prompt, requestIds, clock, meter: router.meter },
      say: (messages) => void toThread.push(...structuredClone(messages)),
    });
    const picker = new KvPicker({
      ...{ prompt: router.prompt, decider },
      modelRewrites: new Map(),
    });
    const deliver = async (): Promise<void> => {
      await turn();
      decider.flush();
      while (toDesk.length + toThread.length > 0) {
        desk.take(toDesk.splice(0));
        await turn();
        decider.take(toThread.splice(0));
        await turn();
      }
    };
    return { picker, desk, decider, toDesk, toThread, deliver };
  };
  const inFlight = (): number =>
    PODS.reduce((sum, id) => sum + router.fleet.ledger.load(id).requests, 0);
  return {
    clock,
    router,
    requestIds,
    inFlight,
    begin,
    all: Array.from({ length: threads }, begin),
  };
}

type Thread = Awaited<ReturnType<typeof setUp>>["all"][number];

function pick({ picker }: Thread, requestId: string, signal = new AbortController().signal) {
  return picker.pick(requestOf(requestId, { prompt: PROMPT, stream: true }), signal, () => {});
}

describe("a thread that serves", () => {
  it("is asked for keys of the fleet's block sizes, and finds what a pod holds with them", async () => {
    const { router, all } = await setUp(1);
    const [thread] = all as [Thread];
    for (const number of [1, 2]) {
      const outcome = pick(thread, `r${number}`);
      await thread.deliver();
      expect(await outcome).toMatchObject({ kind: "route" });
      thread.picker.responseStarted(`r${number}`, 200, null);
      thread.picker.firstByte(`r${number}`);
      thread.picker.ended(`r${number}`, { outcome: "complete", usage: null });
      await thread.deliver();
    }
    // No events are heard: what was answered is assumed.
    expect(recordOf(router, "r1")?.chosen.reusedTokens).toBe(0);
    expect(recordOf(router, "r2")?.chosen.reusedTokens).toBe(159);
    expect(router.meter.observed("kvatlas_ttft_seconds")).toHaveLength(2);
  });

  it("tells the tokens where the size of blocks may change within a chain", async () => {
    const kvEvents = { address: "tcp://127.0.0.1:1", replay: null, topic: "", ranks: 1 };
    const { router, all } = await setUp(1, { kvEvents: { ...kvEvents, engine: "vllm" } });
    const [thread] = all as [Thread];
    const hasher = await createBlockHasher(0);
    const tokens = Uint32Array.from(PROMPT);
    const parent = hasher.rootKey({ model: MODEL, lora: null, blockSizeTokens: 16 });
    const small = hasher.chainKeys({ parent, tokens: tokens.subarray(0, 32), blockSizeTokens: 16 });
    const large = hasher.chainKeys({
      ...{ parent: blockKey(small[1] ?? 0n), tokens: tokens.subarray(32), blockSizeTokens: 64 },
    });
    const keys = BigUint64Array.of(...small, ...large);
    const holder = { endpointId: PODS[2] ?? endpointId(""), rank: 0 };
    router.residency.stored(holder, "gpu", keys, keys);
    for (const endpoint of PODS) {
      router.residency.setCursor(
        { endpointId: endpoint, rank: 0 },
        {
          ...{ state: "EXACT", reason: null, epoch: 1, seq: 1, engineMs: 1 },
          ...{ blockSizesTokens: [16, 64], model: MODEL, ignoredGroups: [] },
        },
      );
    }
    const outcome = pick(thread, "r1");
    await thread.deliver();
    expect(await outcome).toMatchObject({ endpointId: holder.endpointId });
    // Two blocks of 16 and two of 64; the prompt's last token is always computed.
    expect(recordOf(router, "r1")?.chosen.reusedTokens).toBe(159);
  });

  it("chooses by the load that was told where nobody answers, and the choice is booked later", async () => {
    const { clock, router, inFlight, all } = await setUp(1);
    const [thread] = all as [Thread];
    const abort = new AbortController();
    const given = pick(thread, "r1", abort.signal);
    await turn();
    clock.advance(DEADLINE_MS + 1);
    abort.abort();
    const request = { ...requestOf("r1", { prompt: PROMPT }), subset: [PODS[1] ?? ""] };
    const outcome = await thread.picker.pickByLoad(request);
    expect(outcome).toEqual({ kind: "route", endpointId: PODS[1], chosenBy: "old-load" });
    await given;
    expect(inFlight()).toBe(0);
    await thread.deliver();
    expect(router.fleet.ledger.load(PODS[1] ?? endpointId("")).requests).toBe(1);
    expect(inFlight()).toBe(1);
    thread.picker.ended("r1", ABORTED);
    await thread.deliver();
    expect(inFlight()).toBe(0);
    expect(router.meter.total("kvatlas_decisions_total")).toBe(1);
  });

  it("withdraws a decision that comes too late, and has one that counts", async () => {
    const { router, inFlight, all } = await setUp(1);
    const [thread] = all as [Thread];
    const abort = new AbortController();
    const given = pick(thread, "r1", abort.signal);
    // Keys of the fleet's block size are asked for first; the decision behind them is on its way.
    for (const isTold of [true, false]) {
      await turn();
      thread.desk.take(thread.toDesk.splice(0));
      await turn();
      if (isTold) thread.decider.take(thread.toThread.splice(0));
    }
    abort.abort();
    const byLoad = thread.picker.pickByLoad(requestOf("r1", { prompt: PROMPT }));
    await thread.deliver();
    expect([(await given).kind, (await byLoad).kind]).toEqual(["refuse", "route"]);
    expect(inFlight()).toBe(1);
    const total = (name: "decisions" | "withdrawn_decisions") =>
      router.meter.total(`kvatlas_${name}_total`);
    expect([total("decisions"), total("withdrawn_decisions")]).toEqual([2, 1]);
  });

  it("may serve the same id of a client as another at the same time", async () => {
    const { inFlight, all } = await setUp(2);
    const outcomes = all.map((thread) => pick(thread, "same"));
    for (const [at, thread] of all.entries()) {
      await thread.deliver();
      expect(await outcomes[at]).toMatchObject({ kind: "route" });
      expect(inFlight()).toBe(at + 1);
    }
    for (const [at, thread] of all.entries()) {
      thread.picker.ended("same", ABORTED);
      await thread.deliver();
      expect(inFlight()).toBe(1 - at);
    }
  });

  it("waits for the decision by load as long as it may come", async () => {
    const { clock, all } = await setUp(1);
    const [thread] = all as [Thread];
    const request = requestOf("r1", { prompt: PROMPT });
    const inTime = thread.picker.pickByLoad(request);
    await thread.deliver();
    expect(await inTime).not.toHaveProperty("chosenBy");
    const late = thread.picker.pickByLoad({ ...request, requestId: "r2" });
    await turn();
    clock.advance(30);
    expect(await late).toMatchObject({ chosenBy: "old-load" });
  });
});

interface Stream {
  readonly requestId: string;
  readonly abort: AbortController;
  state: "picking" | "picking-by-load" | "routed" | "closed";
}

/** The streams of one thread, as sessions treat their picker. */
class Streams {
  readonly open = new Map<string, Stream>();
  readonly #thread: Thread;
  readonly #answers: Promise<void>[] = [];

  constructor(thread: Thread) {
    this.#thread = thread;
  }

  begin(requestId: string): void {
    if (this.open.has(requestId)) return;
    const stream: Stream = { requestId, abort: new AbortController(), state: "picking" };
    this.open.set(requestId, stream);
    this.#answered(stream, "picking", pick(this.#thread, requestId, stream.abort.signal));
  }

  deadline({ requestId, abort, state }: Stream): void {
    const stream = this.open.get(requestId);
    if (state !== "picking" || stream === undefined) return;
    abort.abort();
    stream.state = "picking-by-load";
    const request = requestOf(requestId, { prompt: PROMPT });
    const outcome = Promise.resolve(this.#thread.picker.pickByLoad(request));
    this.#answered(stream, "picking-by-load", outcome);
  }

  close(stream: Stream, outcome: "complete" | "aborted"): void {
    this.open.delete(stream.requestId);
    if (stream.state === "picking") stream.abort.abort();
    if (stream.state === "routed") {
      this.#thread.picker.ended(stream.requestId, { outcome, usage: null });
    }
    stream.state = "closed";
  }

  async settled(): Promise<void> {
    await Promise.all(this.#answers);
  }

  #answered(stream: Stream, wanted: Stream["state"], picked: Promise<PickOutcome>): void {
    const answer = picked.then((outcome) => {
      const isRoute = outcome.kind === "route";
      if (stream.state === wanted) {
        stream.state = isRoute ? "routed" : "closed";
        if (!isRoute) this.open.delete(stream.requestId);
      } else if (stream.state === "closed" && isRoute) {
        this.#thread.picker.ended(stream.requestId, ABORTED);
      }
    });
    this.#answers.push(answer);
  }
}

describe("whatever comes in whatever order", () => {
  it("every request is answered, and every booking ends", { timeout: 60_000 }, async () => {
    const { clock, router, requestIds, inFlight, begin } = await setUp(0);
    const stepArb = fc.oneof(
      fc.record({ kind: fc.constant("begin" as const), id: fc.nat({ max: 1 }) }),
      fc.record({
        kind: fc.constantFrom("deadline" as const, "end" as const, "abort" as const),
        id: fc.nat({ max: 1 }),
      }),
      fc.record({
        kind: fc.constantFrom("to-desk" as const, "to-thread" as const),
        id: fc.nat({ max: 3 }),
      }),
      fc.record({
        kind: fc.constantFrom("wait" as const, "die" as const),
        id: fc.nat({ max: 60 }),
      }),
    );
    const stepsArb = fc.array(fc.tuple(fc.boolean(), stepArb), { maxLength: 40, size: "max" });
    let begun = 0;
    await fc.assert(
      fc.asyncProperty(stepsArb, async (steps) => {
        const newThread = () => {
          const thread = begin();
          return { thread, streams: new Streams(thread) };
        };
        const threads = [newThread(), newThread()];
        for (const [isSecond, { kind, id }] of steps) {
          const at = isSecond ? 1 : 0;
          const { thread, streams } = threads[at] ?? newThread();
          const stream = streams.open.get(`r${id}`);
          if (kind === "begin") streams.begin(`r${id}`);
          else if (kind === "deadline" && stream !== undefined) streams.deadline(stream);
          else if (kind === "end" && stream !== undefined) streams.close(stream, "complete");
          else if (kind === "abort" && stream !== undefined) streams.close(stream, "aborted");
          else if (kind === "to-desk") thread.desk.take(thread.toDesk.splice(0, id));
          else if (kind === "to-thread") thread.decider.take(thread.toThread.splice(0, id));
          else if (kind === "wait") clock.advance(id);
          else if (kind === "die" && id > 50) {
            thread.desk.close();
            threads[at] = newThread();
          }
          if (kind === "begin") begun += 1;
          await turn();
        }
        for (const { thread, streams } of threads) {
          await thread.deliver();
          clock.advance(DEADLINE_MS);
          for (const stream of streams.open.values()) streams.deadline(stream);
          await thread.deliver();
          await streams.settled();
          expect([...streams.open.values()].map(({ state }) => state)).not.toContain("picking");
          for (const stream of streams.open.values()) streams.close(stream, "aborted");
          await thread.deliver();
          expect(thread.desk.open).toBe(0);
        }
        expect(inFlight()).toBe(0);
        for (const id of [0, 1]) {
          expect(requestIds.claim(`r${id}`).isOwn).toBe(false);
          requestIds.release(`r${id}`);
        }
      }),
      { numRuns: 500 },
    );
    expect(begun).toBeGreaterThan(500);
    expect(router.meter.total("kvatlas_decisions_total", { outcome: "routed" })).toBeGreaterThan(
      100,
    );
  });
});
