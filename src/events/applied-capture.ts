/**
 * A capture played as one endpoint's stream into a fresh index: what it would know of given prompts.
 *
 * The same sequencer, keyer, applier and index as in the router. Pure.
 */
import { z } from "zod";
import { type BlockKey, blockKey, endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { Residency } from "../indexer/residency.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { type ExtraKey, extraText, saltExtras } from "../keys/extra-keys.ts";
import { loraNamespace } from "../keys/namespace.ts";
import { TIERS, type Tier } from "../tiers/tier.ts";
import { Applier } from "./applier.ts";
import type { EventMessage } from "./frames.ts";
import { withoutLora } from "./holder-keyer.ts";
import { HolderRelay, type RelayStep } from "./holder-relay.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import type { EngineMessage } from "./sequencer.ts";
import { decodeVllmBatch } from "./vllm-decoder.ts";

const HOLDER: Holder = { endpointId: endpointId("capture:1"), rank: 0 };
const MODEL = "capture";
const ENTRIES_MAX = 10_000_000;

const extraSchema: z.ZodType<ExtraKey> = z.lazy(() =>
  z.union([z.string(), z.number(), z.null(), z.array(extraSchema)]),
);

/** Prompts to look up, in the form of `kvatlas events apply --prompts`. */
export const promptsSchema = z.array(
  z.strictObject({
    tokenIds: z.array(z.int().min(0).max(0xffff_ffff)),
    loraName: z.string().nullable().optional(),
    loraId: z.int().min(0).nullable().optional(),
    cacheSalt: z.string().nullable().optional(),
    /** One entry per block, as `events decode` prints it. */
    extraKeys: z.array(z.array(extraSchema).nullable()).nullable().optional(),
  }),
);
type Prompt = z.infer<typeof promptsSchema>[number];

export interface AppliedPrompt {
  readonly prompt: number;
  readonly state: "EXACT" | "DEGRADED";
  readonly reason: string | null;
  /** Longest prefix, tokens: within one tier, and over any. */
  readonly tokens: Readonly<Record<Tier | "any", number>>;
}

export interface AppliedCaptureInput {
  readonly messages: readonly EventMessage[];
  readonly prompts: readonly Prompt[];
  /** What the engine answers when a gap is asked for; null: it has no replay socket. */
  readonly replies: readonly EventMessage[] | null;
  readonly hasher: BlockHasher;
}

export function applyCapture({
  messages,
  prompts,
  replies,
  hasher,
}: AppliedCaptureInput): AppliedPrompt[] {
  const index = new HotIndex();
  const residency = new Residency({ index, entriesMax: ENTRIES_MAX });
  // No lag is reported anywhere, so that no time is needed.
  const clock = { nowMs: (): number => 0, wallMs: (): number => 0, after: () => (): void => {} };
  const applier = new Applier({ residency, clock, log: silentLog, meter: silentMeter });
  const canReplay = replies !== null;
  const relay = new HolderRelay({ holder: HOLDER, model: MODEL, hasher, canReplay });
  const decoded = messages.map(decode);
  const blockSizes = new Set<number>();
  const take = (step: RelayStep): void => {
    for (const batch of step.batches) {
      applier.accept(batch);
      for (const size of blockSizesOf(batch)) blockSizes.add(size);
    }
    if (step.replayFrom === null) return;
    // The engine's answer begins with the message that was asked for; a recorded one may lack it.
    const before = decoded.filter(({ seq }) => seq === step.replayFrom);
    for (const reply of [...before, ...(replies ?? []).map(decode)]) take(relay.replayed(reply));
    take(relay.replayEnded());
  };
  for (const message of decoded) take(relay.live(message));

  const cursor = residency.cursorOf(HOLDER);
  const { state, reason } = cursor ?? { state: "DEGRADED" as const, reason: "no-messages" };
  return prompts.map((prompt, number) => ({
    prompt: number,
    state,
    reason,
    tokens: prefixTokens(prompt, { index, hasher, blockSizes }),
  }));
}

function decode({ seq, payload }: EventMessage): EngineMessage {
  const decoded = decodeVllmBatch(payload);
  return { seq, batch: decoded.ok ? decoded.value : null };
}

/** Sizes of the blocks stored by their tokens; the cursor has the last one alone. */
function blockSizesOf({ events }: KeyedBatch): number[] {
  return events.flatMap((event) =>
    event.type === "stored" && event.blockSizeTokens > 0 ? [event.blockSizeTokens] : [],
  );
}

function prefixTokens(
  prompt: Prompt,
  parts: {
    readonly index: HotIndex;
    readonly hasher: BlockHasher;
    readonly blockSizes: ReadonlySet<number>;
  },
): Record<Tier | "any", number> {
  const { index, hasher, blockSizes } = parts;
  const longest = { gpu: 0, cpu: 0, nvme: 0, shared: 0, any: 0 };
  const chains = [...blockSizes].flatMap((blockSizeTokens) =>
    lorasOf(prompt).map((lora) => ({ lora, blockSizeTokens })),
  );
  for (const { lora, blockSizeTokens } of chains) {
    const root = hasher.rootKey({ model: MODEL, lora, blockSizeTokens });
    const keys = promptKeys(prompt, { hasher, root, blockSizeTokens });
    const held = [...keys].map(
      (key) => new Set(index.residency(blockKey(key)).map(({ tier }) => tier)),
    );
    const reach = (isHeld: (tiers: ReadonlySet<Tier>) => boolean): number => {
      const gap = held.findIndex((tiers) => !isHeld(tiers));
      return (gap === -1 ? held.length : gap) * blockSizeTokens;
    };
    for (const tier of TIERS) {
      const tokens = reach((tiers) => tiers.has(tier));
      longest[tier] = Math.max(longest[tier], tokens);
    }
    const any = reach((tiers) => tiers.size > 0);
    longest.any = Math.max(longest.any, any);
  }
  return longest;
}

/** An adapter's namespaces: its name, and its id as engines before 0.14 have it alone. */
function lorasOf({ loraName = null, loraId = null }: Prompt): (string | null)[] {
  const lora = loraNamespace(loraName, loraId);
  const byId = loraNamespace(null, loraId);
  return byId === null || byId === lora ? [lora] : [lora, byId];
}

function promptKeys(
  prompt: Prompt,
  chain: {
    readonly hasher: BlockHasher;
    readonly root: BlockKey;
    readonly blockSizeTokens: number;
  },
): BigUint64Array {
  const { hasher, root, blockSizeTokens } = chain;
  return hasher.chainKeys({
    parent: root,
    tokens: Uint32Array.from(prompt.tokenIds),
    blockSizeTokens,
    extras: extrasOf(prompt).map((block) => extraText(withoutLora(block, prompt.loraName ?? null))),
  });
}

/** The salt is among the first block's extras where these are as an engine sent them. */
function extrasOf({ extraKeys, cacheSalt }: Prompt): readonly (readonly ExtraKey[] | null)[] {
  const salt = saltExtras(cacheSalt === "" ? null : (cacheSalt ?? null));
  const [first = null, ...rest] = extraKeys ?? [];
  const isTold = salt === null || salt.every((each) => first?.includes(each));
  return [isTold ? first : [...(first ?? []), ...salt], ...rest];
}
