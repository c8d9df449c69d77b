/** Runs a real nats-server with JetStream on loopback. */
import type { Clock } from "../core/clock.ts";
import { type RunningChild, startChild } from "./process-child.ts";

export interface NatsOptions {
  readonly binary: string;
  /** JetStream's files; survive a stop, so that a restart on the same folder has the streams. */
  readonly storeFolder: string;
  /** Default: a free one, chosen by the server. */
  readonly port?: number;
  readonly clock: Clock;
}

export interface RunningNats extends RunningChild {
  /** host:port for clients. */
  readonly address: string;
  readonly port: number;
}

/** Throws KvError when the server does not become ready, for example on a taken port. */
export async function startNats(options: NatsOptions): Promise<RunningNats> {
  let port = options.port ?? 0;
  const child = await startChild({
    name: "nats-server",
    command: options.binary,
    args: [
      ...["--addr", "127.0.0.1", "--port", String(options.port ?? -1)],
      ...["--jetstream", "--store_dir", options.storeFolder],
    ],
    clock: options.clock,
    isReadyLine: (line) => {
      const listening = /client connections on .*:(\d+)$/.exec(line);
      if (listening !== null) port = Number(listening[1]);
      return line.includes("Server is ready");
    },
  });
  return {
    address: `127.0.0.1:${port}`,
    port,
    pid: child.pid,
    exited: child.exited,
    outputTail: () => child.outputTail(),
    stop: () => child.stop(),
    kill: () => child.kill(),
  };
}
