import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readMessage } from "./read-message.ts";

const MODEL = {
  ...{ prefill_s_per_token: 3e-5, attn_s_per_pair: 1e-9, decode_s_per_ctx_token: 4e-8 },
  ...{ step_base_s: 0.007, chunk_tokens: 8192, kv_bytes_per_token: 131_072, cpu_bw: 25e9 },
  disk_bw: 5e9,
};
const POD = {
  id: "p0",
  state: "ready",
  role: "both",
  kv_tokens: 4000,
  max_seqs: 8,
  tiers: ["gpu"],
};
const INIT = { op: "init", v: 1, t: 0, replica: 0, replicas: 1, block_size: 512, pods: [POD] };

/** One message of every kind, as the protocol gives them. */
const MESSAGES = [
  { ...INIT, model: MODEL },
  { op: "pod", t: 1, pod: "p0", state: "draining" },
  { op: "kv", t: 1, pod: "p0", type: "stored", tier: "disk", blocks: [0, 4_294_967_295] },
  { op: "metrics", t: 1, pod: "p0", scraped_at: 0.9, waiting: 1, running: 2, kv_usage: 0.5 },
  { op: "route", t: 1, id: 0, session: "1", input_tokens: 9, blocks: [0, 1], exclude: ["p1"] },
  { op: "first_token", t: 1, id: 0 },
  { op: "progress", t: 1, pod: "p0", ids: [0, 1], tokens: 16 },
  { op: "finish", t: 1, id: 0, output_tokens: 3, ok: false },
  { op: "refused", t: 1, id: 0, pod: "p0" },
  { op: "peer", t: 1, share: "0;" },
  { op: "end" },
];

describe("readMessage", () => {
  it.each(MESSAGES)("reads $op as it is", (message) => {
    expect(readMessage(message)).toEqual({ ok: true, value: { message, unknownFields: 0 } });
  });

  it.each(MESSAGES)("counts unknown fields of $op and leaves them out", (message) => {
    const read = readMessage({ ...message, colour: "blue", __proto__x: 1 });
    expect(read).toEqual({ ok: true, value: { message, unknownFields: 2 } });
  });

  it.each(["", "routes", "__proto__", "constructor", 7, null])("knows no op %j", (op) => {
    expect(readMessage({ op, t: 0 })).toMatchObject({ ok: false, reason: "unknown-op" });
  });

  it.each([
    { op: "route", t: 1, id: 0, input_tokens: -1 },
    { op: "route", t: 1, id: {}, input_tokens: 1 },
    { op: "route", t: 1, id: 0, input_tokens: 1, blocks: [0.5] },
    { op: "kv", t: 1, pod: "p0", type: "stored", tier: "tape", blocks: [] },
    { op: "metrics", t: 1, pod: "p0", scraped_at: 0, waiting: -3 },
    { op: "progress", t: 1, ids: [0], tokens: Number.NaN },
    { op: "pod", t: "1", pod: "p0", state: "ready" },
    { ...INIT, model: MODEL, pods: [POD, POD] },
    { ...INIT, model: MODEL, v: 2 },
    { ...INIT, model: MODEL, replica: 7, replicas: 0 },
    { ...INIT, model: MODEL, replica: 2, replicas: 2 },
    { ...INIT, model: { ...MODEL, chunk_tokens: 1e300 } },
    { ...INIT, model: { ...MODEL, prefill_s_per_token: 1e-320 } },
    { ...INIT, model: MODEL, t: 1e306 },
    { op: "first_token", t: 1e306, id: 0 },
    { op: "metrics", t: 1, pod: "p0", scraped_at: -1e306 },
    { op: "metrics", t: 1, pod: "p0", scraped_at: 0, waiting: 1e308 },
    { op: "route", t: 1, id: 0, input_tokens: 1, blocks: [2 ** 32] },
  ])("refuses fields that are not of their form: %j", (message) => {
    expect(readMessage(message)).toMatchObject({ ok: false, reason: "field-invalid" });
  });

  it("takes a share over 1 for a full pool", () => {
    const metrics = { op: "metrics", t: 1, pod: "p0", scraped_at: 1, waiting: 0, running: 1 };
    expect(readMessage({ ...metrics, kv_usage: 1.25 })).toMatchObject({
      value: { message: { kv_usage: 1 } },
    });
  });

  it("never throws, whatever JSON comes", () => {
    const anyField = fc.oneof(fc.jsonValue(), fc.double(), fc.array(fc.double()));
    const mutated = fc
      .tuple(fc.constantFrom(...MESSAGES), fc.dictionary(fc.string(), anyField))
      .chain(([message, extra]) =>
        fc
          .tuple(fc.constantFrom(...Object.keys(message)), anyField)
          .map(([key, value]) => ({ ...message, ...extra, op: message.op, [key]: value })),
      );
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), mutated), (value) => {
        const read = readMessage(value);
        expect(typeof read.ok).toBe("boolean");
      }),
    );
  });
});
