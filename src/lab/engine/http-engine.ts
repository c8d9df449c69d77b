/** The HTTP face of a simulated engine: vLLM's OpenAI server, on 127.0.0.1. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { messageOf } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { LabEngineOptions } from "./engine-options.ts";
import type { EngineRank } from "./engine-rank.ts";
import { readJsonBody } from "./http-body.ts";
import { type GenerationDeps, startGeneration } from "./http-generation.ts";
import type { JsonObject } from "./json-object.ts";
import { errorJson } from "./openai-reply.ts";
import { type GenerationKind, parseGeneration, parseTokenize } from "./openai-request.ts";
import { RankChoice } from "./rank-choice.ts";
import { metricsText } from "./vllm-metrics.ts";

/** Connections that may wait to be accepted; bursts of thousands are part of the tests. */
const BACKLOG_CONNECTIONS = 4096;
/** What GET /version says, by the event encoding of that vLLM version. */
const VERSIONS = { array: "0.22.1+kvatlas.lab", map: "0.24.0+kvatlas.lab" } as const;
const TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export interface HttpEngineDeps extends Pick<GenerationDeps, "clock" | "hasher"> {
  readonly log: Log;
  /** One and more; they share the port. */
  readonly ranks: readonly EngineRank[];
}

type Route = (request: IncomingMessage, response: ServerResponse) => Promise<void> | void;

export class HttpEngine {
  readonly address: string;
  readonly #server: Server;

  private constructor(server: Server, address: string) {
    this.#server = server;
    this.address = address;
  }

  /** Listens on options.port; rejects with Node's error when it is taken. */
  static async listen(options: LabEngineOptions, deps: HttpEngineDeps): Promise<HttpEngine> {
    const routes = makeRoutes(options, deps);
    const server = createServer((request, response) => {
      void answer(routes, request, response).catch((reason: unknown) => {
        deps.log.error(
          { url: request.url, cause: messageOf(reason) },
          "lab engine: request failed",
        );
        if (response.headersSent) response.destroy();
        else sendError(response, 500, "The lab engine failed on this request.");
      });
    });
    // A proxy that reuses a connection must never meet the moment in which an idle one is closed.
    server.keepAliveTimeout = 0;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(options.port, "127.0.0.1", BACKLOG_CONNECTIONS, () => {
        server.off("error", reject);
        resolve();
      });
    });
    // A server that listens on TCP has an address of this form.
    const { port } = server.address() as AddressInfo;
    return new HttpEngine(server, `127.0.0.1:${port}`);
  }

  /** Closes the port and every connection. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

async function answer(
  routes: ReadonlyMap<string, Route>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
  const route = routes.get(`${request.method} ${path}`);
  if (route === undefined) {
    request.resume();
    sendJson(response, 404, JSON.stringify({ detail: "Not Found" }));
    return;
  }
  await route(request, response);
}

function makeRoutes(options: LabEngineOptions, deps: HttpEngineDeps): ReadonlyMap<string, Route> {
  const models = modelList(options, Math.floor(deps.clock.wallMs() / 1000));
  const choice = new RankChoice(deps.ranks);
  return new Map<string, Route>([
    ["POST /v1/completions", generationRoute("completion", options, { ...deps, choice })],
    ["POST /v1/chat/completions", generationRoute("chat", options, { ...deps, choice })],
    ["POST /tokenize", tokenizeRoute(options)],
    ["POST /reset_prefix_cache", json((request) => resetCaches(deps, request))],
    ["GET /health", (_, response): void => void response.end()],
    ["GET /version", json(() => ({ version: VERSIONS[options.encoding] }))],
    ["GET /v1/models", json(() => models)],
    ["GET /metrics", (_, response): void => sendMetrics(options, deps, response)],
    ["GET /lab/blocks", json(() => blockCounts(options, deps))],
  ]);
}

/** A route without body that answers with what `make` returns. */
function json(make: (request: IncomingMessage) => JsonObject): Route {
  return (request, response): void => {
    request.resume();
    sendJson(response, 200, JSON.stringify(make(request)));
  };
}

/** `?reset_connector=true` empties the tiers below the GPU as well. */
function resetCaches(deps: HttpEngineDeps, request: IncomingMessage): JsonObject {
  const query = new URLSearchParams((request.url ?? "").split("?", 2)[1] ?? "");
  const areTiersReset = query.get("reset_connector")?.toLowerCase() === "true";
  const done = deps.ranks.map(({ core }) => core.reset({ areTiersReset }));
  return { success: done.every(Boolean) };
}

