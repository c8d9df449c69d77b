/** The query service: the index for other schedulers, over gRPC. */
import grpc from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import type { Clock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Result } from "../core/result.ts";
import { LIVENESS_SERVICE, READINESS_SERVICES } from "../extproc/grpc-health.ts";
import { matchResponse, residencyResponse, statsResponse } from "./answer-messages.ts";
import type { IndexHandlers } from "./gen/kvatlas/v1/Index.ts";
import type { MatchRequest__Output } from "./gen/kvatlas/v1/MatchRequest.ts";
import { type GrpcListener, listenGrpc } from "./grpc-listener.ts";
import { loadQueryPackage, QUERY_SERVICE } from "./grpc-query-definition.ts";
import type { IndexQueries, PodState, PromptQuery } from "./index-queries.ts";
import { PodWatchers, WATCHES_MAX } from "./pod-watchers.ts";
import { keyOf, keysQuery, type QueryRefusal, tokensQuery } from "./prompt-query.ts";

/** Bytes of a request: the longest prompt's tokens, and its names. */
const REQUEST_BYTES_MAX = 4_259_840;
/** Calls under way on one connection; HTTP/2 lets the caller wait. */
const CALLS_PER_CONNECTION_MAX = 1024;

/**
 * - watch-limit: too many watches of pods
 * - failed: a bug, see the log
 * - transport: a message over its bound, of no known form, or given up before its end
 * - connection-limit: too many connections
 */
type CallRefusal = QueryRefusal | "watch-limit" | "failed" | "transport" | "connection-limit";

const STATUS_OF: Partial<Record<CallRefusal, grpc.status>> = {
  "too-many-tokens": grpc.status.RESOURCE_EXHAUSTED,
  "too-many-keys": grpc.status.RESOURCE_EXHAUSTED,
  "watch-limit": grpc.status.RESOURCE_EXHAUSTED,
  failed: grpc.status.INTERNAL,
};

export interface QueryDeps {
  readonly queries: IndexQueries;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export interface QueryServer {
  /** host:port in use. */
  readonly address: string;
  /** Reports NOT_SERVING, and goes on answering. */
  drain(): void;
  /** Cuts what is open. */
  stop(): Promise<void>;
}

/** Throws KvError ERR_PORT_IN_USE when the address is taken. */
export async function startQueryServer(listen: string, deps: QueryDeps): Promise<QueryServer> {
  const { meter, log } = deps;
  const onRefused = (): void => count(meter, "connection-limit");
  const server = new grpc.Server({
    "grpc.max_receive_message_length": REQUEST_BYTES_MAX,
    "grpc.max_concurrent_streams": CALLS_PER_CONNECTION_MAX,
    "grpc.enable_channelz": 0,
    interceptors: [countTransport(meter)],
  });
  server.addService(loadQueryPackage().definition, handlers(deps));
  const health = new HealthImplementation({ [LIVENESS_SERVICE]: "SERVING" });
  const setReady = (isReady: boolean): void => {
    for (const service of [...READINESS_SERVICES, QUERY_SERVICE])
      health.setStatus(service, isReady ? "SERVING" : "NOT_SERVING");
  };
  health.addToServer(server);
  const listener: GrpcListener = await listenGrpc({ server, address: listen, onRefused });
  setReady(true);
  log.info({ address: listener.address }, "query service listens");
  return {
    address: listener.address,
    drain: () => setReady(false),
    stop: async (): Promise<void> => {
      setReady(false);
      server.forceShutdown();
      await listener.close();
    },
  };
}

function handlers(deps: QueryDeps): IndexHandlers {
  const { queries, meter } = deps;
  const watchers = new PodWatchers({
    clock: deps.clock,
    pods: (): readonly PodState[] => queries.pods(),
  });
  const refuse = (reason: CallRefusal, detail: string): grpc.ServiceError => {
    count(meter, reason);
    return serviceError(STATUS_OF[reason] ?? grpc.status.INVALID_ARGUMENT, `${reason}: ${detail}`);
  };
  /** A defect in one answer ends one call. */
  const guarded = <Answer>(
    method: string,
    callback: grpc.sendUnaryData<Answer>,
    answer: () => Result<Answer, CallRefusal>,
  ): void => {
    meter.count("kvatlas_query_requests_total", { method });
    let result: Result<Answer, CallRefusal>;
    try {
      result = answer();
    } catch (error) {
      deps.log.error({ method, error: messageOf(error) }, "query failed");
      result = { ok: false, reason: "failed", detail: "see the log" };
    }
    if (result.ok) callback(null, result.value);
    else callback(refuse(result.reason, result.detail));
  };
  return {
    Match: ({ request }, callback): void =>
      guarded("Match", callback, () => {
        const query = promptQueryOf(request);
        return query.ok ? { ok: true, value: matchResponse(queries.match(query.value)) } : query;
      }),
    Residency: ({ request }, callback): void =>
      guarded("Residency", callback, () => {
        const bytes = request.key ?? NO_BYTES;
        const key = keyOf(bytes);
        const detail = `key: ${bytes.length} bytes are not the 8 of a key`;
        return key === null
          ? { ok: false, reason: "malformed-keys", detail }
          : { ok: true, value: residencyResponse(queries.residency(key)) };
      }),
    Stats: (_, callback): void =>
      guarded("Stats", callback, () => ({ ok: true, value: statsResponse(queries.stats()) })),
    WatchPods: (call): void => {
      meter.count("kvatlas_query_requests_total", { method: "WatchPods" });
      if (!watchers.add(call)) {
        call.emit(
          "error",
          refuse("watch-limit", `${WATCHES_MAX} watches are open, as many as may be`),
        );
        return;
      }
      call.on("drain", () => watchers.drained(call));
      for (const end of ["cancelled", "close", "error"]) call.on(end, () => watchers.remove(call));
    },
  };
}

const NO_BYTES = new Uint8Array(0);

function promptQueryOf(request: MatchRequest__Output): Result<PromptQuery, QueryRefusal> {
  const { tokens, keyed, lora = "", cache_salt: cacheSalt = "" } = request;
  switch (request.prompt) {
    case "tokens":
      return tokensQuery(tokens ?? NO_BYTES, { lora, cacheSalt });
    case "keyed":
      return keysQuery(keyed?.keys ?? NO_BYTES, keyed?.block_size_tokens ?? 0);
    default:
      return { ok: false, reason: "no-prompt", detail: "neither tokens nor keys are given" };
  }
}

/** Counts the calls of which no handler sees the whole message. */
function countTransport(meter: Meter): grpc.ServerInterceptor {
  return (_, call) => {
    let isWhole = false;
    const listener = new grpc.ServerListenerBuilder()
      .withOnReceiveHalfClose((next) => {
        isWhole = true;
        next();
      })
      // At the end of every call.
      .withOnCancel(() => {
        if (!isWhole) count(meter, "transport");
      })
      .build();
    const responder = new grpc.ResponderBuilder().withStart((next) => next(listener)).build();
    return new grpc.ServerInterceptingCall(call, responder);
  };
}

function count(meter: Meter, reason: CallRefusal): void {
  meter.count("kvatlas_query_refused_total", { reason });
}

function serviceError(code: grpc.status, details: string): grpc.ServiceError {
  return Object.assign(new Error(details), { code, details, metadata: new grpc.Metadata() });
}
