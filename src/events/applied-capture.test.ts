import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { goldenNames, loadCapture } from "../../test/harness/golden.ts";
import { holdingsOf } from "../../test/harness/golden-holdings.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { type AppliedPrompt, applyCapture } from "./applied-capture.ts";
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

  it("starts anew where the replies do not reach back", () => {
    const anew = apply([0, 1, 8], replies(0));
    expect(anew[0]).toMatchObject({ state: "DEGRADED" });
    expect(tokens(anew)).toEqual(tokens(apply(all, null)).map((n, i) => (i >= 4 ? n : 0)));
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
});
