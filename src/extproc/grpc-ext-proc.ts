/** The ext_proc service of the process: its listener, its health, its certificates, its end. */
import { type Clock, sleep } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Random } from "../core/random.ts";
import { BodyBudget } from "./body-budget.ts";
import type { ExtProcConfig } from "./config.ts";
import { FileTls, type TlsMaterial } from "./file-tls.ts";
import { EXT_PROC_SERVICE } from "./grpc-definition.ts";
import { GrpcHealth } from "./grpc-health.ts";
import { type EdgeListener, listenExtProc } from "./grpc-listener.ts";
import { type Http2GrpcServer, listenHttp2Grpc } from "./http2-grpc-server.ts";
import type { Picker } from "./picker.ts";

export interface ExtProcServiceDeps {
  /** Begins to serve the ext_proc address. */
  readonly listen: (tls: TlsMaterial | null) => Promise<EdgeListener>;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export interface ExtProcDeps extends Omit<ExtProcServiceDeps, "listen"> {
  readonly picker: Picker;
  readonly random: Random;
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

/** Serves in this thread. Throws KvError ERR_PORT_IN_USE when one of the two addresses is taken. */
export function startExtProcServer(
  config: ExtProcConfig,
  deps: ExtProcDeps,
): Promise<ExtProcServer> {
  const bodyBudget = new BodyBudget(config.bodiesBytesMax);
  const listen: ExtProcServiceDeps["listen"] = (tls) =>
    listenExtProc(config, { ...deps, bodyBudget, tls });
  return startExtProcService(config, { ...deps, listen });
}

/** The same, served by whatever listens. */
export async function startExtProcService(
  config: ExtProcConfig,
  deps: ExtProcServiceDeps,
): Promise<ExtProcServer> {
  const service = new RunningService(config, deps);
  await service.start();
  return service;
}

class RunningService implements ExtProcServer {
  readonly health: ExtProcServer["health"] = {
    setReady: (isReady): void => {
      this.#health.setReady(isReady);
      this.#listener?.setReady(isReady);
    },
  };
  readonly #health = new GrpcHealth(EXT_PROC_SERVICE);
  readonly #config: ExtProcConfig;
  readonly #deps: ExtProcServiceDeps;
  readonly #stopping = new AbortController();
  #listener: EdgeListener | null = null;
  #healthServer: Http2GrpcServer | null = null;

  constructor(config: ExtProcConfig, deps: ExtProcServiceDeps) {
    this.#config = config;
    this.#deps = deps;
  }

  get address(): string {
    return this.#listener?.address ?? "";
  }

  get healthAddress(): string {
    return this.#healthServer?.address ?? "";
  }

  get openStreams(): number {
    return this.#listener?.openStreams ?? 0;
  }

  async start(): Promise<void> {
    const { clock, meter, listen } = this.#deps;
    const { healthListen, tls } = this.#config;
    const files = tls === null ? null : new FileTls(tls, this.#deps);
    try {
      const listener = await listen((await files?.read()) ?? null);
      this.#listener = listener;
      this.#healthServer = await listenHttp2Grpc({
        ...{ clock, tls: null, address: healthListen },
        handlers: this.#health.handlers(),
        onRefused: (reason) => meter.count("kvatlas_extproc_refused_total", { reason }),
      });
      void files?.follow((material) => listener.setTls(material), this.#stopping.signal);
    } catch (reason) {
      await this.stop();
      throw reason;
    }
    this.health.setReady(true);
    const addresses = { address: this.address, health_address: this.healthAddress };
    this.#deps.log.info(addresses, "ext_proc listening");
  }

  async drain(): Promise<void> {
    const { clock, log } = this.#deps;
    const { drainMs, drainNoticeMs } = this.#config;
    this.health.setReady(false);
    log.info({ open_streams: this.openStreams, drain_ms: drainMs }, "ext_proc draining");
    const endMs = clock.nowMs() + drainMs;
    await sleep(clock, Math.min(drainNoticeMs, drainMs), this.#stopping.signal);
    const open = await this.#listener?.idle(Math.max(0, endMs - clock.nowMs()));
    if (open !== undefined && open > 0) {
      log.warn({ open_streams: open }, "ext_proc drain ends with open streams");
    }
  }

  async stop(): Promise<void> {
    this.health.setReady(false);
    this.#stopping.abort();
    const listeners = [this.#listener, this.#healthServer];
    [this.#listener, this.#healthServer] = [null, null];
    await Promise.all(listeners.map((listener) => listener?.close()));
  }
}
