/** What a gateway gets: time, CPU and throughput of decisions over real gRPC, and its errors. */
import { nodeClock } from "../src/core/node-clock.ts";
import { tokenizerFolder } from "../test/harness/tokenizers.ts";
import { chatBody } from "./chat.ts";
import { EdgeClient, type EdgeRequest, edgeRequest, TURN_PLACE } from "./edge-client.ts";
import { envoyErrors } from "./edge-envoy.ts";
import type { Figures } from "./edge-figures.ts";
import { type EdgeProcess, startProcess } from "./edge-process.ts";
import type { EdgeRouterOptions, EdgeRouterReady } from "./edge-router.ts";
import { type Percentiles, percentiles, type ValueCase } from "./harness.ts";

const SIZES = [1, 8, 32] as const;
const SAMPLE_MS = 4000;
const QUICK_MS = 1000;
/** Time for the compiler, before anything is measured: some thousand requests. */
const WARMUP_MS = 2000;
/** Of one request at a time, of which there are fewer. */
const WARMUP_ALONE_MS = 6000;
const SETTLE_MS = 1500;
const FEED = { engines: 4, blocksPerSecond: 1_000_000 };
/** Requests under way at once, for throughput: on so many connections, as of so many Envoy workers. */
const CONCURRENCY = 64;
const CONNECTIONS = 2;
const CHATS_PER_SECOND = 50;
/** The same for chats, of which a second has few. */
const WARMUP_TURNS = 1000;
const TURNS = 500;
const QUICK_TURNS = 200;
const OPEN_STREAMS = 10_000;

export function edgeCases(): ValueCase[] {
  return [
    transportCase(),
    ...SIZES.flatMap(decisionCases),
    duringIngestCase(),
    ...SIZES.map(throughputCase),
    ...workersCases(),
    chatCase(),
    lagCase(),
    memoryCase(),
    { name: "envoy.errors", unit: "count", value: envoyErrors },
  ];
}

/** All phases of requests with 2 KB, and a picker that costs nothing. */
function transportCase(): ValueCase {
  return {
    name: "transport.cpu",
    unit: "us",
    value: async (isQuick) => {
      const server = await startProcess<{ edge: string }>("./edge-server.ts", null);
      const request = edgeRequest("/v1/completions", Buffer.alloc(2048, "x"), true);
      const { cpuMs } = await load(server, request, isQuick);
      await server.stop();
      return cpuMs * 1000;
    },
  };
}

/** One request at a time, each with the same token ids; time and CPU of one run. */
function decisionCases(thousands: number): ValueCase[] {
  const run = once((isQuick) => withRouter({}, (router) => oneByOne(router, thousands, isQuick)));
  return [
    {
      name: `decision.tokens.${thousands}k`,
      unit: "ms",
      value: async (isQuick) => (await run(isQuick)).told,
    },
    {
      name: `decision.cpu.${thousands}k`,
      unit: "ms",
      value: async (isQuick) => (await run(isQuick)).cpuMs,
    },
  ];
}

/** While engines store and remove blocks as fast as they can. */
function duringIngestCase(): ValueCase {
  return {
    name: "decision.tokens.1k.during-ingest",
    reference: "decision.tokens.1k",
    unit: "ms",
    value: async (isQuick) => {
      const feed = await startProcess<{ addresses: readonly string[] }>("./edge-feed.ts", FEED);
      const figures = await withRouter({ feeds: feed.ready.addresses }, async (router) => {
        await wait(SETTLE_MS);
        feed.send("go");
        await wait(SETTLE_MS);
        const [beganMs, before] = [nodeClock.nowMs(), await ingestedBlocks(router)];
        const { told } = await oneByOne(router, 1, isQuick);
        const blocks = (await ingestedBlocks(router)) - before;
        const rate = Math.round((1000 * blocks) / (nodeClock.nowMs() - beganMs));
        if (!isQuick) process.stderr.write(`${rate} blocks/s were ingested\n`);
        return told;
      });
      await feed.stop();
      return figures;
    },
  };
}

