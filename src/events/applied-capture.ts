/**
 * A capture played as one endpoint's stream into a fresh index: what it would know of given prompts.
 *
 * The same sequencer, keyer, applier and index as in the router. Pure.
 */
import { z } from "zod";
import { ENGINE_DEFAULT, type EngineName } from "../core/engine-name.ts";
import { blockKey, endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import type { HolderMatch, IndexReader } from "../indexer/block-index.ts";
import { HotIndex } from "../indexer/hot-index.ts";
import { type MixedChainsInput, mixedChains } from "../indexer/mixed-chains.ts";
import { Residency } from "../indexer/residency.ts";
import type { BlockHasher } from "../keys/block-hasher.ts";
import { type ExtraKey, extraText, withSalt } from "../keys/extra-keys.ts";
import { loraNamespace } from "../keys/namespace.ts";
import type { Tier } from "../tiers/tier.ts";
import { Applier } from "./applier.ts";
import { captureReader } from "./decoded-capture.ts";
import { readId } from "./event-fields.ts";
import type { EventMessage } from "./frames.ts";
import { HolderRelay, type RelayStep } from "./holder-relay.ts";
import { ReorderWindow } from "./reorder-window.ts";
import type { EngineMessage } from "./sequence.ts";
import { withoutLora } from "./stored-extras.ts";

const ENDPOINT = endpointId("capture:1");
const MODEL = "capture";
const ENTRIES_MAX = 10_000_000;

const extraSchema: z.ZodType<ExtraKey> = z.lazy(() =>
  z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(extraSchema)]),
);

/** As `events decode` prints it: above 2^53 a string. */
const idSchema = z.union([
  z
    .number()
    .min(0)
    .max(2 ** 53)
    .multipleOf(1),
  z
    .string()
    .regex(/^[1-9]\d{15,19}$/)
    .transform((digits) => readId(BigInt(digits)) ?? null),
]);

