/** A thread that answers each question, until it is told to hang. */
import { parentPort } from "node:worker_threads";

export type ToStalling =
  | { readonly kind: "ask"; readonly id: number }
  | { readonly kind: "hang" }
  | { readonly kind: "stop" };

parentPort?.on("message", (message: ToStalling) => {
  if (message.kind === "stop") process.exit(0);
  if (message.kind === "ask") parentPort?.postMessage({ kind: "told", id: message.id, value: 7 });
  else for (;;);
});
parentPort?.postMessage({ kind: "begun" });
