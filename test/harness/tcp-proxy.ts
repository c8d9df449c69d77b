/** A TCP connection that can be interrupted as a network does: silently, or by resets. */

import type { AddressInfo } from "node:net";
import { createServer, connect as dial, type Server, type Socket } from "node:net";

type Way = "open" | "stalled" | "cut";

export class TcpProxy {
  readonly #server: Server;
  readonly #pairs = new Set<{ readonly client: Socket; readonly server: Socket }>();
  #way: Way = "open";
  /** Connections of clients so far. */
  connections = 0;

  private constructor(target: string) {
    const colon = target.lastIndexOf(":");
    const place = { host: target.slice(0, colon), port: Number(target.slice(colon + 1)) };
    this.#server = createServer((client) => {
      this.connections += 1;
      if (this.#way === "cut") {
        client.destroy();
        return;
      }
      const server = dial(place);
      const pair = { client, server };
      this.#pairs.add(pair);
      const end = (): void => {
        this.#pairs.delete(pair);
        client.destroy();
        server.destroy();
      };
      for (const socket of [client, server]) {
        socket.setNoDelay(true);
        socket.on("error", end);
        socket.on("close", end);
      }
      if (this.#way === "open") join(pair);
    });
  }

  /** `target` is host:port. */
  static async start(target: string): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Nothing passes in either direction, and nobody is told: what is sent waits on its way. */
  stall(): void {
    this.#way = "stalled";
    for (const { client, server } of this.#pairs) {
      client.unpipe(server).pause();
      server.unpipe(client).pause();
    }
  }

  /** Every connection ends, also those that are tried. */
  cut(): void {
    this.#way = "cut";
    for (const { client } of this.#pairs) client.destroy();
  }

  heal(): void {
    const wasStalled = this.#way === "stalled";
    this.#way = "open";
    if (wasStalled) for (const pair of this.#pairs) join(pair);
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.cut();
    await closed;
  }
}

function join({ client, server }: { readonly client: Socket; readonly server: Socket }): void {
  client.pipe(server);
  server.pipe(client);
}
