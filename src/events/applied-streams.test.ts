/** `events apply` on small made streams: what is placed where, and when the state is EXACT. */
import { beforeAll, describe, expect, it } from "vitest";
import { msgpackPayload } from "../../test/harness/event-samples.ts";
import { type BlockHasher, createBlockHasher } from "../keys/block-hasher.ts";
import { type AppliedPrompt, applyCapture, promptsSchema } from "./applied-capture.ts";
import type { EventMessage } from "./frames.ts";

let hasher: BlockHasher;
beforeAll(async () => {
  hasher = await createBlockHasher(0);
});

/** A block of two tokens: [n, n + 100]. */
const stored = (handle: number, parent: number | null = null, fields: object = {}): object => ({
  ...{ type: "BlockStored", block_hashes: [handle], parent_block_hash: parent },
  ...{ token_ids: [handle, handle + 100], block_size: 2, medium: "GPU", ...fields },
});
const removed = (handle: number, medium = "GPU"): object => ({
  ...{ type: "BlockRemoved", block_hashes: [handle], medium },
});
const cleared = { type: "AllBlocksCleared" };
/** The prompt of these blocks. */
const prompt = (...blocks: number[]): { readonly tokenIds: number[] } => ({
  tokenIds: blocks.flatMap((block) => [block, block + 100]),
});

interface Said {
  readonly seq: number;
  /** Null: it cannot be decoded. */
  readonly events: readonly object[] | null;
  /** Default: follows seq. */
  readonly ts?: number;
}

const messageOf = ({ seq, events, ts = 100 + seq }: Said): EventMessage => ({
  seq,
  payload: events === null ? Uint8Array.of(0xc1) : msgpackPayload([ts, events, 0]),
});

function applyAll(said: readonly Said[], ...prompts: readonly object[]): AppliedPrompt[] {
  const messages = said.map(messageOf);
  return applyCapture({ messages, prompts: promptsSchema.parse(prompts), replies: null, hasher });
}

/** Messages from 0 on, one prompt. */
function apply(said: readonly (readonly object[] | null)[], asked: object): AppliedPrompt {
  const [applied] = applyAll(
    said.map((events, seq) => ({ seq, events })),
    asked,
  );
  if (applied === undefined) throw new Error("no answer");
  return applied;
}

const exact = (tokens: object): object => ({ state: "EXACT", reason: null, tokens });

describe("lower-tier stores with tokens", () => {
  it.each([
    "CPU",
    "CPU_PINNED",
    "CPU_TIER2",
    "DISK",
    "STORAGE",
    "FS",
    "NVME",
    "EXTERNAL",
    "SHARED",
  ])("of %s are placed by them where the block is not known", (medium) => {
    for (const extra_keys of [undefined, null, [null]]) {
      const applied = apply([[stored(1, null, { medium, extra_keys })]], prompt(1));
      expect(applied).toMatchObject(exact({ gpu: 0, any: 2 }));
    }
  });

  it("follow their parents, of whatever tier, and wait for those that were not told yet", () => {
    const cpu = { medium: "CPU" };
    const child = apply([[stored(1)], [stored(2, 1, cpu)]], prompt(1, 2));
    expect(child).toMatchObject(exact({ gpu: 2, cpu: 0, any: 4 }));
    const grown = apply([[stored(1, null, cpu), stored(2, 1)]], prompt(1, 2));
    expect(grown).toMatchObject(exact({ gpu: 0, cpu: 2, any: 4 }));
    const orphan = apply([[stored(2, 1, cpu)], [stored(1, null, cpu)]], prompt(1, 2));
    expect(orphan.tokens).toMatchObject({ cpu: 4 });
  });

  it("leave a known block the key that it has", () => {
    const salted = stored(1, null, { extra_keys: [["salt"]] });
    const applied = applyAll(
      [{ seq: 0, events: [salted, stored(1, null, { medium: "CPU" })] }],
      prompt(1),
      { ...prompt(1), cacheSalt: "salt" },
    );
    expect(applied).toMatchObject([exact({ any: 0 }), exact({ gpu: 2, cpu: 2 })]);
  });

  it("are of unknown identity where the stream tells salts or images, and no block is known", () => {
    const salted = stored(1, null, { extra_keys: [["salt"]] });
    const lower = apply([[salted], [stored(2, null, { medium: "CPU" })]], prompt(2));
    expect(lower).toMatchObject({
      ...{ state: "DEGRADED", reason: "unknown-handle", tokens: { any: 0 } },
    });
    const told = stored(2, null, { medium: "CPU", extra_keys: [null] });
    expect(apply([[salted], [told]], prompt(2))).toMatchObject(exact({ cpu: 2 }));
    // An adapter's name is told of every tier.
    const lora = stored(1, null, { lora_name: "sql", extra_keys: [["sql"]] });
    const plain = apply([[lora], [stored(2, null, { medium: "CPU" })]], prompt(2));
    expect(plain).toMatchObject(exact({ cpu: 2 }));
  });
});

