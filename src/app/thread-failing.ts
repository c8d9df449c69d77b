/** How a thread of the router ends when its code fails: its sockets go first, and then the thread. */
import type { MessagePort } from "node:worker_threads";
import { messageOf } from "../core/errors.ts";
import { nodeClock } from "../core/node-clock.ts";
import type { FromThread } from "./thread-life.ts";

/** Wait for the sockets of a thread that failed, ms. */
const CLOSE_MS_MAX = 2000;

/**
 * From now on what is uncaught is told as "crashed", and ends the thread once `close` is done: torn down
 * with sockets that are read or have open streams, a thread may take the process with it.
 */
export function endWhenFailing(port: MessagePort, close: () => Promise<void>): void {
  let isFailing = false;
  const end = async (error: unknown): Promise<void> => {
    if (isFailing) return;
    isFailing = true;
    port.postMessage({ kind: "crashed", error: messageOf(error) } satisfies FromThread);
    const late = new Promise<void>((resolve) => nodeClock.after(CLOSE_MS_MAX, resolve));
    await Promise.race([close().catch(() => {}), late]);
    process.exit(1);
  };
  process.on("uncaughtException", (error) => void end(error));
}
