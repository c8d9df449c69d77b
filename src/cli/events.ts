/** `kvatlas events decode` and `record`: captures in, JSON out, and an engine's messages in. */
import { createReadStream, createWriteStream, openSync } from "node:fs";
import { createInterface } from "node:readline";
import type { EngineName } from "../core/engine-name.ts";
import { KvError, messageOf } from "../core/errors.ts";
import { nodeClock } from "../core/node-clock.ts";
import { captureLine, parseCaptureLine } from "../events/capture.ts";
import { createEventDecoder } from "../events/event-decoder.ts";
import { messageJson } from "../events/event-json.ts";
import { parseFrames } from "../events/frames.ts";
import { readZmqEvents } from "../events/zmq-subscriber.ts";
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
  const decoder = createEventDecoder(engine);
  let lineNumber = 0;
  try {
    for await (const line of createInterface({ input: createReadStream(file) })) {
      lineNumber += 1;
      if (line.trim() === "") continue;
      const message = parseCaptureLine(line);
      if (!message.ok) {
        throw new KvError("ERR_CAPTURE_INVALID", `${file}:${lineNumber}: ${message.detail}`);
      }
      const { seq, payload } = message.value;
      await printLine(JSON.stringify(messageJson(seq, decoder.decode(payload))));
    }
  } catch (cause) {
    if (cause instanceof KvError) throw cause;
    throw new KvError("ERR_CAPTURE_INVALID", `${file}: ${messageOf(cause)}`, { cause });
  }
}

/**
 * Writes messages as they come until SIGINT or SIGTERM; says how many. Throws KvError
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
  let refused = 0;
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
            refused += 1;
            return;
          }
          messages += 1;
          const name = Buffer.from(frames[0] ?? []).toString("utf8");
          file.write(`${captureLine({ ...message.value, topic: name })}\n`);
        },
        onConnected: () => process.stderr.write(`connected to ${zmq}\n`),
        onViolation: () => {
          refused += 1;
        },
      },
    );
  } catch (cause) {
    throw new KvError("ERR_CONFIG_INVALID", `--zmq ${zmq}: ${messageOf(cause)}`, { cause });
  } finally {
    await new Promise((resolve) => file.end(resolve));
  }
  process.stderr.write(`${messages} messages written to ${output}, ${refused} refused\n`);
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
