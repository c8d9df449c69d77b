/** The index asked from outside: over gRPC and from the command line, against the engines' own caches. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { nodeClock } from "../../src/core/node-clock.ts";
import { createBlockHasher } from "../../src/keys/block-hasher.ts";
import { type LabEngine, startLabEngine } from "../../src/lab/engine/engine.ts";
import type { IndexClient } from "../../src/query/gen/kvatlas/v1/Index.ts";
import type { MatchRequest } from "../../src/query/gen/kvatlas/v1/MatchRequest.ts";
import type { MatchResponse__Output } from "../../src/query/gen/kvatlas/v1/MatchResponse.ts";
import type { WatchPodsResponse__Output } from "../../src/query/gen/kvatlas/v1/WatchPodsResponse.ts";
import { loadQueryPackage } from "../../src/query/grpc-query-definition.ts";
import { freePort } from "../harness/free-port.ts";
import { RouterProcess } from "../harness/router-process.ts";
import { promptOf } from "../harness/stack.ts";
import { waitUntil } from "../harness/wait-until.ts";

const BIN = new URL("../../bin/kvatlas.js", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "kvatlas-query-"));
const engines: LabEngine[] = [];
let router: RouterProcess;
let client: IndexClient;

beforeAll(async () => {
  for (let n = 0; n < 2; n += 1) engines.push(await startLabEngine({}, { clock: nodeClock }));
  const listen = `127.0.0.1:${await freePort()}`;
  const endpoints = engines.map((engine, n) => ({
    ...{ name: `pod-${n}`, address: engine.address },
    kvEvents: { address: engine.kvEventsAddress },
  }));
  router = await RouterProcess.start({ folder, endpoints, config: { query: { listen } } });
  await waitUntil("events are read", () => engines.every((each) => each.subscriptions() > 0));
  client = loadQueryPackage().createClient(listen);
});
afterAll(async () => {
  client?.close();
  await router?.stop();
  await Promise.all(engines.map((engine) => engine.stop()));
  rmSync(folder, { recursive: true, force: true });
});

async function complete(engine: number, prompt: readonly number[]): Promise<void> {
  const body = JSON.stringify({ model: "lab-8b", prompt, max_tokens: 1 });
  const url = `http://${engines[engine]?.address}/v1/completions`;
  expect((await fetch(url, { method: "POST", body })).status).toBe(200);
}

const match = (request: MatchRequest): Promise<MatchResponse__Output> =>
  new Promise((resolve, reject) =>
    client.Match(request, (error, answer) =>
      answer === undefined ? reject(error) : resolve(answer),
    ),
  );

const run = (...args: string[]): Promise<string> =>
  new Promise((resolve, reject) =>
    execFile(process.execPath, [BIN, ...args], (error, stdout) =>
      error === null ? resolve(stdout) : reject(error),
    ),
  );

it("tells what each engine holds, by tokens, by keys, in a stream and to people", async () => {
  const prompt = promptOf(1, 320);
  const pods: WatchPodsResponse__Output[] = [];
  const watch = client.WatchPods({}).on("error", () => {});
  watch.on("data", (each: WatchPodsResponse__Output) => pods.push(each));
  await waitUntil("all pods are told", () => pods.length > 0);
  expect(pods[0]?.changed?.map(({ name, state }) => [name, state?.knowledge])).toEqual([
    ["pod-0", "FALLBACK"],
    ["pod-1", "FALLBACK"],
  ]);

  await complete(0, prompt);
  await complete(1, prompt.slice(0, 96));
  const tokens = Buffer.from(Uint32Array.from(prompt).buffer);
  const found = async (): Promise<number[]> =>
    ((await match({ tokens })).endpoints ?? []).map((each) => each.prefix_tokens ?? 0);
  await waitUntil("both are known", async () => (await found()).join() === "320,96");

  const byTokens = await match({ tokens });
  const [first = "", second = ""] = engines.map(({ address }) => address);
  const held = { state: { knowledge: "EXACT", reason: "" } };
  expect(byTokens).toMatchObject({
    endpoints: [
      { ...held, endpoint: first, gpu_prefix_tokens: 320, gpu_tokens: 320 },
      { ...held, endpoint: second, gpu_prefix_tokens: 96, gpu_tokens: 96 },
    ],
    best: { endpoint: first, prefix_tokens: 320, reachable_tokens: 320 },
    ...{ available_tokens: 320, shared_prefix_tokens: 0 },
    prompt_tokens: 320,
  });

  const hasher = await createBlockHasher(0);
  const parent = hasher.rootKey({ model: "lab-8b", lora: null, blockSizeTokens: 16 });
  const keys = hasher.chainKeys({
    ...{ parent, tokens: Uint32Array.from(prompt), blockSizeTokens: 16 },
  });
  const keyed = { keys: Buffer.from(keys.slice().buffer), block_size_tokens: 16 };
  expect(await match({ keyed })).toEqual(byTokens);
  const key = Buffer.from(keys.slice(0, 1).buffer);
  const places = await new Promise((resolve) =>
    client.Residency({ key }, (_, answer) => resolve(answer?.places)),
  );
  expect(places).toMatchObject([{ endpoint: first }, { endpoint: second }]);

  const exact = (): string[] =>
    pods.flatMap(({ changed = [] }) =>
      changed.flatMap(({ name, state }) => (state?.knowledge === "EXACT" ? [name ?? ""] : [])),
    );
  await waitUntil("the stream tells of both", () => new Set(exact()).size === 2);
  watch.cancel();

  const url = `http://${router.adminAddress}`;
  const file = join(folder, "prompt.json");
  writeFileSync(file, JSON.stringify(prompt));
  const lines = (await run("index", "query", file, "--url", url)).split("\n");
  expect(lines[1]?.split(/ +/)).toEqual([first, "EXACT", ..."320 320 320 0 0 0 320".split(" ")]);
  expect(lines[3]).toBe(`best of 320 tokens: 320 at ${first}`);
  expect(lines[4]).toBe("from shared tiers: 0; anywhere: 320");
  writeFileSync(file, [...keys].map((each) => each.toString(16)).join("\n"));
  const byKeys = await run("index", "query", file, "--keys", "--url", url);
  expect(byKeys.split("\n")).toEqual(lines);
  const stats = JSON.parse(await run("index", "stats", "-o", "json", "--url", url));
  expect(stats).toMatchObject({
    ...{ blocks: 20, blockSizesTokens: [16] },
    ...{ entriesByTier: { gpu: 26 }, endpointsByState: { EXACT: 2 } },
  });
  writeFileSync(file, JSON.stringify([...keys].map((each) => `0x${each.toString(16)}`)));
  expect((await run("index", "query", file, "--keys", "--url", url)).split("\n")).toEqual(lines);
  const size = ["--keys", "--block-size", "5000"];
  await expect(run("index", "query", file, ...size, "--url", url)).rejects.toThrow(
    /block_size_tokens: 5000 is not a whole number from 1 to 4096\n\(ERR_QUERY_INVALID\)/,
  );
  for (const text of ["1 2 x", "[1,2", "[1,2]]", "[[1],2]", '["1"]', "1]2", "[]", "", " \n"]) {
    writeFileSync(file, text);
    const asked = run("index", "query", file, "--url", url);
    await expect(asked, text).rejects.toThrow(/prompt\.json: .*\n\(ERR_QUERY_INVALID\)/);
  }
});
