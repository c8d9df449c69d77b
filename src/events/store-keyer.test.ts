/** Stores that wait for each other in a row as long as any may be. */
import { expect, it } from "vitest";
import { keysByDefinition } from "../../test/harness/golden-holdings.ts";
import { engineKey } from "../core/ids.ts";
import { createBlockHasher } from "../keys/block-hasher.ts";
import { HolderKeyer } from "./holder-keyer.ts";
import type { BlockStored } from "./kv-event.ts";
import { ORPHANS_MAX } from "./orphans.ts";

const MODEL = "model";
const SEED = 3;

/** Block n of one chain: handle n, token n, parent n - 1. */
const stored = (block: number): BlockStored => ({
  ...{ type: "stored", handles: BigUint64Array.of(BigInt(block)), medium: "GPU" },
  ...{ parent: block === 0 ? null : engineKey(BigInt(block - 1)) },
  ...{ tokens: Uint32Array.of(block), blockSizeTokens: 1, extraKeys: null },
  ...{ loraName: null, loraId: null, group: null, specKind: null },
});

it("a whole chain that waits is stored behind its first block, whatever its length and order", async () => {
  const hasher = await createBlockHasher(SEED);
  const keysOf = await keysByDefinition(SEED);
  const tokens = Array.from({ length: ORPHANS_MAX + 1 }, (_, block) => block);
  const expected = keysOf({ model: MODEL, lora: null, blockSizeTokens: 1, tokens });
  const rest = tokens.slice(1).map(stored);
  for (const waiting of [rest, rest.toReversed()]) {
    const keyer = new HolderKeyer({ model: MODEL, hasher });
    keyer.keyEvents({ ts: 1, rank: 0, events: waiting });
    const keyed = keyer.keyEvents({ ts: 2, rank: 0, events: [stored(0)] });
    const keys = keyed.flatMap((event) => (event.type === "stored" ? [...event.keys] : []));
    expect(keys).toEqual(expected);
    expect(keyer.orphans.isWaiting).toBe(false);
  }
});
