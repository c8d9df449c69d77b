/** A decoded message as a plain value, its events made: some decoders make them where they are asked for. */
import type { KvEventBatch } from "../../src/events/kv-event.ts";

export function madeBatch({ ts, rank, events }: KvEventBatch): KvEventBatch {
  return { ts, rank, events };
}
