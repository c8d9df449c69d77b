/** Binds a server to an address of the configuration. */
import net from "node:net";
import { KvError, messageOf } from "../core/errors.ts";

/**
 * `address`: host:port; port 0 takes a free one. `isShared`: other threads listen there as well.
 * Resolves with host:port as bound; rejects with KvError ERR_PORT_IN_USE or ERR_CONFIG_INVALID.
 */
export function listenOn(
  server: net.Server,
  address: string,
  { isShared = false }: { readonly isShared?: boolean } = {},
): Promise<string> {
  const colon = address.lastIndexOf(":");
  const hostText = address.slice(0, colon);
  const place = { host: hostText.replace(/^\[|\]$/g, ""), port: Number(address.slice(colon + 1)) };
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === "EADDRINUSE";
      const why = cause.code === "ENOTSUP" ? "this system lets no threads share it" : null;
      reject(
        isTaken
          ? new KvError("ERR_PORT_IN_USE", `address ${address} is in use`, { cause })
          : new KvError(
              "ERR_CONFIG_INVALID",
              `cannot listen on ${address}: ${why ?? messageOf(cause)}`,
              { cause },
            ),
      );
    });
    server.listen({ ...place, reusePort: isShared }, () => {
      const bound = server.address();
      resolve(`${hostText}:${typeof bound === "object" && bound !== null ? bound.port : 0}`);
    });
  });
}

/**
 * The same address with its port, which nobody listens on: who shares an address would not notice that
 * another process has it. Rejects as `listenOn`.
 */
export async function freeAddress(address: string): Promise<string> {
  const server = net.createServer();
  const bound = await listenOn(server, address);
  await new Promise((resolve) => server.close(resolve));
  return bound;
}
