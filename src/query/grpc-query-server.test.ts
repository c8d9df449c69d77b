import grpc from "@grpc/grpc-js";
import { service as healthService } from "grpc-health-check";
import { afterEach, describe, expect, it } from "vitest";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import { endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import type { IndexClient } from "./gen/kvatlas/v1/Index.ts";
import type { MatchRequest } from "./gen/kvatlas/v1/MatchRequest.ts";
import type { MatchResponse__Output } from "./gen/kvatlas/v1/MatchResponse.ts";
import { loadQueryPackage, QUERY_SERVICE } from "./grpc-query-definition.ts";
import { startQueryServer } from "./grpc-query-server.ts";
import type { EndpointHolding, IndexQueries, PromptQuery } from "./index-queries.ts";
import { WATCHES_MAX } from "./pod-watchers.ts";

const holding: EndpointHolding = {
  endpointId: endpointId("10.0.0.1:8000"),
  state: { state: "DEGRADED", reason: "gap" },
  ...{ gpuPrefixTokens: 16, prefixTokens: 48 },
  tokensByTier: { gpu: 16, cpu: 16, nvme: 0, shared: 16 },
  reachableTokens: 64,
};

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(more: Partial<IndexQueries> = {}) {
  const meter = recordingMeter();
  const asked: PromptQuery[] = [];
  const queries: IndexQueries = {
    match: (query) => {
      asked.push(query);
      const more = { sharedPrefixTokens: 32, availableTokens: 80 };
      return { endpoints: [holding], best: holding, promptTokens: 96, ...more };
    },
    residency: (key) =>
      key === 5n ? [{ holder: { endpointId: holding.endpointId, rank: 1 }, tier: "nvme" }] : [],
    pods: () => [],
    stats: () => ({
      ...{ blocks: 3, entriesByTier: { gpu: 1, cpu: 2, nvme: 3, shared: 4 } },
      ...{ endpointsByState: { EXACT: 5, DEGRADED: 6, FALLBACK: 7 }, blockSizesTokens: [16] },
    }),
    ...more,
  };
  const ports = { clock: nodeClock, log: silentLog, meter };
  const server = await startQueryServer("127.0.0.1:0", { ...ports, queries });
  cleanups.push(() => server.stop());
  const client = loadQueryPackage().createClient(server.address);
  cleanups.push(() => client.close());
  const refused = (reason: string): number =>
    meter.total("kvatlas_query_refused_total", { reason });
  return { server, client, asked, refused };
}

interface Outcome {
  readonly code: grpc.status;
  readonly details: string;
  readonly answer: MatchResponse__Output | undefined;
}

const match = (client: IndexClient, request: MatchRequest): Promise<Outcome> =>
  new Promise((resolve) =>
    client.Match(request, (error, answer) =>
      resolve({ code: error?.code ?? 0, details: error?.details ?? "", answer }),
    ),
  );

describe("the query service", () => {
  it("answers with tokens by tier, state and the best", async () => {
    const { client, asked } = await start();
    const tokens = Buffer.from(Uint32Array.of(1, 2, 3).buffer);
    const { answer } = await match(client, { tokens, lora: "a" });
    expect(answer).toEqual({
      endpoints: [
        {
          endpoint: "10.0.0.1:8000",
          state: { knowledge: "DEGRADED", reason: "gap" },
          ...{ gpu_prefix_tokens: 16, prefix_tokens: 48 },
          ...{ gpu_tokens: 16, cpu_tokens: 16, nvme_tokens: 0, shared_tokens: 16 },
          reachable_tokens: 64,
        },
      ],
      best: { endpoint: "10.0.0.1:8000", prefix_tokens: 48, reachable_tokens: 64 },
      ...{ prompt_tokens: 96, shared_prefix_tokens: 32, available_tokens: 80 },
    });
    const keys = Buffer.from(BigUint64Array.of(7n).buffer);
    await match(client, { keyed: { keys, block_size_tokens: 32 } });
    expect(asked).toEqual([
      { kind: "tokens", tokens: Uint32Array.of(1, 2, 3), lora: "a", cacheSalt: null },
      { kind: "keys", keys: BigUint64Array.of(7n), blockSizeTokens: 32 },
    ]);
  });

  it("tells the places of a key, and totals", async () => {
    const { client } = await start();
    const key = Buffer.from(BigUint64Array.of(5n).buffer);
    const places = await new Promise((resolve) =>
      client.Residency({ key }, (_, answer) => resolve(answer?.places)),
    );
    expect(places).toEqual([{ endpoint: "10.0.0.1:8000", rank: 1, tier: "NVME" }]);
    const stats = await new Promise((resolve) => client.Stats({}, (_, answer) => resolve(answer)));
    expect(stats).toMatchObject({ blocks: 3, shared_entries: 4, fallback_endpoints: 7 });
  });

  it("refuses what is hostile with a status and a counted reason, and goes on", async () => {
    const { client, refused, asked } = await start();
    const { INVALID_ARGUMENT, RESOURCE_EXHAUSTED } = grpc.status;
    const keyed = (bytes: number, size = 16): MatchRequest => ({
      keyed: { keys: Buffer.alloc(bytes), block_size_tokens: size },
    });
    // Each with the field and the limit.
    const cases: [MatchRequest, grpc.status, string][] = [
      [{}, INVALID_ARGUMENT, "no-prompt: neither tokens nor keys"],
      [{ tokens: Buffer.alloc(3) }, INVALID_ARGUMENT, "malformed-tokens: tokens: 3 bytes"],
      [
        { tokens: Buffer.alloc(4_194_308) },
        RESOURCE_EXHAUSTED,
        "too-many-tokens: tokens: 1048577 tokens are over 1048576",
      ],
      [
        { tokens: Buffer.alloc(4), lora: "x".repeat(2000) },
        INVALID_ARGUMENT,
        "text-too-long: lora: 2000 characters are over 1024",
      ],
      [{ keyed: {} }, INVALID_ARGUMENT, "block-size: block_size_tokens: 0 is not"],
      [keyed(9), INVALID_ARGUMENT, "malformed-keys: keys: 9 bytes"],
      [
        keyed(8 * 131_073, 1),
        RESOURCE_EXHAUSTED,
        "too-many-keys: keys: 131073 keys are over 131072",
      ],
    ];
    for (const [request, code, said] of cases) {
      const outcome = await match(client, request);
      expect(outcome).toMatchObject({ code, details: expect.stringContaining(said) });
      expect(refused(said.split(":")[0] ?? "")).toBe(1);
    }
    const tooLarge = await match(client, { tokens: Buffer.alloc(9_000_000) });
    expect(tooLarge).toMatchObject({
      ...{ code: RESOURCE_EXHAUSTED, details: expect.stringContaining("4259840") },
    });
    expect(refused("transport")).toBe(1);
    const wrongKey = await new Promise<Partial<grpc.ServiceError> | null>((resolve) =>
      client.Residency({ key: Buffer.alloc(7) }, (error) => resolve(error)),
    );
    expect(wrongKey).toMatchObject({
      ...{ code: INVALID_ARGUMENT, details: "malformed-keys: key: 7 bytes are not the 8 of a key" },
    });
    expect(asked).toEqual([]);
    expect(await match(client, { tokens: Buffer.alloc(4) })).toMatchObject({ code: 0 });
  });

  it("refuses bytes that are no message, and methods that it has not", async () => {
    const { server, client, refused } = await start();
    const raw = new grpc.Client(server.address, grpc.credentials.createInsecure());
    cleanups.push(() => raw.close());
    const call = (method: string, bytes: Buffer): Promise<number> =>
      new Promise((resolve) => {
        const identity = (each: Buffer): Buffer => each;
        const path = `/${QUERY_SERVICE}/${method}`;
        raw.makeUnaryRequest(path, identity, identity, bytes, (error) => resolve(error?.code ?? 0));
      });
    expect(await call("Match", Buffer.alloc(64, 0xff))).toBe(grpc.status.INTERNAL);
    expect(refused("transport")).toBe(1);
    expect(await call("Nothing", Buffer.alloc(0))).toBe(grpc.status.UNIMPLEMENTED);
    expect(await match(client, { tokens: Buffer.alloc(4) })).toMatchObject({ code: 0 });
  });

  it("ends one call when an answer fails, and says no more than that", async () => {
    const { client, refused } = await start({
      match: () => {
        throw new Error("secret detail");
      },
    });
    const { code, details } = await match(client, { tokens: Buffer.alloc(4) });
    expect([code, details]).toEqual([grpc.status.INTERNAL, "failed: see the log"]);
    expect(refused("failed")).toBe(1);
  });

  it("bounds the watches, and frees the place of one that ends", async () => {
    const { client, refused } = await start();
    const open = (): grpc.ClientReadableStream<unknown> => {
      const stream = client.WatchPods({});
      stream.on("error", () => {});
      return stream;
    };
    const told = (stream: grpc.ClientReadableStream<unknown>): Promise<unknown> =>
      new Promise((resolve) => stream.once("data", resolve));
    const streams = Array.from({ length: WATCHES_MAX }, open);
    await Promise.all(streams.map(told));
    const one = open();
    const code = await new Promise((resolve) => one.on("status", (status) => resolve(status.code)));
    expect(code).toBe(grpc.status.RESOURCE_EXHAUSTED);
    expect(refused("watch-limit")).toBe(1);
    streams[0]?.cancel();
    await waitUntil("a place is free", async () => {
      const stream = open();
      const isTold = await Promise.race([
        told(stream).then(() => true),
        new Promise<boolean>((resolve) => stream.on("status", () => resolve(false))),
      ]);
      return isTold;
    });
    for (const stream of streams) stream.cancel();
  });

  it("says in its health when it drains, and goes on answering", async () => {
    const { server, client } = await start();
    const HealthClient = grpc.makeGenericClientConstructor(healthService, "Health");
    const health = new HealthClient(server.address, grpc.credentials.createInsecure());
    cleanups.push(() => health.close());
    const status = (): Promise<string | undefined> =>
      new Promise((resolve) => {
        health["Check"]?.(
          { service: QUERY_SERVICE },
          (_: Error | null, answer: { status?: string } | undefined) => resolve(answer?.status),
        );
      });
    expect(await status()).toBe("SERVING");
    server.drain();
    expect(await status()).toBe("NOT_SERVING");
    expect(await match(client, { tokens: Buffer.alloc(4) })).toMatchObject({ code: 0 });
  });
});
