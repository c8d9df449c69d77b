/** Stores that say less than they seem to, from the decoder to the keyed events. */
import { beforeAll, describe, expect, it } from "vitest";
import { eventSamples, msgpackPayload } from "../../test/harness/event-samples.ts";
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

describe("a connector's stores", () => {
  it.each(["vllm", "lmcache"] as const)("in a stream of %s are named and left out", (engine) => {
    const events = keyed(engine, eventSamples().lmcache);
    expect(events.length).toBeGreaterThan(0);
    expect(new Set(events.map((event) => JSON.stringify(event)))).toEqual(
      new Set(['{"type":"lost","reason":"no-removals"}']),
    );
  });

  it("are not mistaken for vLLM's own offloading, nor for the GPU's in one batch", () => {
    const event = (medium: string): unknown => ["BlockStored", [1n], null, [1, 2], 2, null, medium];
    const payload = msgpackPayload([1.5, ["GPU", "cpu", "CPU"].map(event), 0]);
    expect(keyed("vllm", [payload])).toMatchObject([
      { type: "stored", tier: "gpu" },
      { type: "lost", reason: "no-removals" },
      { type: "stored", tier: "cpu" },
    ]);
    expect(keyed("mooncake", [payload]).every(({ type }) => type === "lost")).toBe(true);
  });
});

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
