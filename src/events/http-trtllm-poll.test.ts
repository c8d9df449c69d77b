/** TensorRT-LLM's events from a real HTTP server on loopback to the index, in real and in held time. */
import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeAll, expect, it } from "vitest";
import { jsonPayload, trtllmBlock } from "../../test/harness/event-samples.ts";
import { MemoryIndex } from "../../test/harness/memory-index.ts";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import type { Clock } from "../core/clock.ts";
import { endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { Residency } from "../indexer/residency.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { Applier } from "./applier.ts";
import { type PollOutcome, pollTrtllmEvents } from "./http-trtllm-poll.ts";
import { Ingest } from "./ingest.ts";

const TOKENS = Array.from({ length: 32 }, (_, position) => position + 1);
const holder: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };

let hasher: BlockHasher;
beforeAll(async () => {
  hasher = await createBlockHasher(7);
});

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** Answers polls with these in turn, and "[]" ever after. */
async function serve(answers: readonly (string | number)[]): Promise<string> {
  const left = [...answers];
  const server = http.createServer((request, response) => {
    const answer = left.shift() ?? "[]";
    if (typeof answer === "number") response.writeHead(answer).end();
    else if (request.method === "POST") response.end(jsonPayload(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/kv_cache_events`;
}

const event = (id: number, data: string, rank = 0): string =>
  `{"event_id":${id},"data":${data},"attention_dp_rank":${rank}}`;
const stored = (parent: string, hash: string): string =>
  `{"type":"stored","parent_hash":${parent},"blocks":[${trtllmBlock(hash, TOKENS)}]}`;

it("brings an engine's events into the index, and shows what was lost", async () => {
  const hash = "18446744073709551615";
  const address = await serve([
    503,
    `[${event(0, '{"type":"created","num_blocks_per_cache_level":[9,0]}')}]`,
    `[${event(1, stored("null", hash))},${event(4, stored("null", "3"), 1)}]`,
    `[${event(2, stored(hash, "2"))}]`,
    "not json",
    `[${event(9, '{"type":"removed","block_hashes":[2]}')}]`,
  ]);
  const index = new MemoryIndex();
  const residency = new Residency({ index, entriesMax: 1000 });
  const meter = recordingMeter();
  const parts = { residency, clock: nodeClock, log: silentLog, meter };
  const sink = new Applier(parts);
  const ingest = new Ingest({ ...parts, hasher, sink, ready: Promise.resolve() });
  stops.push(() => ingest.stop());
  const source = { holder, model: "m", address, replayAddress: null, topic: "" };
  ingest.reconcile([{ ...source, engine: "trtllm" }]);

  await waitUntil("the second block is stored", () => index.stats().blocks === 2);
  expect(residency.cursorOf(holder)).toMatchObject({
    state: "EXACT",
    seq: 2,
    blockSizesTokens: [32],
  });
  await waitUntil("the removal is applied", () => residency.cursorOf(holder)?.seq === 9);
  expect(index.stats().blocks).toBe(1);
  expect(residency.cursorOf(holder)).toMatchObject({ state: "DEGRADED", reason: "gap" });
  expect(meter.total("kvatlas_events_refused_total", { reason: "not-json" })).toBe(1);
  expect(meter.total("kvatlas_events_refused_total", { reason: "other-rank" })).toBe(1);
  expect(meter.total("kvatlas_events_polls_total", { outcome: "status" })).toBe(1);
});

it("follows each rank that is configured, of one poll, and tells which is not", async () => {
  const answer = (id: number, rank: number, hash: string): string =>
    `[${event(id, stored("null", hash), rank)}]`;
  let polls = 0;
  const queue = [answer(0, 0, "1"), answer(0, 1, "2"), answer(0, 3, "3")];
  const server = http.createServer((_, response) => {
    polls += 1;
    response.end(jsonPayload(queue.shift() ?? "[]"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/kv_cache_events`;
  const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1000 });
  const parts = { residency, clock: nodeClock, log: silentLog, meter: recordingMeter() };
  const sink = new Applier(parts);
  const ingest = new Ingest({ ...parts, hasher, sink, ready: Promise.resolve() });
  stops.push(() => ingest.stop());
  const rankAt = (rank: number): Holder => ({ ...holder, rank });
  const sources = (ranks: number) =>
    Array.from({ length: ranks }, (_, rank) => ({
      ...{ holder: rankAt(rank), model: "m", address, replayAddress: null, topic: "" },
      engine: "trtllm" as const,
    }));
  const otherRank = (): number | null | undefined => ingest.factsOf(holder)?.otherRank;
  ingest.reconcile(sources(2));
  await waitUntil("rank 3 is heard", () => otherRank() === 3);
  for (const rank of [0, 1]) {
    expect(residency.cursorOf(rankAt(rank))).toMatchObject({ state: "EXACT", seq: 0 });
    expect(residency.blocksOf(rankAt(rank))).toBe(1);
  }
  expect(residency.cursorOf(rankAt(3))).toBeNull();

  ingest.reconcile(sources(4));
  queue.push(answer(1, 3, "4"));
  await waitUntil("rank 3 is followed", () => residency.cursorOf(rankAt(3))?.seq === 1);
  expect(residency.cursorOf(rankAt(3))).toMatchObject({ state: "DEGRADED" });
  expect(otherRank()).toBeNull();
  expect(residency.cursorOf(holder)).toMatchObject({ state: "EXACT", seq: 0 });

  ingest.reconcile(sources(1));
  queue.push(answer(1, 0, "5"));
  await waitUntil("rank 0 goes on", () => residency.cursorOf(holder)?.seq === 1);
  ingest.reconcile([]);
  await ingest.stop();
  const pollsAtEnd = polls;
  expect(queue).toEqual([]);
  await new Promise((resolve) => setImmediate(resolve));
  expect(polls).toBe(pollsAtEnd);
});

it("waits longer after each failure in a row, and nothing is drained before it is ready", async () => {
  const waits: number[] = [];
  const outcomes: PollOutcome[] = [];
  const abort = new AbortController();
  // Time passes at once, except that of an answer.
  const clock: Clock = {
    ...nodeClock,
    after: (delayMs, callback) => {
      const isAnswer = waits.length === outcomes.length && delayMs === 5000;
      if (isAnswer) return nodeClock.after(delayMs, callback);
      waits.push(delayMs);
      return nodeClock.after(0, callback);
    },
  };
  let release = (): void => {};
  const ready = new Promise<void>((resolve) => {
    release = resolve;
  });
  const url = await serve([500, 500, 500, 500, 500, 500, 500]);
  const polling = pollTrtllmEvents(url, {
    clock,
    ready,
    signal: abort.signal,
    onPoll: (outcome) => {
      outcomes.push(outcome);
      if (outcome.ok) abort.abort();
    },
  });
  expect(outcomes).toEqual([]);
  release();
  await polling;
  expect(outcomes.map((outcome) => outcome.ok || outcome.reason)).toEqual([
    ...new Array(7).fill("status"),
    true,
  ]);
  expect(waits).toEqual([200, 400, 800, 1600, 3200, 5000, 5000]);
});
