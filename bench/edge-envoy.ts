/** Requests through a real Envoy, which resets each ext_proc stream when its request is over. */
import http from "node:http";
import { nodeClock } from "../src/core/node-clock.ts";
import { envoyRecipe } from "../src/lab/file-envoy-recipe.ts";
import { startEnvoy } from "../src/lab/process-envoy.ts";
import { requireBinary } from "../test/harness/binaries.ts";
import { startProcess } from "./edge-process.ts";
import type { EdgeRouterReady } from "./edge-router.ts";

const REQUESTS = 1_000_000;
const QUICK_REQUESTS = 50_000;
const ENDPOINTS = 3;
const CONNECTIONS = 64;
/** Of so many requests, one is given up by its client before it is answered. */
const GIVEN_UP_EVERY = 100;

/** Requests that were not answered with 200 and the whole answer, of those that nobody gave up. */
export async function envoyErrors(isQuick: boolean): Promise<number> {
  const binary = await requireBinary("envoy");
  if (binary.isMissing) throw new Error(`envoy.errors${binary.note}`);
  const engines = await Promise.all(Array.from({ length: ENDPOINTS }, startEngine));
  const endpoints = engines.map(({ address }) => address);
  const router = await startProcess<EdgeRouterReady>("./edge-router.ts", { endpoints });
  const config = envoyRecipe({
    ...{ listenAddress: "127.0.0.1:0", adminAddress: "127.0.0.1:0", endpoints },
    extProcAddress: router.ready.edge,
  });
  const envoy = await startEnvoy({ binary: binary.path, clock: nodeClock, config });
  try {
    return await errorsOf(envoy.listenAddress, isQuick ? QUICK_REQUESTS : REQUESTS);
  } finally {
    await envoy.stop();
    await router.stop();
    for (const { stop } of engines) stop();
  }
}

async function errorsOf(address: string, requests: number): Promise<number> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const kinds = new Map<string, number>();
  let begun = 0;
  const work = async (): Promise<void> => {
    while (begun < requests) {
      begun += 1;
      const isGivenUp = begun % GIVEN_UP_EVERY === 0;
      const outcome = await send(address, agent, isGivenUp);
      if (outcome !== "ok") kinds.set(outcome, (kinds.get(outcome) ?? 0) + 1);
    }
  };
  const startMs = nodeClock.nowMs();
  await Promise.all(Array.from({ length: CONNECTIONS }, work));
  agent.destroy();
  const perSecond = Math.round((1000 * requests) / (nodeClock.nowMs() - startMs));
  process.stderr.write(`${requests} requests through Envoy, ${perSecond} a second\n`);
  for (const [kind, times] of kinds) process.stderr.write(`${times} x ${kind}\n`);
  return [...kinds.values()].reduce((sum, times) => sum + times, 0);
}

const BODY = JSON.stringify({ model: "bench", prompt: Array(64).fill(7), max_tokens: 1 });
const ANSWER = JSON.stringify({ choices: [{ text: "a" }] });

/** "ok", or what was wrong. */
function send(address: string, agent: http.Agent, isGivenUp: boolean): Promise<string> {
  return new Promise((resolve) => {
    const request = http.request(`http://${address}/v1/completions`, {
      ...{ agent, method: "POST" },
      headers: { "content-type": "application/json", "content-length": BODY.length },
    });
    request.on("error", (error) => resolve(isGivenUp ? "ok" : error.message));
    request.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => {
        text += piece;
      });
      response.on("error", (error) => resolve(isGivenUp ? "ok" : error.message));
      response.on("end", () => {
        const isWhole = response.statusCode === 200 && text === ANSWER;
        resolve(isWhole ? "ok" : `status ${response.statusCode}: ${text.slice(0, 100)}`);
      });
    });
    // Sent before the connection is broken, so that the router has begun with it.
    request.end(BODY, () => {
      if (isGivenUp) setImmediate(() => request.destroy());
    });
  });
}

async function startEngine(): Promise<{ address: string; stop: () => void }> {
  const server = http.createServer((request, response) => {
    request.resume();
    response.setHeader("content-type", "application/json");
    response.end(ANSWER);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : 0;
  const stop = (): void => {
    server.closeAllConnections();
    server.close();
  };
  return { address: `127.0.0.1:${port}`, stop };
}
