/** The ext_proc server: one gRPC stream for each HTTP request that a gateway asks about. */
import grpc from "@grpc/grpc-js";
import { type Clock, sleep } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import { BodyBudget } from "./body-budget.ts";
import type { ExtProcConfig } from "./config.ts";
import { EXT_PROC_SERVICE, loadExtProcPackage, withTolerantDecoder } from "./grpc-definition.ts";
import { GrpcHealth } from "./grpc-health.ts";
import { type GrpcListener, listenGrpc } from "./grpc-listener.ts";
import { GrpcStream, type ProcessCall } from "./grpc-stream.ts";
import type { Picker } from "./picker.ts";
import { type ClaimedId, RequestIds } from "./request-ids.ts";
import { Session } from "./session.ts";

/** What a message may hold beside a whole body: headers, metadata, framing; bytes. */
const MESSAGE_OVERHEAD_BYTES = 1_048_576;
/** Open streams on one connection; each is an HTTP request from its start to its last byte. */
const STREAMS_PER_CONNECTION_MAX = 16_384;
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;

export interface ExtProcDeps {
  readonly picker: Picker;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly meter: Meter;
}

export interface ExtProcServer {
  /** host:port of the ext_proc service. */
  readonly address: string;
  /** host:port of the health service. */
  readonly healthAddress: string;
  /** Ready from the start of the server; `setReady(false)` makes gateways turn away. */
  readonly health: { setReady(isReady: boolean): void };
  readonly openStreams: number;
  /**
   * Reports NOT_SERVING, goes on serving, and resolves when no stream is open and gateways had
   * `drainNoticeMs` to see it, or after `drainMs`.
   */
  drain(): Promise<void>;
  /** Cuts what is open. */
  stop(): Promise<void>;
}

/** Throws KvError ERR_PORT_IN_USE when one of the two addresses is taken. */
export async function startExtProcServer(
  config: ExtProcConfig,
  deps: ExtProcDeps,
): Promise<ExtProcServer> {
  const server = new RunningServer(config, deps);
  await server.start();
  return server;
}

class RunningServer implements ExtProcServer {
  readonly health = new GrpcHealth(EXT_PROC_SERVICE);
  readonly #config: ExtProcConfig;
  readonly #deps: ExtProcDeps;
  readonly #requestIds: RequestIds;
  readonly #bodyBudget: BodyBudget;
  readonly #stopping = new AbortController();
  readonly #server: grpc.Server;
  readonly #healthServer = new grpc.Server();
  #listeners: GrpcListener[] = [];
  #openStreams = 0;
  #onIdle: () => void = () => {};

  constructor(config: ExtProcConfig, deps: ExtProcDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#requestIds = new RequestIds(deps.random);
    this.#bodyBudget = new BodyBudget(config.bodiesBytesMax);
    this.#server = new grpc.Server({
      "grpc.max_receive_message_length": config.bodyBytesMax + MESSAGE_OVERHEAD_BYTES,
      "grpc.max_concurrent_streams": STREAMS_PER_CONNECTION_MAX,
      "grpc.keepalive_time_ms": KEEPALIVE_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      "grpc.enable_channelz": 0,
    });
    const definition = withTolerantDecoder(loadExtProcPackage().definition);
    this.#server.addService(definition, { Process: (call: ProcessCall) => this.#serve(call) });
    this.health.addTo(this.#server);
    this.health.addTo(this.#healthServer);
  }

  get address(): string {
    return this.#listeners[0]?.address ?? "";
  }

  get healthAddress(): string {
    return this.#listeners[1]?.address ?? "";
  }

  get openStreams(): number {
    return this.#openStreams;
  }

  async start(): Promise<void> {
    const onRefused = (): void => {
      this.#deps.meter.count("kvatlas_extproc_refused_total", { reason: "connection-limit" });
    };
    const bindings = [
      { server: this.#server, address: this.#config.listen, onRefused },
      { server: this.#healthServer, address: this.#config.healthListen, onRefused },
    ];
    try {
      for (const binding of bindings) this.#listeners.push(await listenGrpc(binding));
    } catch (reason) {
      await this.stop();
      throw reason;
    }
    this.health.setReady(true);
    this.#deps.log.info(
      { address: this.address, health_address: this.healthAddress },
      "ext_proc listening",
    );
  }

  async drain(): Promise<void> {
    const { clock, log } = this.#deps;
    const { drainMs, drainNoticeMs } = this.#config;
    this.health.setReady(false);
    log.info({ open_streams: this.#openStreams, drain_ms: drainMs }, "ext_proc draining");
    const endMs = clock.nowMs() + drainMs;
    await sleep(clock, Math.min(drainNoticeMs, drainMs), this.#stopping.signal);
    if (this.#openStreams === 0 || this.#stopping.signal.aborted) return;
    const idle = new AbortController();
    this.#onIdle = (): void => idle.abort();
    const signal = AbortSignal.any([idle.signal, this.#stopping.signal]);
    await sleep(clock, Math.max(0, endMs - clock.nowMs()), signal);
    if (this.#openStreams > 0) {
      log.warn({ open_streams: this.#openStreams }, "ext_proc drain ends with open streams");
    }
  }

  async stop(): Promise<void> {
    this.health.setReady(false);
    this.#stopping.abort();
    const closed = this.#listeners.map((listener) => listener.close());
    this.#listeners = [];
    this.#server.forceShutdown();
    this.#healthServer.forceShutdown();
    await Promise.all(closed);
  }

  #serve(call: ProcessCall): void {
    const { bodyBytesMax, bodyMode, deadlineMs } = this.#config;
    const session = new Session({
      bodyBytesMax,
      bodyBudget: this.#bodyBudget,
      bodyModeDefault: bodyMode,
      claimRequestId: (clientId): ClaimedId => this.#requestIds.claim(clientId),
    });
    this.#openStreams += 1;
    const onClosed = (): void => {
      session.dispose();
      if (session.requestId !== null) this.#requestIds.release(session.requestId);
      this.#openStreams -= 1;
      if (this.#openStreams === 0) this.#onIdle();
    };
    new GrpcStream(call, session, { ...this.#deps, deadlineMs, onClosed }).start();
  }
}
