/** `events apply` and `decode` without a word about the engine: SGLang's captures, and made-up ones. */
import { beforeAll, describe, expect, it } from "vitest";
import { jsonPayload, msgpackPayload, trtllmBlock } from "../../test/harness/event-samples.ts";
import {
  type GoldenEvent,
  goldenNames,
  handleOf,
  loadCapture,
  loadMessages,
} from "../../test/harness/golden.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { type Tier, tierOfMedium } from "../tiers/tier.ts";
import { type AppliedPrompt, applyCapture, promptsSchema } from "./applied-capture.ts";
import { messageJson } from "./event-json.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";

const BIGRAM = "sglang-0.5.23/m_bigram_eagle";
let hasher: BlockHasher;
beforeAll(async () => {
  hasher = await createBlockHasher(0);
});

/** A block by its content, and all that came before it. */
interface Block {
  readonly handle: bigint;
  readonly tokens: readonly number[];
  readonly salt: string | null;
  readonly before: readonly bigint[];
}

/** Counts copies by tier and handle, after the engine's own decoder alone. */
class Truth {
  readonly copies = new Map<string, number>();
  readonly blocks = new Map<bigint, Block>();

  follow(event: GoldenEvent): void {
    if (event.type === "AllBlocksCleared") {
      this.copies.clear();
      this.blocks.clear();
      return;
    }
    const tier = tierOfMedium(event.medium ?? null);
    const parent = event.parent_block_hash ?? null;
    let before = parent === null ? null : this.blocks.get(handleOf(parent));
    for (const [at, hash] of (event.block_hashes ?? []).entries()) {
      const handle = handleOf(hash);
      const place = `${tier} ${handle}`;
      const step = event.type === "BlockStored" ? 1 : -1;
      this.copies.set(place, (this.copies.get(place) ?? 0) + step);
      if (event.type === "BlockRemoved") continue;
      const size = event.block_size ?? 0;
      const block = {
        handle,
        tokens: [
          ...(before?.tokens ?? []),
          ...(event.token_ids ?? []).slice(at * size, (at + 1) * size),
        ],
        salt: before === null || before === undefined ? (event.cache_salt ?? null) : before.salt,
        before: [...(before?.before ?? []), handle],
      };
      this.blocks.set(handle, block);
      before = block;
    }
  }

  /** Hashes that are the only ones seen for their content. */
  told(): Set<bigint> {
    const byContent = Map.groupBy(this.blocks.values(), ({ tokens, salt }) =>
      JSON.stringify([tokens, salt]),
    );
    return new Set(
      [...byContent.values()].flatMap(([block, ...others]) =>
        block === undefined || others.length > 0 ? [] : [block.handle],
      ),
    );
  }

  /** Blocks of a chain that are held in any of the tiers. */
  prefix({ before }: Block, told: ReadonlySet<bigint>, tiers: readonly Tier[]): number {
    const isHeld = (handle: bigint): boolean =>
      told.has(handle) && tiers.some((tier) => (this.copies.get(`${tier} ${handle}`) ?? 0) > 0);
    const gap = before.findIndex((handle) => !isHeld(handle));
    return gap === -1 ? before.length : gap;
  }
}

const names = goldenNames("sglang").filter((name) => name !== BIGRAM);

describe("SGLang's captures", () => {
  it.each(names)("%s: what the engine held, after each message", (name) => {
    const { messages, expected } = loadCapture(name);
    const truth = new Truth();
    for (const [position, { events }] of expected.batches.entries()) {
      for (const event of events) truth.follow(event);
      const blocks = [...truth.blocks.values()];
      const applied = applyCapture({
        messages: messages.slice(0, position + 1),
        prompts: blocks.map(({ tokens, salt }) => ({ tokenIds: [...tokens], cacheSalt: salt })),
        replies: null,
        hasher,
      });
      const told = truth.told();
      for (const [at, block] of blocks.entries()) {
        const size = block.tokens.length / block.before.length;
        const held = (...tiers: Tier[]): number => size * truth.prefix(block, told, tiers);
        expect(applied[at]?.tokens).toEqual({
          gpu: held("gpu"),
          cpu: held("cpu"),
          nvme: held("nvme"),
          shared: held("shared"),
          any: held("gpu", "cpu", "nvme", "shared"),
        });
      }
    }
  });

  it("with EAGLE's pairs are placed by the first tokens, and never EXACT", () => {
    const messages = loadMessages(BIGRAM);
    const lines = messages.map(({ seq, payload }) => messageJson(seq, decodeVllmBatch(payload)));
    const text = JSON.stringify(lines);
    expect(text).not.toContain("skipped");
    const [, first] = JSON.parse(text)[0].events;
    const [applied] = applyCapture({
      messages: messages.slice(0, 1),
      prompts: [{ tokenIds: first.tokenIds }],
      replies: null,
      hasher,
    });
    expect(applied).toMatchObject({ state: "DEGRADED", reason: "token-pairs" });
    expect(applied?.tokens.gpu).toBe(first.tokenIds.length);
    expect(first.tokenIds.length).toBe(first.blockHashes.length * first.blockSize);
  });
});

