/** A nats-server whose files outlive it, and that comes back at the same address. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type RunningChild, startChild } from "../../src/lab/process-child.ts";
import { startNats } from "../../src/lab/process-nats.ts";

export class NatsServer {
  readonly #folder = mkdtempSync(join(tmpdir(), "kvatlas-nats-"));
  readonly #binary: string;
  readonly #port: number;
  readonly #connections: NatsConnection[] = [];
  #running: RunningChild | null = null;

  constructor(binary: string, port: number) {
    this.#binary = binary;
    this.#port = port;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    const place = { storeFolder: this.#folder, port: this.#port };
    this.#running = await startNats({ binary: this.#binary, clock: nodeClock, ...place });
  }

  /** With settings that `startNats` does not know. */
  async startWith(settings: string): Promise<void> {
    const file = join(this.#folder, "nats.conf");
    writeFileSync(file, `${settings}\njetstream { store_dir: "${this.#folder}" }\n`);
    this.#running = await startChild({
      ...{ name: "nats-server", command: this.#binary, clock: nodeClock },
      args: ["--addr", "127.0.0.1", "--port", String(this.#port), "--config", file],
      isReadyLine: (line) => line.includes("Server is ready"),
    });
  }

  async kill(): Promise<void> {
    await this.#running?.kill();
  }

  /** Comes back without what it had stored. */
  async startEmpty(): Promise<void> {
    rmSync(this.#folder, { recursive: true, force: true });
    mkdirSync(this.#folder);
    await this.start();
  }

  async stop(): Promise<void> {
    for (const connection of this.#connections) await connection.close();
    await this.#running?.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** An operator's connection of its own. */
  async manager(): Promise<JetStreamManager> {
    const connection = await connect({ servers: [this.address] });
    this.#connections.push(connection);
    return jetstreamManager(connection);
  }
}
