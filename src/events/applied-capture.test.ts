import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { msgpackPayload } from "../../test/harness/event-samples.ts";
import { goldenNames, loadCapture } from "../../test/harness/golden.ts";
import { holdingsOf } from "../../test/harness/golden-holdings.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { type AppliedPrompt, applyCapture, promptsSchema } from "./applied-capture.ts";
import type { EventMessage } from "./frames.ts";
import { parseReply } from "./zmq-replay.ts";

let hasher: BlockHasher;
beforeAll(async () => {
  hasher = await createBlockHasher(0);
});

const capture = loadCapture("vllm-0.33.0/j_replay");
const prompts = capture.expected.requests.map(({ prompt_token_ids: ids }) => ({
  tokenIds: [...ids],
}));

/** Replies of the recorded exchange that starts at `start`; the engine's buffer began at 4. */
function replies(start: number): EventMessage[] {
  const file = new URL("../../test/golden/vllm-0.33.0/j_replay.exchanges.json", import.meta.url);
  const { exchanges } = JSON.parse(readFileSync(file, "utf8"));
  const exchange = exchanges.find((each: { start_seq: number }) => each.start_seq === start);
  return exchange.reply_messages_frames_hex.flatMap((frames: string[]) => {
    const reply = parseReply(frames.map((hex) => Buffer.from(hex, "hex")));
    return reply.ok && reply.value !== "end" ? [reply.value] : [];
  });
}

const apply = (seqs: readonly number[], answer: EventMessage[] | null): AppliedPrompt[] =>
  applyCapture({
    messages: capture.messages.filter(({ seq }) => seqs.includes(seq)),
    prompts,
    replies: answer,
    hasher,
  });
const tokens = (applied: AppliedPrompt[]): number[] => applied.map((each) => each.tokens.any);
const all = [0, 1, 2, 3, 4, 5, 6, 7, 8];

