/** Stores that say less than they seem to, from the decoder to the keyed events. */
import { beforeAll, describe, expect, it } from "vitest";
import { eventSamples } from "../../test/harness/event-samples.ts";
import { loadMessages } from "../../test/harness/golden.ts";
import type { EngineName } from "../core/engine-name.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { createEventDecoder } from "./event-decoder.ts";
import { HolderKeyer } from "./holder-keyer.ts";
import type { KeyedEvent } from "./keyed-batch.ts";

let hasher: BlockHasher;
beforeAll(async () => {
  hasher = await createBlockHasher(7);
});

function keyed(engine: EngineName, payloads: readonly Uint8Array[]): KeyedEvent[] {
  const keyer = new HolderKeyer({ model: "m", hasher });
  const decoder = createEventDecoder(engine);
  return payloads.flatMap((payload) => {
    const decoded = decoder.decode(payload);
    return keyer.keyEvents(decoded.ok ? decoded.value : null);
  });
}

describe("EAGLE's pairs", () => {
  it("are placed by their first tokens, and never leave the holder EXACT", () => {
    const payloads = loadMessages("sglang-0.5.23/m_bigram_eagle").map(({ payload }) => payload);
    const events = keyed("sglang", payloads);
    const stores = events.filter(({ type }) => type === "stored");
    const losses = events.filter(
      (event) => event.type === "lost" && event.reason === "token-pairs",
    );
    expect(stores.length).toBeGreaterThan(0);
    expect(losses).toHaveLength(stores.length);
  });
});

describe("Dynamo's stores", () => {
  it("of blocks never seen are counted: their hashes make no key", () => {
    const [stored] = eventSamples().dynamo;
    const events = keyed("dynamo", stored === undefined ? [] : [stored]);
    expect(events).toContainEqual({ type: "lost", reason: "unknown-handle" });
  });
});