function generationRoute(
  kind: GenerationKind,
  options: LabEngineOptions,
  deps: HttpEngineDeps & { readonly choice: RankChoice<EngineRank> },
): Route {
  let requestNumber = 0;
  return async (request, response) => {
    const body = await bodyOrRefusal(request, response, options.bodyBytesMax);
    if (body === null) return;
    const parsed = parseGeneration(kind, body, options);
    if (parsed.ok) {
      requestNumber += 1;
      const { core, ttft } = deps.choice.next(request.headers);
      const { clock, hasher } = deps;
      startGeneration({ clock, hasher, core, ttft }, parsed.value, { requestNumber, response });
    } else sendError(response, parsed.reason === "not_found" ? 404 : 400, parsed.detail);
  };
}

function tokenizeRoute(options: LabEngineOptions): Route {
  return async (request, response) => {
    const body = await bodyOrRefusal(request, response, options.bodyBytesMax);
    if (body === null) return;
    const parsed = parseTokenize(body, options);
    if (!parsed.ok) {
      sendError(response, parsed.reason === "not_found" ? 404 : 400, parsed.detail);
      return;
    }
    const head = { count: parsed.value.length, max_model_len: options.maxModelLen };
    // The list is joined by hand: a million ids as boxed numbers would cost ten times the memory.
    const fields = JSON.stringify(head).slice(0, -1);
    sendJson(response, 200, `${fields},"tokens":[${parsed.value.join(",")}],"token_strs":null}`);
  };
}

/** Null when the body was refused; the refusal has been answered then. */
async function bodyOrRefusal(
  request: IncomingMessage,
  response: ServerResponse,
  bytesMax: number,
): Promise<JsonObject | null> {
  const body = await readJsonBody(request, bytesMax);
  if (body.ok) return body.value;
  if (body.reason === "aborted") {
    response.destroy();
    return null;
  }
  if (body.reason === "too_large") {
    // The rest is read and thrown away, so that the client gets to see the answer.
    response.setHeader("connection", "close");
    request.resume();
  }
  sendError(response, body.reason === "too_large" ? 413 : 400, body.detail);
  return null;
}

function sendMetrics(
  options: LabEngineOptions,
  deps: HttpEngineDeps,
  response: ServerResponse,
): void {
  const { cpuBlocks, nvmeBlocks } = options.tiers;
  const snapshots = deps.ranks.map(({ core, ttft }, rank) => ({
    modelName: options.model,
    rank,
    waiting: core.waiting,
    running: core.running,
    kvUsage: core.pool.usage,
    prefixQueryTokens: core.totals.promptTokens,
    prefixHitTokens: core.totals.cachedTokens - core.totals.loadedTokens,
    externalHitTokens: cpuBlocks + nvmeBlocks > 0 ? core.totals.loadedTokens : null,
    promptTokens: core.totals.promptTokens,
    generationTokens: core.totals.generatedTokens,
    blockSizeTokens: options.blockSizeTokens,
    gpuBlocks: options.gpuBlocks,
    ttft,
  }));
  const text = metricsText(snapshots, options.metricNames);
  response.writeHead(200, { "content-type": TEXT_TYPE });
  response.end(text);
}

function modelList(options: LabEngineOptions, createdSeconds: number): JsonObject {
  const model = (id: string, parent: string | null): JsonObject => ({
    id,
    object: "model",
    created: createdSeconds,
    owned_by: "vllm",
    root: options.model,
    parent,
    max_model_len: options.maxModelLen,
  });
  const adapters = options.loraNames.map((name) => model(name, options.model));
  return { object: "list", data: [model(options.model, null), ...adapters] };
}

/** Of one rank, as fields; of several, as a list. */
function blockCounts(options: LabEngineOptions, deps: HttpEngineDeps): JsonObject {
  const { cpuBlocks, nvmeBlocks } = options.tiers;
  const counts = deps.ranks.map(({ core: { pool }, publisher, tiers }) => ({
    blockSizeTokens: options.blockSizeTokens,
    usableBlocks: pool.usableBlocks,
    referencedBlocks: pool.usableBlocks - pool.freeBlocks,
    cachedBlocks: pool.cachedBlocks,
    distinctHashes: pool.distinctHashes,
    ...(cpuBlocks > 0 ? { cpuBlocks: tiers.blocks("cpu") } : {}),
    ...(nvmeBlocks > 0 ? { nvmeBlocks: tiers.blocks("nvme") } : {}),
    publishedSeq: publisher.publishedSeq,
  }));
  const [first] = counts;
  return counts.length === 1 && first !== undefined ? first : { ranks: counts };
}

function sendError(response: ServerResponse, status: number, message: string): void {
  sendJson(response, status, errorJson(status, message));
}

function sendJson(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(body);
}