describe("events of kinds that this version does not know", () => {
  it("are left out, and cost nothing of what is known", () => {
    const [array, map] = [["NewEvent", 1], { type: "NewEvent" }];
    expect(apply([[array, stored(1), map]], prompt(1))).toMatchObject(exact({ gpu: 2 }));
  });

  it("are not those that cannot be read, which do", () => {
    const applied = apply([[["BlockStored", "no list"], stored(1)]], prompt(1));
    expect(applied).toMatchObject({ state: "DEGRADED", reason: "skipped-event" });
  });
});

describe("a store whose parent was not told", () => {
  const child = stored(2, 1);

  it("makes the state DEGRADED while it waits, and no longer", () => {
    const waiting = { state: "DEGRADED", reason: "unknown-parent" };
    expect(apply([[child]], prompt(1, 2))).toMatchObject({ ...waiting, tokens: { gpu: 0 } });
    expect(apply([[child], [stored(5)]], prompt(1, 2))).toMatchObject(waiting);
    expect(apply([[child], [stored(1)]], prompt(1, 2))).toMatchObject(exact({ gpu: 4 }));
    expect(apply([[child, stored(1)]], prompt(1, 2))).toMatchObject(exact({ gpu: 4 }));
    expect(apply([[child, stored(3, 4)], [stored(1)]], prompt(1, 2))).toMatchObject({
      ...waiting,
      tokens: { gpu: 4 },
    });
  });

  it("waits no longer where it was removed, or all was cleared", () => {
    expect(apply([[child], [removed(2)]], prompt(1, 2))).toMatchObject(exact({ gpu: 0 }));
    expect(apply([[child], [removed(2), stored(1)]], prompt(1, 2))).toMatchObject(
      exact({ gpu: 2 }),
    );
    expect(apply([[child], [cleared]], prompt(1, 2))).toMatchObject(exact({ gpu: 0 }));
  });

  it("hides no other cause, which stays", () => {
    const gap = { state: "DEGRADED", reason: "gap" };
    const said = [
      { seq: 0, events: [] },
      { seq: 40, events: [child] },
      { seq: 41, events: [stored(1)] },
    ];
    expect(applyAll(said.slice(0, 2), prompt(1, 2))[0]).toMatchObject(gap);
    expect(applyAll(said, prompt(1, 2))[0]).toMatchObject({ ...gap, tokens: { gpu: 4 } });
    const skipped = apply([[child], [["BlockStored", 1]], [stored(1)]], prompt(1, 2));
    expect(skipped).toMatchObject({ state: "DEGRADED", reason: "skipped-event" });
  });
});

