/** What every decoder must do; event-decoder.test.ts runs this suite for each engine. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { largePayload } from "../../test/harness/large-payload.ts";
import { mutatePayload } from "../../test/harness/mutate.ts";
import { seededRandom } from "../core/random.ts";
import type { EventDecoder } from "./event-decoder.ts";
import { PAYLOAD_BYTES_MAX, VALUES_BYTES_MAX } from "./event-payload.ts";
import { EVENTS_MAX, type KvEventBatch } from "./kv-event.ts";

export interface DecoderCase {
  readonly createDecoder: () => EventDecoder;
  /** Messages of a stream, in order. */
  readonly samples: readonly Uint8Array[];
  /** A removal of one block by its hash. */
  readonly removalOf: (hash: bigint) => Uint8Array;
  /** Removals of one block whose hash is a number with a fraction or an exponent, of value 1. */
  readonly floats: readonly Uint8Array[];
  /** A removal, an event of an unknown kind, a malformed event, a removal with an unknown field. */
  readonly mixed: Uint8Array;
}

export function eventDecoderContract(decoderCase: DecoderCase): void {
  const { createDecoder, samples, removalOf, floats, mixed } = decoderCase;

  it("decodes every sample, and uses its events", () => {
    const decoder = createDecoder();
    const batches = samples.map((payload) => usable(decoder, payload));
    const events = batches.flatMap((batch) => batch?.events ?? []);
    expect(batches).not.toContain(null);
    expect(events.filter(({ type }) => type === "stored").length).toBeGreaterThan(0);
    expect(events.filter(({ type }) => type === "skipped")).toEqual([]);
  });

  it("skips events that are unknown or malformed, and keeps the rest of the batch", () => {
    expect(usable(createDecoder(), mixed)?.events).toMatchObject([
      { type: "removed" },
      { type: "skipped", reason: "unknown-tag" },
      { type: "skipped", reason: "malformed-event" },
      { type: "removed" },
    ]);
  });

  it("takes hashes as their low 64 bits, whatever their sign", () => {
    const hash = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n });
    fc.assert(
      fc.property(hash, (value) => {
        expect(usable(createDecoder(), removalOf(value))?.events).toMatchObject([
          { type: "removed", handles: BigUint64Array.of(value) },
        ]);
      }),
    );
  });

  it("skips events whose hash is no integer, though its value is one", () => {
    for (const payload of floats) {
      const batch = usable(createDecoder(), payload);
      expect(batch?.events).toEqual([{ type: "skipped", reason: "malformed-event" }]);
    }
  });

  describe("never throws, and says no more than it was told", () => {
    it("on changed samples", () => {
      const decoder = createDecoder();
      fc.assert(
        fc.property(fc.constantFrom(...samples), fc.nat(), (payload, seed) => {
          usable(decoder, mutatePayload(payload, seededRandom(seed)));
        }),
        { numRuns: 1000 },
      );
    });

    it("on random bytes", () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
          usable(createDecoder(), bytes);
        }),
        { numRuns: 1000 },
      );
    });

    it("on nesting without end", () => {
      for (const byte of [0x91, 0x81, 0x5b, 0x7b]) {
        expect(usable(createDecoder(), new Uint8Array(100_000).fill(byte))).toBeNull();
      }
    });
  });

  it("refuses what is too long unseen", () => {
    const decoded = createDecoder().decode(new Uint8Array(PAYLOAD_BYTES_MAX + 1));
    expect(decoded).toMatchObject({ ok: false, reason: "oversized" });
  });

  it("refuses what would take too much memory, whatever it is made of", () => {
    for (let seed = 0; seed < 100; seed += 1) {
      const payload = largePayload(seededRandom(seed));
      const batch = usable(createDecoder(), payload);
      const events = batch?.events ?? [];
      expect(events.length).toBeLessThanOrEqual(EVENTS_MAX);
      const lists = events.flatMap((event) =>
        event.type === "stored" || event.type === "removed" ? [event.handles.byteLength] : [],
      );
      expect(lists.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThanOrEqual(VALUES_BYTES_MAX);
    }
  });

  it("reads the next message as well after one that it refused", () => {
    const [first, second] = [createDecoder(), createDecoder()];
    for (const payload of samples.slice(0, 20)) {
      usable(second, payload.subarray(0, -1));
      expect(first.decode(payload)).toEqual(second.decode(payload));
    }
  });
}

/** Null: refused. Checks what holds for any batch. */
function usable(decoder: EventDecoder, payload: Uint8Array): KvEventBatch | null {
  const decoded = decoder.decode(payload);
  if (!decoded.ok) {
    expect(decoded.detail).not.toBe("");
    return null;
  }
  let values = 0;
  for (const event of decoded.value.events) {
    values += 1;
    if (event.type !== "stored" && event.type !== "removed") continue;
    values += event.handles.length + (event.type === "stored" ? event.tokens.length : 0);
    expect(event.handles).toBeInstanceOf(BigUint64Array);
  }
  expect(values).toBeLessThanOrEqual(2 * payload.length);
  return decoded.value;
}
