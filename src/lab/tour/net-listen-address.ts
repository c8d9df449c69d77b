/** Whether an address can be listened on, before it is given to a program that would share it. */
import { createServer } from "node:net";
import { messageOf } from "../../core/errors.ts";

const LOOPBACK_ANY_PORT = "127.0.0.1:0";

export interface ListenChoice {
  /** The wanted address, or one on which a free port will be taken. */
  readonly address: string;
  /** Why the wanted one was not taken; null when it was. */
  readonly refusal: string | null;
}

/** Envoy shares ports with other Envoys, so that a taken one would not be noticed. */
export async function chooseListenAddress(wanted: string): Promise<ListenChoice> {
  const colon = wanted.lastIndexOf(":");
  const host = wanted.slice(0, colon).replace(/^\[|\]$/g, "");
  const probe = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once("error", reject);
      probe.listen({ host, port: Number(wanted.slice(colon + 1)) }, resolve);
    });
    await new Promise<void>((resolve) => probe.close(() => resolve()));
    return { address: wanted, refusal: null };
  } catch (reason) {
    return { address: LOOPBACK_ANY_PORT, refusal: messageOf(reason) };
  }
}