/** Prompts to look up, in the form of `kvatlas events apply --prompts`. */
export const promptsSchema = z.array(
  z.strictObject({
    tokenIds: z.array(z.int().min(0).max(0xffff_ffff)),
    loraName: z.string().nullable().optional(),
    loraId: idSchema.nullable().optional(),
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
  /** More stood behind them that cannot be read. Default: no. */
  readonly isCut?: boolean;
  /** Whose messages they are; default ENGINE_DEFAULT. */
  readonly engine?: EngineName;
  readonly prompts: readonly Prompt[];
  /** What the engine answers when a gap is asked for; null: it has no replay socket. */
  readonly replies: readonly EventMessage[] | null;
  readonly hasher: BlockHasher;
}

export function applyCapture(input: AppliedCaptureInput): AppliedPrompt[] {
  const played = new PlayedCapture(input);
  return input.prompts.map((prompt, number) => ({
    prompt: number,
    ...played.state(),
    tokens: prefixTokens(prompt, played),
  }));
}

/** An index after a capture was played into it: each data-parallel rank is a holder of its own. */
class PlayedCapture {
  readonly index = new HotIndex();
  readonly hasher: BlockHasher;
  /** Names of adapters by their ids, as the engine has told them together. */
  readonly loraNames = new Map<number | bigint, Set<string>>();
  readonly #residency = new Residency({ index: this.index, entriesMax: ENTRIES_MAX });
  readonly #applier: Applier;
  readonly #ranks = new Map<number, PlayedRank>();
  readonly #isCut: boolean;

  constructor({
    messages,
    isCut = false,
    engine = ENGINE_DEFAULT,
    replies,
    hasher,
  }: AppliedCaptureInput) {
    this.hasher = hasher;
    this.#isCut = isCut;
    // No lag is reported anywhere, so that no time is needed.
    const clock = { nowMs: (): number => 0, wallMs: (): number => 0, after: () => (): void => {} };
    const ports = { clock, log: silentLog, meter: silentMeter };
    this.#applier = new Applier({ residency: this.#residency, ...ports });
    const read = captureReader(engine);
    const decoded = messages.flatMap(read);
    const answer = replies?.flatMap(read) ?? null;
    for (const message of [...decoded, ...(answer ?? [])]) this.#noteNames(message);
    for (const [rank, said] of byRank(decoded)) {
      const holder: Holder = { endpointId: ENDPOINT, rank };
      const canReplay = answer !== null;
      const relay = new HolderRelay({ holder, model: MODEL, hasher, canReplay });
      const told = answer?.filter((reply) => (rankOf(reply) ?? rank) === rank) ?? null;
      const played = new PlayedRank({ relay, said, answer: told, applier: this.#applier });
      played.play();
      this.#ranks.set(rank, played);
    }
  }

  /** Of the worst rank. */
  state(): Pick<AppliedPrompt, "state" | "reason"> {
    const cursors = [...this.#ranks.values()].map(({ holder }) => this.#residency.cursorOf(holder));
    const worst = cursors.find((cursor) => cursor?.state === "DEGRADED") ?? cursors[0];
    if (worst == null) return { state: "DEGRADED", reason: "no-messages" };
    return this.#isCut && worst.state === "EXACT"
      ? { state: "DEGRADED", reason: "capture-cut" }
      : { state: worst.state, reason: worst.reason };
  }

  get blockSizes(): ReadonlySet<number> {
    return this.#residency.blockSizes();
  }

  #noteNames({ batch }: EngineMessage): void {
    for (const event of batch?.events ?? []) {
      if (event.type !== "stored" || event.loraId === null || !event.loraName) continue;
      const names = this.loraNames.get(event.loraId) ?? new Set();
      this.loraNames.set(event.loraId, names.add(event.loraName));
    }
  }
}

/** One rank's messages, as a router would take them that asks the engine where some are missing. */
class PlayedRank {
  readonly #relay: HolderRelay;
  readonly #applier: Applier;
  readonly #said: readonly EngineMessage[];
  /** What the engine answers; null: it cannot be asked. */
  readonly #answer: readonly EngineMessage[] | null;
  /** Messages that were taken so far. */
  #taken = 0;

  constructor(input: {
    readonly relay: HolderRelay;
    readonly applier: Applier;
    readonly said: readonly EngineMessage[];
    readonly answer: readonly EngineMessage[] | null;
  }) {
    this.#relay = input.relay;
    this.#applier = input.applier;
    this.#said = input.said;
    this.#answer = input.answer;
  }

  get holder(): Holder {
    return this.#relay.holder;
  }

  /** An engine that can be asked again is asked at once. */
  play(): void {
    if (this.#answer !== null) {
      for (let next = this.#next(); next !== null; next = this.#next()) {
        this.#apply(this.#relay.live(next));
      }
      return;
    }
    const window = new ReorderWindow();
    for (const message of this.#said) {
      for (const each of window.take(message, this.#relay.cursor)) {
        this.#apply(this.#relay.live(each));
      }
    }
    for (const each of window.flush()) this.#apply(this.#relay.live(each));
  }

  #next(): EngineMessage | null {
    const message = this.#said[this.#taken] ?? null;
    if (message !== null) this.#taken += 1;
    return message;
  }

  #apply(step: RelayStep): void {
    for (const batch of step.batches) this.#applier.accept(batch);
    if (step.replayFrom === null) return;
    this.#hearWhatIsAnswered();
    // The engine's answer begins with the message that was asked for; a recorded one may lack it.
    const heard = this.#said.slice(0, this.#taken);
    const first = heard.findLast(({ seq }) => seq === step.replayFrom);
    for (const reply of [...(first === undefined ? [] : [first]), ...(this.#answer ?? [])]) {
      this.#apply(this.#relay.replayed(reply));
    }
    this.#apply(this.#relay.replayEnded());
  }

  /** What the answer has was said before it came, and so were those in between. */
  #hearWhatIsAnswered(): void {
    const seqAnswered = this.#answer?.at(-1)?.seq ?? -1;
    let seq = this.#said[this.#taken - 1]?.seq ?? -1;
    for (;;) {
      const next = this.#said[this.#taken];
      if (next === undefined || next.seq <= seq || next.seq > seqAnswered) return;
      seq = next.seq;
      this.#taken += 1;
      this.#apply(this.#relay.live(next));
    }
  }
}

/** What cannot be decoded names no rank: it is taken for that of the message before. */
function byRank(messages: readonly EngineMessage[]): ReadonlyMap<number, EngineMessage[]> {
  const ranks = new Map<number, EngineMessage[]>();
  let rank = 0;
  for (const message of messages) {
    rank = rankOf(message) ?? rank;
    const others = ranks.get(rank);
    if (others === undefined) ranks.set(rank, [message]);
    else others.push(message);
  }
  return ranks;
}

/** Null: it does not say. */
function rankOf({ batch }: EngineMessage): number | null {
  return batch?.rank ?? null;
}

/** The longest prefixes that one rank holds. */
function prefixTokens(prompt: Prompt, played: PlayedCapture): Record<Tier | "any", number> {
  const within = (tier: Tier | "any"): number =>
    longestPrefix(prompt, played, heldIn(played.index, tier));
  const [gpu, cpu, nvme, shared] = [within("gpu"), within("cpu"), within("nvme"), within("shared")];
  return { gpu, cpu, nvme, shared, any: within("any") };
}

function longestPrefix(prompt: Prompt, played: PlayedCapture, index: Matching): number {
  const { hasher, blockSizes } = played;
  const { loraName = null } = prompt;
  const tokens = Uint32Array.from(prompt.tokenIds);
  const extras = extrasOf(prompt).map((block) => extraText(withoutLora(block, loraName)));
  const keysBehind: MixedChainsInput["keysBehind"] = (place, blockSizeTokens, blocksMax) =>
    hasher.chainKeys({
      ...{ parent: blockKey(place.key), blockSizeTokens, extras: extras.slice(place.blocks) },
      tokens: tokens.subarray(place.tokens, place.tokens + blockSizeTokens * blocksMax),
    });
  const starts = lorasOf(prompt, played).flatMap((lora) =>
    [...blockSizes].map((blockSizeTokens) => {
      const key = hasher.rootKey({ model: MODEL, lora, blockSizeTokens });
      const keys = keysBehind({ key, tokens: 0, blocks: 0 }, blockSizeTokens, tokens.length);
      return { blockSizeTokens, keys, matches: index.match(keys) };
    }),
  );
  const probesMax = Number.POSITIVE_INFINITY;
  const input = { starts, blockSizesTokens: [...blockSizes], keysBehind, index, probesMax };
  const lengths = [
    ...starts.flatMap(({ blockSizeTokens, matches }) =>
      matches.map(({ blocks }) => blocks * blockSizeTokens),
    ),
    ...mixedChains(input).matches.map(({ blocks }) => blocks),
  ];
  return lengths.reduce((longest, each) => Math.max(longest, each), 0);
}

type Matching = Pick<IndexReader, "match">;

/** What ranks hold within a tier, or over any: prompts here may be longer than those of requests. */
function heldIn(index: Pick<IndexReader, "residency">, tier: Tier | "any"): Matching {
  const match = (keys: BigUint64Array): HolderMatch[] => {
    const found = new Map<number, HolderMatch>();
    for (const [depth, key] of keys.entries()) {
      if (depth > 0 && ![...found.values()].some(({ blocks }) => blocks === depth)) break;
      for (const { holder, tier: each } of index.residency(blockKey(key))) {
        if (tier !== "any" && each !== tier) continue;
        if ((found.get(holder.rank)?.blocks ?? 0) !== depth) continue;
        found.set(holder.rank, {
          holder,
          blocks: depth + 1,
          gpuBlocks: 0,
          blocksByTier: NOT_ASKED,
        });
      }
    }
    return [...found.values()];
  };
  return { match };
}

const NOT_ASKED = { gpu: 0, cpu: 0, nvme: 0, shared: 0 };

/**
 * An adapter's namespaces: its name, its id as engines before 0.14 have it alone, and the names that
 * the engine has told together with the id where the prompt has no name.
 */
function lorasOf(
  { loraName = null, loraId = null }: Prompt,
  { loraNames }: PlayedCapture,
): (string | null)[] {
  const lora = loraNamespace(loraName, loraId);
  if (loraId === null) return [lora];
  const names = lora === loraName ? [] : (loraNames.get(loraId) ?? []);
  return [...new Set([lora, loraNamespace(null, loraId), ...names])];
}

/** The salt is among the first block's extras where these are as an engine sent them. */
function extrasOf({ extraKeys, cacheSalt }: Prompt): readonly (readonly ExtraKey[] | null)[] {
  const [first = null, ...rest] = extraKeys ?? [];
  return cacheSalt ? [withSalt(first, cacheSalt), ...rest] : [first, ...rest];
}
