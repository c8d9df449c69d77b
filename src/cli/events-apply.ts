/** `kvatlas events apply`: files in, a line for each prompt out. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import type { EngineName } from "../core/engine-name.ts";
import { KvError, messageOf } from "../core/errors.ts";
import { applyCapture, promptsSchema } from "../events/applied-capture.ts";
import { parseCaptureLine } from "../events/capture.ts";
import type { EventMessage } from "../events/frames.ts";
import { parseReply } from "../events/zmq-replay.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { printLine } from "./print.ts";

/** As commander hands them over. */
export interface ApplyFlags {
  readonly prompts: string;
  readonly engine: EngineName;
  readonly after?: number;
  readonly replay?: string;
  readonly start?: number;
}

const exchangesSchema = z.object({
  exchanges: z.array(
    z.object({
      start_seq: z.int().min(0),
      reply_messages_frames_hex: z.array(z.array(z.string())),
    }),
  ),
});

export async function printAppliedCapture(file: string, flags: ApplyFlags): Promise<void> {
  const messages = readMessages(file).slice(0, flags.after);
  const prompts = parse(flags.prompts, promptsSchema);
  const replies = flags.replay === undefined ? null : readReplies(flags.replay, flags.start ?? 0);
  const hasher = await createBlockHasher(0);
  const { engine } = flags;
  for (const line of applyCapture({ messages, engine, prompts, replies, hasher })) {
    await printLine(JSON.stringify(line));
  }
}

function readMessages(file: string): EventMessage[] {
  return read(file)
    .split("\n")
    .flatMap((line, position) => {
      if (line.trim() === "") return [];
      const message = parseCaptureLine(line);
      if (message.ok) return [message.value];
      throw new KvError("ERR_CAPTURE_INVALID", `${file}:${position + 1}: ${message.detail}`);
    });
}

/** Replies of the exchange that began at `start`, without the end marker. */
function readReplies(file: string, start: number): EventMessage[] {
  const { exchanges } = parse(file, exchangesSchema);
  const exchange = exchanges.find(({ start_seq: seq }) => seq === start);
  if (exchange === undefined) {
    const starts = exchanges.map(({ start_seq: seq }) => seq).join(", ");
    const message = `${file}: no exchange starts at ${start}; there are ${starts}`;
    throw new KvError("ERR_CAPTURE_INVALID", message);
  }
  return exchange.reply_messages_frames_hex.flatMap((frames) => {
    const reply = parseReply(frames.map((hex) => Buffer.from(hex, "hex")));
    if (!reply.ok) throw new KvError("ERR_CAPTURE_INVALID", `${file}: ${reply.detail}`);
    return reply.value === "end" ? [] : [reply.value];
  });
}

function parse<Value>(file: string, schema: z.ZodType<Value>): Value {
  try {
    return schema.parse(JSON.parse(read(file)));
  } catch (cause) {
    if (cause instanceof KvError) throw cause;
    const detail = cause instanceof z.ZodError ? z.prettifyError(cause) : messageOf(cause);
    throw new KvError("ERR_CAPTURE_INVALID", `${file}: ${detail}`, { cause });
  }
}

function read(file: string): string {
  try {
    // Some editors begin a file with a byte order mark.
    return readFileSync(file, "utf8").replace(/^\uFEFF/, "");
  } catch (cause) {
    throw new KvError("ERR_CAPTURE_INVALID", `${file}: ${messageOf(cause)}`, { cause });
  }
}