const tokens = (length: number, from = 0): number[] => Array.from({ length }, (_, at) => from + at);

function stored(
  hash: number,
  fields: { readonly size?: number; readonly from?: number } & Record<string, unknown> = {},
): unknown {
  const { size = 16, from = 0, ...more } = fields;
  return {
    type: "BlockStored",
    block_hashes: [hash],
    parent_block_hash: null,
    token_ids: tokens(size, from),
    block_size: size,
    ...more,
  };
}

function apply(batches: readonly unknown[][], prompts: unknown, seqFirst = 0): AppliedPrompt[] {
  const messages = batches.map((events, at) => ({
    seq: seqFirst + at,
    payload: msgpackPayload([1.5, events, null]),
  }));
  return applyCapture({ messages, prompts: promptsSchema.parse(prompts), replies: null, hasher });
}

describe("blocks of several sizes in one stream", () => {
  it("give the longest prefix over the sizes", () => {
    const small = stored(1, { size: 16 });
    const large = stored(2, { size: 64, from: 100 });
    const prompts = [{ tokenIds: tokens(64) }, { tokenIds: tokens(130, 100) }];
    for (const events of [
      [small, large],
      [large, small],
    ]) {
      const applied = apply([events], prompts);
      expect(applied.map((each) => each.tokens.any)).toEqual([16, 64]);
      expect(applied[0]?.state).toBe("EXACT");
    }
    // The same content in both sizes.
    const both = apply([[stored(3, { size: 32 }), small]], [{ tokenIds: tokens(64) }]);
    expect(both[0]?.tokens.gpu).toBe(32);
  });
});

describe("media", () => {
  it.each([
    ["gpu", "gpu"],
    ["Device", "gpu"],
    ["CPU_Tier1", "cpu"],
    ["cpu_pinned", "cpu"],
    ["cpu", "cpu"],
    ["cpu_tier2", "nvme"],
    ["nvMe", "nvme"],
    ["storage", "nvme"],
    ["external", "shared"],
    ["Remote", "shared"],
  ] as const)("%s is the tier %s", (medium, tier) => {
    const prompts = [{ tokenIds: tokens(16) }];
    const removed = { type: "BlockRemoved", block_hashes: [1], medium: "GPU" };
    const [applied] = apply([[stored(1), stored(1, { medium }), removed]], prompts);
    expect(applied).toMatchObject({ state: "EXACT", tokens: { [tier]: 16, any: 16 } });
  });

  it("unknown ones are in no tier", () => {
    const [applied] = apply([[stored(1, { medium: "tape" })]], [{ tokenIds: tokens(16) }]);
    expect(applied).toMatchObject({ state: "DEGRADED", tokens: { any: 0 } });
  });
});

