/** The ext_proc server: one gRPC stream for each HTTP request that a gateway asks about. */
import { type Clock, sleep } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import { BodyBudget } from "./body-budget.ts";
import type { ExtProcConfig } from "./config.ts";
import { Deadlines } from "./deadlines.ts";
import { FileTls } from "./file-tls.ts";
import {
  EXT_PROC_SERVICE,
  extProcCodec,
  loadExtProcPackage,
  PROCESS_PATH,
} from "./grpc-definition.ts";
import { GrpcHealth } from "./grpc-health.ts";
import { GrpcStream, type StreamDeps } from "./grpc-stream.ts";
import type { Http2GrpcCall } from "./http2-grpc-call.ts";
import {
  type Http2GrpcServer,
  listenHttp2Grpc,
  type TransportRefusal,
} from "./http2-grpc-server.ts";
import type { Picker } from "./picker.ts";
import { type ClaimedId, RequestIds } from "./request-ids.ts";
import { Session, type SessionOptions } from "./session.ts";

/** What a message may hold beside a whole body: headers, metadata, framing; bytes. */
const MESSAGE_OVERHEAD_BYTES = 1_048_576;

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
  /** What all streams share. */
  readonly #sessionOptions: SessionOptions;
  readonly #streamDeps: StreamDeps;
  readonly #stopping = new AbortController();
  #listeners: Http2GrpcServer[] = [];
  #openStreams = 0;
  #onIdle: () => void = () => {};

  constructor(config: ExtProcConfig, deps: ExtProcDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#requestIds = new RequestIds(deps.random);
    const { bodyBytesMax, bodyMode, deadlineMs, isFallbackNamed, isTestSelectionOn } = config;
    const bodyBudget = new BodyBudget(config.bodiesBytesMax);
    const messageBytesMax = bodyBytesMax + MESSAGE_OVERHEAD_BYTES;
    this.#sessionOptions = {
      ...{ bodyBytesMax, isFallbackNamed, isTestSelectionOn, bodyModeDefault: bodyMode },
      bodyBudget,
      claimRequestId: (clientId): ClaimedId => this.#requestIds.claim(clientId),
    };
    this.#streamDeps = {
      ...{ ...deps, deadlineMs, frameLimits: { messageBytesMax, budget: bodyBudget } },
      codec: extProcCodec(loadExtProcPackage().definition),
      deadlines: new Deadlines(deps.clock, deadlineMs),
      onClosed: (session): void => this.#closed(session),
    };
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
    const onRefused = (reason: TransportRefusal): void => {
      this.#deps.meter.count("kvatlas_extproc_refused_total", { reason });
    };
    const { listen, healthListen, tls } = this.#config;
    const { clock } = this.#deps;
    const health = this.health.handlers();
    const process = [PROCESS_PATH, (call: Http2GrpcCall): void => this.#serve(call)] as const;
    const common = { clock, onRefused };
    const files = tls === null ? null : new FileTls(tls, this.#deps);
    try {
      const main = await listenHttp2Grpc({
        ...{ ...common, address: listen, tls: (await files?.read()) ?? null },
        handlers: new Map([...health, process]),
      });
      this.#listeners.push(main);
      this.#listeners.push(
        await listenHttp2Grpc({ ...common, address: healthListen, tls: null, handlers: health }),
      );
      void files?.follow((material) => main.setTls(material), this.#stopping.signal);
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
    await Promise.all(closed);
  }

  #serve(call: Http2GrpcCall): void {
    this.#openStreams += 1;
    new GrpcStream(call, new Session(this.#sessionOptions), this.#streamDeps).start();
  }

  #closed(session: Session): void {
    session.dispose();
    if (session.requestId !== null) this.#requestIds.release(session.requestId);
    this.#openStreams -= 1;
    if (this.#openStreams === 0) this.#onIdle();
  }
}