describe("messages out of their order", () => {
  const at = (seq: number, ts = 100 + seq): Said => ({
    ...{ seq, ts },
    events: [stored(seq + 1, seq === 0 ? null : seq)],
  });
  const whole = prompt(1, 2, 3, 4, 5, 6);

  it("are put back into it, also the first one", () => {
    for (const order of [
      [0, 2, 1, 3, 4, 5],
      [1, 0, 2, 3, 4, 5],
      [0, 1, 4, 3, 2, 5],
      [5, 4, 3, 2, 1, 0],
    ]) {
      const [applied] = applyAll(
        order.map((seq) => at(seq)),
        whole,
      );
      expect(applied, order.join()).toMatchObject(exact({ gpu: 12 }));
    }
  });

  it("are not waited for beyond the end, nor for more than a few messages", () => {
    const gap = { state: "DEGRADED", reason: "gap" };
    expect(applyAll([at(0), at(2), at(0), at(1)], whole)[0]).toMatchObject(exact({ gpu: 6 }));
    expect(applyAll([at(0), at(2)], whole)[0]).toMatchObject(gap);
    const late = Array.from({ length: 20 }, (_, seq) => at(seq)).filter(({ seq }) => seq !== 1);
    expect(applyAll([...late, at(1)], whole)[0]).toMatchObject(gap);
  });

  it("are of another life where they were said later than what they would go before", () => {
    const said = [at(0), at(2), { ...at(1), ts: 200 }];
    expect(applyAll(said, whole)[0]).toMatchObject({ state: "DEGRADED", tokens: { gpu: 0 } });
    const restarted = [at(0), at(2), { seq: 0, ts: 200, events: [stored(9)] }];
    expect(applyAll(restarted, prompt(9))[0]).toMatchObject(exact({ gpu: 2 }));
  });
});

describe("a store whose hashes and tokens do not fit together", () => {
  const wrong = stored(1, null, { token_ids: [1, 2, 3] });

  it("is one more copy of blocks that are known, and a loss where they are not", () => {
    const again = apply([[stored(1)], [wrong], [removed(1)]], prompt(1));
    expect(again).toMatchObject(exact({ gpu: 2 }));
    expect(apply([[wrong]], prompt(1))).toMatchObject({ reason: "length-mismatch" });
  });
});

describe("chains whose block size changes", () => {
  const ofSize = (handle: number, parent: number | null, tokens: readonly number[]): object =>
    stored(handle, parent, { token_ids: tokens, block_size: tokens.length });
  const tokenIds = [1, 2, 3, 4, 5, 6, 7, 8];

  it.each([
    { sizes: [2, 4], tokens: 6 },
    { sizes: [4, 2], tokens: 6 },
    { sizes: [2, 2, 4], tokens: 8 },
    { sizes: [4, 2, 2], tokens: 8 },
  ])("are followed through $sizes", ({ sizes, tokens }) => {
    let from = 0;
    const events = sizes.map((size, block) => {
      const each = ofSize(block + 1, block === 0 ? null : block, tokenIds.slice(from, from + size));
      from += size;
      return each;
    });
    const last = sizes.length;
    const [whole] = applyAll([{ seq: 0, events }], { tokenIds });
    expect(whole).toMatchObject({ state: "EXACT", tokens: { gpu: tokens, any: tokens } });
    const said = [{ seq: 0, events: [...events, removed(last)] }];
    const [shorter] = applyAll(said, { tokenIds });
    expect(shorter?.tokens.gpu).toBe(tokens - (sizes.at(-1) ?? 0));
  });
});

it("keeps what was heard where the replay begins behind it", () => {
  const said = [0, 3, 4, 5].map((seq) => ({ seq, events: [stored(seq + 1)] }));
  const [answer] = applyCapture({
    messages: said.map(messageOf),
    prompts: promptsSchema.parse([prompt(4)]),
    replies: said.slice(2).map(messageOf),
    hasher,
  });
  expect(answer).toMatchObject({ state: "DEGRADED", reason: "gap", tokens: { gpu: 2 } });
});

describe("a message that cannot be read, with a number that was said", () => {
  it.each([
    [[{ seq: 0, events: null }]],
    [[...[1, 2].map((seq) => ({ seq, events: [] })), { seq: 1, events: null }]],
    [[...[null, []].map((events, seq) => ({ seq, events }))]],
  ])("degrades, and what is known stays: %#", (rest) => {
    const [answer] = applyAll([{ seq: 0, events: [stored(1)] }, ...rest], prompt(1));
    expect(answer).toMatchObject({ state: "DEGRADED", reason: "undecodable", tokens: { gpu: 2 } });
  });
});
