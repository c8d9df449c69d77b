/**
 * Captures: files of one JSON object per engine message, `{"topic", "seq", "payload_hex"}`.
 *
 * Pure: text in, messages out, and back. The form is that of the golden captures in test/golden.
 */
import { z } from "zod";
import { ok, type Result, refused } from "../core/result.ts";
import type { EventMessage } from "./frames.ts";

const captureLineSchema = z.object({
  topic: z.string().default(""),
  seq: z.int().min(0),
  // Not by a pattern of pairs: that takes V8's stack for each of them.
  payload_hex: z
    .string()
    .regex(/^[0-9a-fA-F]*$/, "not hex digits")
    .refine((hex) => hex.length % 2 === 0, "not hex digits in pairs"),
});

export interface CapturedMessage extends EventMessage {
  readonly topic: string;
}

export function parseCaptureLine(line: string): Result<CapturedMessage, "capture-line"> {
  let fields: unknown;
  try {
    fields = JSON.parse(line);
  } catch {
    return refused("capture-line", "not JSON");
  }
  const parsed = captureLineSchema.safeParse(fields);
  if (!parsed.success) return refused("capture-line", z.prettifyError(parsed.error));
  const { topic, seq, payload_hex: hex } = parsed.data;
  return ok({ topic, seq, payload: Buffer.from(hex, "hex") });
}

export function captureLine({ topic, seq, payload }: CapturedMessage): string {
  return jsonLine({ topic, seq, payload_hex: Buffer.from(payload).toString("hex") });
}

/** JSON without any character that ends a line somewhere: Python's splitlines knows more than one. */
export function jsonLine(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u0085\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
