/** What can happen to the bytes of one message on its way. Sequence number and topic stay readable. */
import type { Random } from "../../core/random.ts";

/** `truncate`: half of the payload. `garbage`: random bytes of its length. `frames`: not three. */
export type Damage = "truncate" | "garbage" | "frames";

/** Frames of a KV event message: topic, sequence number, payload. */
export type MessageFrames = readonly Uint8Array[];

export function damaged(
  frames: MessageFrames,
  damage: Damage,
  options: { readonly random: Random; readonly framesSent: number },
): MessageFrames {
  const [topic, seq, payload] = frames;
  if (topic === undefined || seq === undefined || payload === undefined) return frames;
  switch (damage) {
    case "truncate":
      return [topic, seq, payload.subarray(0, Math.floor(payload.length / 2))];
    case "garbage":
      return [topic, seq, randomBytes(options.random, payload.length)];
    case "frames": {
      const extra = Array.from({ length: Math.max(0, options.framesSent - 3) }, () => payload);
      return [topic, seq, payload, ...extra].slice(0, options.framesSent);
    }
  }
}

export function randomBytes(random: Random, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => Math.floor(random.next() * 256));
}
