/** Binds a server to an address of the configuration. */
import type net from "node:net";
import { KvError, messageOf } from "../core/errors.ts";

/**
 * `address`: host:port; port 0 takes a free one. Resolves with host:port as bound; rejects with KvError
 * ERR_PORT_IN_USE or ERR_CONFIG_INVALID.
 */
export function listenOn(server: net.Server, address: string): Promise<string> {
  const colon = address.lastIndexOf(":");
  const hostText = address.slice(0, colon);
  const place = { host: hostText.replace(/^\[|\]$/g, ""), port: Number(address.slice(colon + 1)) };
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === "EADDRINUSE";
      reject(
        isTaken
          ? new KvError("ERR_PORT_IN_USE", `address ${address} is in use`, { cause })
          : new KvError("ERR_CONFIG_INVALID", `cannot listen on ${address}: ${messageOf(cause)}`, {
              cause,
            }),
      );
    });
    server.listen(place, () => {
      const bound = server.address();
      resolve(`${hostText}:${typeof bound === "object" && bound !== null ? bound.port : 0}`);
    });
  });
}