function throughputCase(thousands: number): ValueCase {
  return {
    name: `throughput.tokens.${thousands}k`,
    unit: "requests/s",
    value: (isQuick) => throughput({}, thousands, isQuick),
  };
}

/** Served by a thread of its own beside the one that decides: what it gives, and what it costs each request. */
function workersCases(): ValueCase[] {
  const options = { workers: 1 };
  return [
    {
      name: "throughput.tokens.1k.workers",
      reference: "throughput.tokens.1k",
      unit: "requests/s",
      value: (isQuick) => throughput(options, 1, isQuick),
    },
    {
      name: "decision.tokens.1k.workers",
      reference: "decision.tokens.1k",
      unit: "ms",
      value: async (isQuick) =>
        (await withRouter(options, (router) => oneByOne(router, 1, isQuick))).told,
    },
  ];
}

function throughput(
  options: EdgeRouterOptions,
  thousands: number,
  isQuick: boolean,
): Promise<number> {
  return withRouter(options, async (router) => {
    const request = edgeRequest("/v1/completions", tokensBody(thousands), true);
    const { perSecond } = await load(router, request, isQuick);
    return perSecond;
  });
}

/** A chat's next turns, at a fixed rate: all but the last message was seen before. */
function chatCase(): ValueCase {
  return {
    name: "chat.220k.warm",
    unit: "ms",
    value: (isQuick) =>
      withRouter({ tokenizerPath: tokenizerFolder("qwen2_5") }, async ({ ready }) => {
        const client = new EdgeClient(ready.edge);
        // Made once: what the client's collector has to do for bodies would delay the answers.
        const turn = edgeRequest("/v1/chat/completions", chatBody(TURN_PLACE), false);
        const turns = isQuick ? QUICK_TURNS : TURNS;
        for (let n = 0; n < WARMUP_TURNS; n += 1) await client.exchange(turn);
        const told = await atRate(CHATS_PER_SECOND, turns, () => client.exchange(turn));
        client.close();
        return percentiles(told);
      }),
  };
}

/** How late the event loop is while there is always a chat of which nothing was seen before. */
function lagCase(): ValueCase {
  const options = { tokenizerPath: tokenizerFolder("qwen2_5"), isLagWatched: true };
  return {
    name: "lag.chat.220k.cold",
    unit: "ms",
    value: (isQuick) =>
      withRouter(options, async (router) => {
        const client = new EdgeClient(router.ready.edge);
        let chats = 0;
        const during = async (ms: number): Promise<void> => {
          const endMs = nodeClock.nowMs() + ms;
          while (nodeClock.nowMs() < endMs) {
            chats += 1;
            const body = chatBody("?", chats);
            await client.exchange(edgeRequest("/v1/chat/completions", body, false));
          }
        };
        await during(WARMUP_MS);
        await router.figures();
        await during(isQuick ? QUICK_MS : SAMPLE_MS);
        client.close();
        return (await router.figures()).lagMs;
      }),
  };
}

/** Requests that wait for their body. */
function memoryCase(): ValueCase {
  return {
    name: "memory.streams.10k",
    unit: "bytes",
    value: async () => {
      const server = await startProcess<{ edge: string }>("./edge-server.ts", null);
      const client = new EdgeClient(server.ready.edge, 4);
      const { headers } = edgeRequest("/v1/completions", Buffer.alloc(0), true);
      const opened = async (streams: number): Promise<number> => {
        for (let n = 0; n < streams; n += 1) client.open([headers]).on("error", () => {});
        for (let open = 0; open < streams; ) {
          await wait(SETTLE_MS);
          open = (await server.figures()).openStreams;
        }
        return (await server.figures("after gc")).residentBytes;
      };
      const before = await opened(10);
      const bytes = (await opened(OPEN_STREAMS)) - before;
      client.close();
      await server.stop();
      return bytes;
    },
  };
}

