/** `kvatlas events apply`: files in, a line for each prompt out. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import type { EngineName } from "../core/engine-name.ts";
import { KvError, messageOf } from "../core/errors.ts";
import { applyCapture, promptsSchema } from "../events/applied-capture.ts";
import { jsonLine } from "../events/capture.ts";
import type { EventMessage } from "../events/frames.ts";
import { parseReply } from "../events/zmq-replay.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { readCapture, withoutMark } from "./file-capture.ts";
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
      /** DEALER where nothing is said. */
      socket: z.string().optional(),
      start_seq: z.int().min(0),
      reply_messages_frames_hex: z.array(
        z.array(z.string().regex(/^[0-9a-fA-F]*$/, "not hex digits")),
      ),
    }),
  ),
});

/**
 * What stands before a line that is no message is applied and printed; then that line is named, by
 * KvError ERR_CAPTURE_INVALID.
 */
export async function printAppliedCapture(file: string, flags: ApplyFlags): Promise<void> {
  const { messages, problem } = await readMessages(file, flags.after);
  const prompts = parse(flags.prompts, promptsSchema);
  const replies = flags.replay === undefined ? null : readReplies(flags.replay, flags.start ?? 0);
  const hasher = await createBlockHasher(0);
  const isCut = problem !== null;
  const { engine } = flags;
  for (const line of applyCapture({ messages, isCut, engine, prompts, replies, hasher })) {
    await printLine(jsonLine(line));
  }
  if (problem !== null) throw new KvError("ERR_CAPTURE_INVALID", problem);
}

/** The first messages, at most `count`, and what ended them; null: nothing else than the file. */
async function readMessages(
  file: string,
  count = Number.POSITIVE_INFINITY,
): Promise<{ readonly messages: EventMessage[]; readonly problem: string | null }> {
  const messages: EventMessage[] = [];
  if (count > 0) {
    for await (const message of readCapture(file)) {
      if (!message.ok) return { messages, problem: message.detail };
      if (messages.push(message.value) >= count) break;
    }
  }
  return { messages, problem: null };
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
  // A REQ socket takes the empty frame away that its replies begin with.
  const taken = exchange.socket === "REQ" ? [""] : [];
  return exchange.reply_messages_frames_hex.flatMap((frames) => {
    const reply = parseReply([...taken, ...frames].map((hex) => Buffer.from(hex, "hex")));
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
    return withoutMark(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new KvError("ERR_CAPTURE_INVALID", `${file}: ${messageOf(cause)}`, { cause });
  }
}
