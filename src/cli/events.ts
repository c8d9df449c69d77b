/** `kvatlas events decode` and `record`: captures in, JSON out, and an engine's messages in. */
import { createWriteStream, openSync } from "node:fs";
import type { EngineName } from "../core/engine-name.ts";
import { KvError, messageOf } from "../core/errors.ts";
import { nodeClock } from "../core/node-clock.ts";
import { captureLine, jsonLine } from "../events/capture.ts";
import { captureDecoder } from "../events/decoded-capture.ts";
import { messageJson } from "../events/event-json.ts";
import { parseFrames } from "../events/frames.ts";
import { readZmqEvents } from "../events/zmq-subscriber.ts";
import { readCapture } from "./file-capture.ts";
import { printLine } from "./print.ts";

/** As commander hands them over. */
export interface RecordFlags {
  readonly zmq: string;
  readonly output: string;
  readonly force?: boolean;
  readonly topic: string;
}

/** Prints one line for each message; a line that is no message ends it, naming file and line. */
export async function decodeCapture(file: string, engine: EngineName): Promise<void> {
  const decoder = captureDecoder(engine);
  for await (const message of readCapture(file)) {
    if (!message.ok) throw new KvError("ERR_CAPTURE_INVALID", message.detail);
    const { seq, payload } = message.value;
    await printLine(jsonLine(messageJson(seq, decoder.decode(payload))));
  }
}

/**
 * Writes messages as they come until SIGINT or SIGTERM; says how many, and why others were refused. Throws KvError
 * ERR_CAPTURE_INVALID for a file that is there, unless `force`.
 */
export async function recordCapture({
  zmq,
  output,
  topic,
  force = false,
}: RecordFlags): Promise<void> {
  const fd = open(output, force);
  const abort = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => abort.abort());
  const file = createWriteStream(output, { fd });
  file.on("error", (cause) => {
    process.stderr.write(`${output}: ${cause.message}\n`);
    process.exitCode = 1;
    abort.abort();
  });
  let messages = 0;
  const refusals = new Map<string, number>();
  const refuse = (reason: string): void => {
    refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
  };
  try {
    await readZmqEvents(
      { address: zmq, topic },
      {
        clock: nodeClock,
        ready: Promise.resolve(),
        signal: abort.signal,
        onFrames: (frames) => {
          const message = parseFrames(frames);
          if (!message.ok) {
            refuse(message.reason);
            return;
          }
          messages += 1;
          const name = Buffer.from(frames[0] ?? []).toString("utf8");
          file.write(`${captureLine({ ...message.value, topic: name })}\n`);
        },
        onConnected: () => process.stderr.write(`connected to ${zmq}\n`),
        onViolation: () => refuse("protocol-violation"),
      },
    );
  } catch (cause) {
    throw new KvError("ERR_CONFIG_INVALID", `--zmq ${zmq}: ${messageOf(cause)}`, { cause });
  } finally {
    await new Promise((resolve) => file.end(resolve));
  }
  const total = [...refusals.values()].reduce((sum, times) => sum + times, 0);
  const reasons = [...refusals].map(([reason, times]) => `${reason} ${times}`).join(", ");
  const refused = total === 0 ? "0 refused" : `${total} refused: ${reasons}`;
  process.stderr.write(`${messages} messages written to ${output}, ${refused}\n`);
}

/** A file for nobody else: it holds prompts. */
function open(file: string, isOverwriting: boolean): number {
  try {
    return openSync(file, isOverwriting ? "w" : "wx", 0o600);
  } catch (cause) {
    const isThere = cause instanceof Error && "code" in cause && cause.code === "EEXIST";
    const message = isThere ? "is there already; --force writes over it" : messageOf(cause);
    throw new KvError("ERR_CAPTURE_INVALID", `${file}: ${message}`, { cause });
  }
}
