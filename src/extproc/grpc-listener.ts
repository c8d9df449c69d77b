/** Serves the ext_proc address in one thread: a gRPC stream for each HTTP request. */
import { type Clock, sleep } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import type { BodyBudget } from "./body-budget.ts";
import type { ExtProcConfig } from "./config.ts";
import { Deadlines } from "./deadlines.ts";
import type { TlsMaterial } from "./file-tls.ts";
import {
  EXT_PROC_SERVICE,
  extProcCodec,
  loadExtProcPackage,
  PROCESS_PATH,
} from "./grpc-definition.ts";
import { GrpcHealth } from "./grpc-health.ts";
import { GrpcStream, type StreamDeps } from "./grpc-stream.ts";
import type { Http2GrpcCall } from "./http2-grpc-call.ts";
import { type Http2GrpcServer, listenHttp2Grpc } from "./http2-grpc-server.ts";
import type { Picker } from "./picker.ts";
import { type ClaimedId, RequestIds } from "./request-ids.ts";
import { Session, type SessionOptions } from "./session.ts";

/** What a message may hold beside a whole body: headers, metadata, framing; bytes. */
const MESSAGE_OVERHEAD_BYTES = 1_048_576;

/** What serves the ext_proc address: a thread, or several. */
export interface EdgeListener {
  /** host:port as bound. */
  readonly address: string;
  readonly openStreams: number;
  /** Of the health service on that address; not ready at first. */
  setReady(isReady: boolean): void;
  /** For connections that come from now on. */
  setTls(tls: TlsMaterial): void;
  /** Resolves when no stream is open, or after `waitMs`, with how many are. */
  idle(waitMs: number): Promise<number>;
  /** Cuts what is open. */
  close(): Promise<void>;
}

export interface GrpcListenerDeps {
  readonly picker: Picker;
  readonly bodyBudget: BodyBudget;
  /** Null: plain HTTP/2. */
  readonly tls: TlsMaterial | null;
  /** See Http2GrpcOptions. */
  readonly threads?: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly meter: Meter;
}

/** Rejects with KvError where the address cannot be had. */
export async function listenExtProc(
  config: ExtProcConfig,
  deps: GrpcListenerDeps,
): Promise<EdgeListener> {
  const listener = new GrpcListener(config, deps);
  await listener.start();
  return listener;
}

class GrpcListener implements EdgeListener {
  readonly #health = new GrpcHealth(EXT_PROC_SERVICE);
  readonly #config: ExtProcConfig;
  readonly #deps: GrpcListenerDeps;
  readonly #requestIds: RequestIds;
  /** What all streams share. */
  readonly #sessionOptions: SessionOptions;
  readonly #streamDeps: StreamDeps;
  readonly #closing = new AbortController();
  #server: Http2GrpcServer | null = null;
  #openStreams = 0;
  #onIdle: () => void = () => {};

  constructor(config: ExtProcConfig, deps: GrpcListenerDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#requestIds = new RequestIds(deps.random);
    const { bodyBytesMax, bodyMode, deadlineMs, isFallbackNamed, isTestSelectionOn } = config;
    const { bodyBudget } = deps;
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
    return this.#server?.address ?? "";
  }

  get openStreams(): number {
    return this.#openStreams;
  }

  async start(): Promise<void> {
    const { clock, meter, tls, threads = 1 } = this.#deps;
    const process = [PROCESS_PATH, (call: Http2GrpcCall): void => this.#serve(call)] as const;
    this.#server = await listenHttp2Grpc({
      ...{ clock, tls, threads, address: this.#config.listen },
      handlers: new Map([...this.#health.handlers(), process]),
      onRefused: (reason) => meter.count("kvatlas_extproc_refused_total", { reason }),
    });
  }

  setReady(isReady: boolean): void {
    this.#health.setReady(isReady);
  }

  setTls(tls: TlsMaterial): void {
    this.#server?.setTls(tls);
  }

  async idle(waitMs: number): Promise<number> {
    if (this.#openStreams > 0) {
      const idle = new AbortController();
      this.#onIdle = (): void => idle.abort();
      const signal = AbortSignal.any([idle.signal, this.#closing.signal]);
      await sleep(this.#deps.clock, waitMs, signal);
    }
    return this.#openStreams;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#server?.close();
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