async function oneByOne(
  router: EdgeProcess<EdgeRouterReady>,
  thousands: number,
  isQuick: boolean,
): Promise<{ told: Percentiles; cpuMs: number }> {
  const client = new EdgeClient(router.ready.edge);
  const request = edgeRequest("/v1/completions", tokensBody(thousands), false);
  const warmMs = nodeClock.nowMs() + WARMUP_ALONE_MS;
  while (nodeClock.nowMs() < warmMs) await client.exchange(request);
  const before = await router.figures();
  const told: number[] = [];
  const endMs = nodeClock.nowMs() + (isQuick ? QUICK_MS : SAMPLE_MS);
  while (nodeClock.nowMs() < endMs) told.push(await client.exchange(request));
  const cpuMs = cpuOf(before, await router.figures()) / told.length;
  client.close();
  return { told: percentiles(told), cpuMs };
}

/** As many requests as go through, with `CONCURRENCY` under way. */
async function load(
  { ready, figures }: EdgeProcess<{ edge: string }>,
  request: EdgeRequest,
  isQuick: boolean,
): Promise<{ cpuMs: number; perSecond: number }> {
  const client = new EdgeClient(ready.edge, CONNECTIONS);
  let requests = 0;
  const during = async (ms: number): Promise<void> => {
    const endMs = nodeClock.nowMs() + ms;
    const work = async (): Promise<void> => {
      while (nodeClock.nowMs() < endMs) {
        await client.exchange(request);
        requests += 1;
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
  };
  await during(WARMUP_MS);
  const [before, startMs] = [await figures(), nodeClock.nowMs()];
  requests = 0;
  await during(isQuick ? QUICK_MS : SAMPLE_MS);
  const seconds = (nodeClock.nowMs() - startMs) / 1000;
  const cpuMs = cpuOf(before, await figures()) / requests;
  client.close();
  return { cpuMs, perSecond: requests / seconds };
}

/** Begins one each 1/`perSecond` seconds, whether the one before is done or not. */
async function atRate(
  perSecond: number,
  requests: number,
  run: () => Promise<number>,
): Promise<number[]> {
  const startMs = nodeClock.nowMs();
  const all: Promise<number>[] = [];
  for (let n = 0; n < requests; n += 1) {
    await wait(Math.max(0, startMs + (1000 * n) / perSecond - nodeClock.nowMs()));
    all.push(run());
  }
  return await Promise.all(all);
}

async function withRouter<Value>(
  options: EdgeRouterOptions,
  use: (router: EdgeProcess<EdgeRouterReady>) => Promise<Value>,
): Promise<Value> {
  const router = await startProcess<EdgeRouterReady>("./edge-router.ts", options);
  try {
    return await use(router);
  } finally {
    await router.stop();
  }
}

async function ingestedBlocks({ ready }: EdgeProcess<EdgeRouterReady>): Promise<number> {
  const text = await (await fetch(`http://${ready.admin}/metrics`)).text();
  const counts = [...text.matchAll(/^kvatlas_events_blocks_total\{.*\} (\d+)$/gm)];
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}

function cpuOf(before: Figures, after: Figures): number {
  return after.cpuMs - before.cpuMs;
}

function tokensBody(thousands: number): Uint8Array {
  const prompt = Array.from({ length: thousands * 1024 }, (_, at) => (at * 7919) % 128_000);
  return Buffer.from(JSON.stringify({ model: "bench", prompt, max_tokens: 1 }));
}

function once<Value>(
  make: (isQuick: boolean) => Promise<Value>,
): (isQuick: boolean) => Promise<Value> {
  let made: Promise<Value> | null = null;
  return (isQuick) => {
    made ??= make(isQuick);
    return made;
  };
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => nodeClock.after(ms, resolve));
}