describe("prompts", () => {
  const tokensOf = (event: unknown, ...prompts: unknown[]): number[] =>
    apply([[event]], prompts).map((each) => each.tokens.any);
  const ids = { tokenIds: tokens(16) };

  it("with an adapter find it by its name, or by its id where that is all the engine told", () => {
    const prompts = [ids, { ...ids, loraName: "a" }, { ...ids, loraName: "a", loraId: 3 }];
    expect(tokensOf(stored(1, { lora_name: "a", lora_id: 3 }), ...prompts)).toEqual([0, 16, 16]);
    expect(tokensOf(stored(1, { lora_id: 3 }), ...prompts)).toEqual([0, 0, 16]);
  });

  it("with a salt find its own blocks, however the salt is said", () => {
    const prompts = [
      ids,
      { ...ids, cacheSalt: "s" },
      { ...ids, extraKeys: [["s"]] },
      { ...ids, cacheSalt: "s", extraKeys: [["s"]] },
      { ...ids, cacheSalt: "s", extraKeys: [null] },
      { ...ids, cacheSalt: "t" },
    ];
    const expected = [0, 16, 16, 16, 16, 0];
    expect(tokensOf(stored(1, { cache_salt: "s" }), ...prompts)).toEqual(expected);
    expect(tokensOf(stored(1, { extra_keys: [["s"]] }), ...prompts)).toEqual(expected);
    for (const extras of [[null], [["s"]]]) {
      const twice = stored(1, { cache_salt: "s", extra_keys: extras });
      expect(tokensOf(twice, ...prompts)).toEqual(expected);
    }
    expect(tokensOf(stored(1), { ...ids, cacheSalt: "" })).toEqual([16]);
  });

  it("find blocks by their extras as decode prints them, integers and bytes too", () => {
    const extras = [
      ["a", ["image", -5], 2n ** 53n, 2n ** 53n + 1n, 2n ** 40n, true, 0.5, Uint8Array.of(1, 255)],
    ];
    const event = stored(1, { lora_name: "a", extra_keys: extras });
    const decoded = decodeVllmBatch(msgpackPayload([1.5, [event], null]));
    const line = JSON.parse(JSON.stringify(messageJson(0, decoded)));
    const [{ extraKeys }] = line.events;
    expect(line.rank).toBeNull();
    expect(extraKeys).toEqual([
      [
        ...["a", ["image", -5], 9_007_199_254_740_992, "9007199254740993", 1_099_511_627_776],
        ...[true, 0.5, "0x01ff"],
      ],
    ]);
    expect(tokensOf(event, { ...ids, loraName: "a", extraKeys }, ids)).toEqual([16, 0]);
  });
});

describe("answers of TensorRT-LLM", () => {
  const prompts = promptsSchema.parse([1, 2, 3].map((from) => ({ tokenIds: tokens(32, from) })));
  const event = (id: number, hash: number, rank: number): string => {
    const blocks = `[${trtllmBlock(String(hash), tokens(32, hash))}]`;
    const data = `{"type":"stored","parent_hash":null,"blocks":${blocks}}`;
    return `{"event_id":${id},"data":${data},"attention_dp_rank":${rank}}`;
  };
  const told = (...answers: string[]): unknown => {
    const messages = answers.map((answer, seq) => ({ seq, payload: jsonPayload(answer) }));
    const applied = applyCapture({ messages, engine: "trtllm", prompts, replies: null, hasher });
    return [applied[0]?.state, applied[0]?.reason, applied.map((each) => each.tokens.gpu)];
  };

  it("are as many messages as events, each of its rank and by the engine's numbers", () => {
    const first = `[${event(0, 1, 0)},${event(0, 2, 1)}]`;
    expect(told(first, `[${event(1, 3, 1)}]`, "[]")).toEqual(["EXACT", null, [32, 32, 32]]);
    expect(told(event(0, 1, 0))).toEqual(["EXACT", null, [32, 0, 0]]);
    expect(told(first, `[${event(2, 3, 1)}]`)).toEqual(["DEGRADED", "gap", [32, 32, 32]]);
    expect(told(`[${event(4, 1, 0)}]`)).toEqual(["DEGRADED", "late-subscription", [32, 0, 0]]);
  });

  it("that cannot be read make what is known DEGRADED, and leave it", () => {
    expect(told(`[${event(0, 1, 0)}]`, "<html>")).toEqual(["DEGRADED", "undecodable", [32, 0, 0]]);
    expect(told("<html>")).toEqual(["DEGRADED", "undecodable", [0, 0, 0]]);
  });
});

describe("states", () => {
  const prompts = [{ tokenIds: tokens(16) }];

  it("of a late start and of a message that cannot be decoded are DEGRADED", () => {
    expect(apply([[stored(1)]], prompts, 1)[0]).toMatchObject({
      state: "DEGRADED",
      tokens: { gpu: 16 },
    });
    const broken = { seq: 1, payload: Uint8Array.of(0xc1) };
    const good = { seq: 0, payload: msgpackPayload([1.5, [stored(1)]]) };
    const input = { prompts: promptsSchema.parse(prompts), replies: null, hasher };
    expect(applyCapture({ messages: [good, broken], ...input })[0]).toMatchObject({
      state: "DEGRADED",
      reason: "undecodable",
      tokens: { gpu: 16 },
    });
  });
});
