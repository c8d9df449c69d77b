/**
 * A scanned message of plain events: of the GPU, whole, without adapter, salt and images.
 *
 * Its events are made when they are asked for. Until the next scan they also lie in the core's memory as
 * runs, neighbours of one kind that differ in handles, tokens and parent alone, and are keyed there: whoever
 * takes the runs has no events any more but through `events`, before the next scan. What nobody has taken
 * by then is made into events, so that a message may be held for any time.
 */
import { assert } from "../core/assert.ts";
import { type KvEvent, type KvEventBatch, listedBytes } from "./kv-event.ts";
import { coreViews, RECORDS, RUNS } from "./relay-core.ts";

/** Words of a run (wasm/relay-core/layout.ts), and of a record (wasm/event-scan/layout.ts). */
const RUN_WORDS = 8;
const RECORD_WORDS = 16;
const STORED = 1;
const TOLD_GROUP = 4;
const FULL_ATTENTION = 3;

/** What the events of a run have in common. */
export interface PlainRun {
  /** Its number. */
  readonly run: number;
  readonly isStored: boolean;
  /** Of the message: the number of the first, and how many there are. */
  readonly first: number;
  readonly events: number;
  readonly blocks: number;
  readonly blockSizeTokens: number;
  readonly medium: "GPU" | null;
  readonly group: number | null;
  readonly specKind: "full_attention" | null;
  readonly loraName: null;
  readonly loraId: null;
  readonly extraKeys: null;
}

interface Scanned {
  readonly ts: number;
  readonly rank: number | null;
  readonly runs: number;
  /** How many there are in all. */
  readonly events: number;
  readonly hashes: number;
  readonly tokens: number;
  /** Makes the first events of what was scanned last. */
  readonly make: (events: number) => readonly KvEvent[];
}

/** The one that was scanned last, while its events lie in the core's memory. */
let last: PlainBatch | null = null;

export class PlainBatch implements KvEventBatch {
  readonly ts: number;
  readonly rank: number | null;
  readonly #scanned: Scanned;
  #events: readonly KvEvent[] | null = null;
  #areRunsTaken = false;

  /** Of the scan that has just been done. */
  constructor(scanned: Scanned) {
    this.ts = scanned.ts;
    this.rank = scanned.rank;
    this.#scanned = scanned;
    last = this;
  }

  /** Another scan is about to be done. */
  static leave(): void {
    if (last !== null) last.#leave();
    last = null;
  }

  get events(): readonly KvEvent[] {
    if (this.#events === null) {
      assert(last === this, "the events of a message that was keyed are gone");
      this.#events = this.#make();
    }
    return this.#events;
  }

  get bytes(): number {
    return listedBytes(this.#scanned);
  }

  /** How many runs there are where they lie; 0: they are not there any more, or were taken. */
  takeRuns(): number {
    if (last !== this || this.#areRunsTaken) return 0;
    this.#areRunsTaken = true;
    return this.#scanned.runs;
  }

  #make(): readonly KvEvent[] {
    return this.#scanned.make(this.#scanned.events);
  }

  #leave(): void {
    if (!this.#areRunsTaken) this.#events ??= this.#make();
  }
}

export function plainRun(run: number): PlainRun {
  const { words } = coreViews();
  const at = RUNS + RUN_WORDS * run;
  const first = words[at] ?? 0;
  const record = RECORDS + RECORD_WORDS * first;
  const isGroupTold = ((words[record + 4] ?? 0) & TOLD_GROUP) !== 0;
  return {
    run,
    isStored: words[record] === STORED,
    first,
    events: words[at + 1] ?? 0,
    blocks: words[at + 3] ?? 0,
    blockSizeTokens: words[record + 3] ?? 0,
    medium: words[record + 8] === 0 ? null : "GPU",
    group: isGroupTold ? (words[record + 6] ?? 0) : null,
    specKind: words[record + 10] === FULL_ATTENTION ? "full_attention" : null,
    loraName: null,
    loraId: null,
    extraKeys: null,
  };
}

/** The events of a run that lie whole within its first `blocks`. */
export function wholeEvents(
  run: PlainRun,
  blocks: number,
): { readonly events: number; readonly blocks: number } {
  const { words } = coreViews();
  let whole = 0;
  for (let events = 0; events < run.events; events += 1) {
    const after = whole + (words[RECORDS + RECORD_WORDS * (run.first + events) + 1] ?? 0);
    if (after > blocks) return { events, blocks: whole };
    whole = after;
  }
  return { events: run.events, blocks: whole };
}