describe("events apply", () => {
  it("knows every prompt of a whole capture, and says EXACT", () => {
    const applied = apply(all, null);
    for (const each of applied) expect(each).toMatchObject({ state: "EXACT", reason: null });
    expect(tokens(applied)).toEqual(
      prompts.map(({ tokenIds }) => tokenIds.length - (tokenIds.length % 16)),
    );
  });

  it("shows an open gap and a late start as DEGRADED, with what is known all the same", () => {
    const gap = apply([0, 1, 2, 3, 8], null);
    expect(gap[0]).toMatchObject({ state: "DEGRADED", reason: "gap" });
    expect(tokens(gap)).toEqual(tokens(apply(all, null)).map((n, i) => (i < 4 || i === 8 ? n : 0)));
    expect(apply([3, 4], null)[0]).toMatchObject({ state: "DEGRADED" });
    expect(apply([], null)[0]).toMatchObject({ state: "DEGRADED", reason: "no-messages" });
  });

  it("heals a gap by the recorded replies that begin in it", () => {
    const healed = apply([0, 1, 2, 3, 8], replies(0));
    expect(healed).toEqual(apply(all, null));
  });

  it("keeps what it knows where the replies do not reach back, and says gap", () => {
    const applied = apply([0, 1, 8], replies(0));
    expect(applied[0]).toMatchObject({ state: "DEGRADED", reason: "gap" });
    const isKnown = (seq: number): boolean => seq < 2 || seq >= 4;
    const whole = tokens(apply(all, null));
    expect(tokens(applied)).toEqual(whole.map((n, i) => (isKnown(i) ? n : 0)));
    expect(apply([0, 1, 2, 3, 4, 5, 6, 8], replies(8))).toEqual(
      apply([0, 1, 2, 3, 4, 5, 6, 8], null),
    );
  });

  it("keeps what was heard before replies that do not reach back to it", () => {
    const whole = tokens(apply(all, null));
    const heard = (seqs: readonly number[]): number[] =>
      whole.map((n, seq) => (seqs.includes(seq) ? n : 0));
    for (const [said, start] of [
      [[0, 3, 4, 5, 6, 8], 6],
      [[0, 3, 4, 5, 6, 8], 8],
      [[1, 2, 3, 5, 6, 7, 8], 0],
      [[0, 2, 4, 5, 7], 8],
    ] as const) {
      const answer = replies(start);
      const applied = apply(said, answer);
      expect(applied[0]).toMatchObject({ state: "DEGRADED" });
      expect(tokens(applied)).toEqual(heard([...said, ...answer.map(({ seq }) => seq)]));
    }
  });

  it("never claims more of a request than the engine held, by tier", () => {
    for (const name of goldenNames("vllm")) {
      const { messages, expected } = loadCapture(name);
      const requests = expected.requests.filter(({ mm }) => !mm);
      const applied = applyCapture({
        messages,
        prompts: requests.map((request) => ({
          tokenIds: [...request.prompt_token_ids],
          loraName: expected.version === "0.11.2" ? null : (request.lora?.name ?? null),
          loraId: request.lora?.id ?? null,
          cacheSalt: request.cache_salt ?? null,
        })),
        replies: null,
        hasher,
      });
      const held = holdingsOf(loadCapture(name));
      for (const [position, request] of requests.entries()) {
        const hashes = request.block_hashes_external.map((hash) =>
          BigInt.asUintN(64, BigInt(hash)),
        );
        const gap = hashes.findIndex((hash) => !held.gpu.has(hash));
        const gpu = (gap === -1 ? hashes.length : gap) * expected.block_size;
        expect(applied[position]?.tokens.gpu, `${name} ${request.id}`).toBeLessThanOrEqual(gpu);
      }
    }
  });

  describe("of a made capture", () => {
    const store = (handle: number, fields: object = {}, rank = 0): EventMessage["payload"] =>
      msgpackPayload([
        100 + handle,
        [
          {
            ...{ type: "BlockStored", block_hashes: [handle], parent_block_hash: null },
            ...{ token_ids: [1, 2], block_size: 2, medium: "GPU", ...fields },
          },
        ],
        rank,
      ]);
    const remove = (handle: number, fields: object = {}): EventMessage["payload"] =>
      msgpackPayload([
        200 + handle,
        [{ type: "BlockRemoved", block_hashes: [handle], ...fields }],
        0,
      ]);
    const play = (
      payloads: readonly (readonly [number, EventMessage["payload"]])[],
      prompt: object = {},
    ): AppliedPrompt | undefined => {
      const messages = payloads.map(([seq, payload]) => ({ seq, payload }));
      const prompts = promptsSchema.parse([{ tokenIds: [1, 2, 3, 4, 5], ...prompt }]);
      return applyCapture({ messages, prompts, replies: null, hasher })[0];
    };

    it("takes each rank for a stream of its own, and the prefix of the best", () => {
      const more = { parent_block_hash: 1, token_ids: [3, 4] };
      const both = play([
        [0, store(1)],
        [0, store(1, {}, 1)],
        [1, store(2, more, 1)],
        [1, store(9, { token_ids: [7, 8] })],
      ]);
      expect(both).toMatchObject({ state: "EXACT", tokens: { gpu: 4, any: 4 } });
      // A prefix is one rank's: the second half at another one does not go on from the first.
      const apart = play([
        [0, store(1)],
        [0, store(2, { token_ids: [3, 4] }, 1)],
      ]);
      expect(apart).toMatchObject({ state: "EXACT", tokens: { gpu: 2, any: 2 } });
      const late = play([
        [0, store(1)],
        [5, store(1, {}, 1)],
      ]);
      expect(late).toMatchObject({ state: "DEGRADED", reason: "late-subscription" });
    });

    it("holds a block where each full group has it, and is EXACT where their kinds are told", () => {
      const of = (group: number, kind: string | null = "full_attention") =>
        store(1, { group_idx: group, kv_cache_spec_kind: kind });
      const gone = (group: number) => remove(1, { group_idx: group });
      const held = (tokens: number) => ({ state: "EXACT", tokens: { gpu: tokens, any: tokens } });
      const said = [of(0), of(2), of(0), gone(0), gone(0), of(0), gone(2), gone(2)];
      const expected = [2, 2, 2, 2, 0, 2, 0, 0];
      for (const [last, tokens] of expected.entries()) {
        const messages = said.slice(0, last + 1).map((event, seq) => [seq, event] as const);
        expect(play(messages), `after message ${last}`).toMatchObject(held(tokens));
      }
      const untold = play([
        [0, of(0, null)],
        [1, of(1, null)],
      ]);
      expect(untold).toMatchObject({ state: "DEGRADED", reason: "several-groups" });
      const placeholder = { token_ids: [], block_size: 0, medium: "CPU", group_idx: 1 };
      const hybrid = play([
        [0, of(1, "sliding_window")],
        [1, of(0)],
        [2, store(1, placeholder)],
      ]);
      expect(hybrid).toMatchObject({ state: "EXACT", tokens: { gpu: 2, cpu: 0 } });
    });

    it("counts each medium of a tier by itself", () => {
      const pinned = store(1, { medium: "CPU_PINNED" });
      const second = store(1, { medium: "CPU_TIER1" });
      const gone = (medium: string) => remove(1, { medium });
      const said = [
        ...[store(1), pinned, second],
        ...[gone("CPU_PINNED"), gone("cpu_pinned"), gone("CPU_TIER1")],
      ];
      const expected = [0, 2, 2, 2, 2, 0];
      for (const [last, tokens] of expected.entries()) {
        const messages = said.slice(0, last + 1).map((event, seq) => [seq, event] as const);
        expect(play(messages)).toMatchObject({ state: "EXACT", tokens: { cpu: tokens } });
      }
    });

    it("matches nothing where two hashes were seen for one key, also where extras are told", () => {
      const told = (hash: number) => store(hash, { extra_keys: [null] });
      const tokens = { gpu: 0, any: 0 };
      expect(play([[0, told(1)]])).toMatchObject({ tokens: { gpu: 2 } });
      const stores = [
        [0, told(1)],
        [1, told(2)],
      ] as const;
      expect(play(stores)).toMatchObject({ state: "EXACT", tokens });
      expect(play([...stores, [2, remove(2)]])).toMatchObject({ tokens });
    });

    it("matches nothing where two hashes were seen for one key, whatever became of either", () => {
      const stores = [
        [0, store(1)],
        [1, store(2)],
      ] as const;
      expect(play(stores)).toMatchObject({ state: "EXACT", tokens: { gpu: 0, any: 0 } });
      const tokens = { gpu: 0, any: 0 };
      expect(play([...stores, [2, remove(1)]])).toMatchObject({ tokens });
      expect(play([...stores, [2, remove(2)], [3, store(1)]])).toMatchObject({ tokens });
    });

    it("finds an adapter by its name, by its id, and by its id where the engine tells both", () => {
      const named = [[0, store(1, { lora_name: "sql", lora_id: 7 })]] as const;
      const old = [[0, store(1, { lora_id: 7 })]] as const;
      const gpu = (messages: typeof named, prompt: object): number | undefined =>
        play(messages, prompt)?.tokens.gpu;
      expect(gpu(named, { loraName: "sql" })).toBe(2);
      expect(gpu(named, { loraId: 7 })).toBe(2);
      expect(gpu(named, { loraName: "sql", loraId: 7 })).toBe(2);
      expect(gpu(old, { loraName: "sql", loraId: 7 })).toBe(2);
      expect(gpu(old, { loraId: 7 })).toBe(2);
      for (const prompt of [
        {},
        { loraName: "other" },
        { loraId: 8 },
        { loraName: "other", loraId: 7 },
      ]) {
        expect(gpu(named, prompt)).toBe(0);
      }
    });

    it("is DEGRADED from an undecodable message on, and after a late start", () => {
      const junk = Uint8Array.of(0xc1);
      expect(play([[0, junk]])).toMatchObject({ state: "DEGRADED", reason: "undecodable" });
      expect(
        play([
          [0, store(1)],
          [1, junk],
        ]),
      ).toMatchObject({ state: "DEGRADED", tokens: { gpu: 2 } });
      expect(play([[1, store(1)]])).toMatchObject({ state: "DEGRADED", tokens: { gpu: 2 } });
    });

    it("counts a tier by itself, and any of them together", () => {
      const child = { parent_block_hash: 1, token_ids: [3, 4] };
      const messages = [
        [0, store(1)],
        [1, store(2, child)],
        // Lower tiers' stores tell no salt: they are placed where the GPU's have said.
        [2, store(2, { ...child, medium: "Cpu_Pinned" })],
        [3, remove(2)],
        [4, store(1, { token_ids: [], block_size: 0, medium: "Disk" })],
      ] as const;
      const tokens = { gpu: 2, cpu: 0, nvme: 2, shared: 0, any: 4 };
      expect(play(messages)).toEqual({ prompt: 0, state: "EXACT", reason: null, tokens });
    });
  });
});
