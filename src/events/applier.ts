/**
 * Keyed batches -> residency, in order per holder; says how far each holder can be trusted.
 *
 * Tolerates what a log may do to messages: repeats are dropped, a jump is a gap, a batch of an
 * earlier life of the engine is fenced off. No state claims EXACT on partial knowledge.
 */
import type { Clock } from "../core/clock.ts";
import { type EndpointId, type Holder, holderName } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import { spanOf } from "../indexer/block-span.ts";
import { BLOCK_SIZES_MAX } from "../indexer/holder-state.ts";
import type { HolderCursor, HolderState, Residency } from "../indexer/residency.ts";
import { LANES_MAX } from "./copy-lanes.ts";
import {
  isNote,
  type KeyedBatch,
  type KeyedEvent,
  type KeyedSink,
  type KeyedStored,
  type LossReason,
} from "./keyed-batch.ts";
import { isExpected, isShownBefore } from "./loss-rank.ts";

export interface ApplierDeps {
  readonly residency: Residency;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** A batch was of an earlier epoch than this one, which is known of its holder. */
  readonly onFenced?: (holder: Holder, epoch: number) => void;
}

const EXACT: HolderState = { state: "EXACT", reason: null };
const STORED = { kind: "stored" };
const REMOVED = { kind: "removed" };
const NO_SIZES: readonly number[] = [];
const TRUNCATED = { state: "DEGRADED", reason: "log-truncated" } as const;
const CATCHING_UP = { state: "DEGRADED", reason: "catching-up" } as const;
/** Ended by a batch that goes on where the last one ended. */
const WAITING: LossReason = "unknown-parent";
const PASSING: ReadonlySet<string | null> = new Set([
  TRUNCATED.reason,
  CATCHING_UP.reason,
  WAITING,
]);

export class Applier implements KeyedSink {
  readonly #deps: ApplierDeps;

  constructor(deps: ApplierDeps) {
    this.#deps = deps;
  }

  accept(batch: KeyedBatch): boolean {
    const { residency, meter } = this.#deps;
    const cursor = residency.cursorOf(batch.holder);
    if (cursor !== null && isAddition(batch, cursor)) {
      for (const event of batch.events) this.#apply(batch.holder, event, cursor.blockSizesTokens);
      return true;
    }
    if (cursor !== null && isBehind(batch, cursor)) {
      const isFenced = batch.epoch < cursor.epoch;
      if (isFenced) this.#deps.onFenced?.(batch.holder, cursor.epoch);
      const reason = isFenced ? "fenced-epoch" : "duplicate";
      meter.count("kvatlas_events_refused_total", { reason });
      residency.disregardRows(batch.holder);
      return true;
    }
    const isNewLife = cursor !== null && batch.epoch > cursor.epoch;
    const isOtherModel = cursor !== null && batch.model !== cursor.model;
    if (isNewLife || isOtherModel) this.#startAnew(batch);
    const known = isNewLife || isOtherModel ? null : cursor;

    let state = this.#stateAfter(batch, known);
    let blockSizesTokens = known?.blockSizesTokens ?? NO_SIZES;
    let ignoredGroups = known?.ignoredGroups ?? [];
    let lanes = known?.lanes ?? [];
    for (const event of batch.events) {
      if (event.type === "stored") blockSizesTokens = withSizeOf(event, blockSizesTokens);
      const loss = this.#apply(batch.holder, event, blockSizesTokens);
      if (loss !== null && isShown(loss, state.reason)) state = { state: "DEGRADED", reason: loss };
      if (event.type === "ignored-group") ignoredGroups = [...ignoredGroups, event.group];
      if (event.type === "lane" && lanes.length < LANES_MAX) lanes = [...lanes, event.name];
    }
    const isCatchingUp = batch.events.some(({ type }) => type === "catching-up");
    if (isCatchingUp && state.state === "EXACT") state = CATCHING_UP;
    const { epoch, seq, engineMs, model } = batch;
    residency.setCursor(batch.holder, {
      state: state.state,
      reason: state.reason,
      epoch,
      seq,
      engineMs,
      blockSizesTokens,
      model,
      ignoredGroups,
      lanes,
    });
    const ambiguous = residency.takeAmbiguousFound();
    if (ambiguous > 0) {
      meter.count("kvatlas_events_refused_total", { reason: "ambiguous-key" }, ambiguous);
    }
    if (!isNote(batch)) this.#reportLag(batch);
    return true;
  }

  /**
   * Messages of the log, of one endpoint or (null) of any, were gone before they were read: no holder is
   * known to be whole, until its next message shows that none of its own was among them.
   */
  truncated(endpoint: EndpointId | null = null): void {
    const { residency } = this.#deps;
    for (const holder of residency.holders()) {
      if (endpoint !== null && holder.endpointId !== endpoint) continue;
      const cursor = residency.cursorOf(holder);
      if (cursor?.state !== "EXACT") continue;
      residency.setCursor(holder, { ...cursor, ...TRUNCATED });
    }
  }

  #startAnew({ holder, events }: KeyedBatch): void {
    const { residency, log, meter } = this.#deps;
    residency.startAnew(holder);
    const [first] = events;
    if (first?.type === "lost" && first.reason === "resync") {
      log.info({ holder: holderName(holder) }, "resynchronised: its blocks are dropped");
      return;
    }
    meter.count("kvatlas_events_restarts_total", { endpoint: holder.endpointId });
    log.info({ holder: holderName(holder) }, "engine restarted: its blocks are dropped");
  }

  #stateAfter(batch: KeyedBatch, cursor: HolderCursor | null): HolderState {
    const seqBefore = seqBeforeOf(batch);
    if (cursor === null) {
      return seqBefore < 0 ? EXACT : { state: "DEGRADED", reason: "late-subscription" };
    }
    // Behind -1 comes the engine's first message: all that it said in this life is known.
    if (batch.seq === 0 && seqBefore < 0) return EXACT;
    if (seqBefore === cursor.seq) return PASSING.has(cursor.reason) ? EXACT : cursor;
    const { log, meter } = this.#deps;
    const endpoint = batch.holder.endpointId;
    const missed = seqBefore - cursor.seq;
    meter.count("kvatlas_events_gaps_total", { endpoint });
    meter.count("kvatlas_events_missed_messages_total", { endpoint }, missed);
    log.warn(
      { holder: holderName(batch.holder), seq_last: cursor.seq, seq: batch.seq, missed },
      "gap in KV events: holder is degraded",
    );
    return { state: "DEGRADED", reason: "gap" };
  }

  /** Returns why the holder is degraded by this event, or null. */
  #apply(holder: Holder, event: KeyedEvent, sizes: readonly number[]): string | null {
    const { residency, meter } = this.#deps;
    switch (event.type) {
      case "stored": {
        const { tier, blockSizeTokens, span = spanOf(event) } = event;
        if (blockSizeTokens > 0 && !sizes.includes(blockSizeTokens)) {
          // Nobody would look them up.
          const labels = { reason: "block-sizes-full" };
          meter.count("kvatlas_events_refused_total", labels, span.length);
          return "block-sizes-full";
        }
        const refused = residency.storedSpan(holder, tier, span);
        meter.count("kvatlas_events_blocks_total", STORED, span.length);
        if (refused === 0) return null;
        meter.count("kvatlas_events_refused_total", { reason: "index-full" }, refused);
        return "index-full";
      }
      case "removed": {
        const unknown = residency.removed(holder, event.tier, event.handles, event.rows);
        meter.count("kvatlas_events_blocks_total", REMOVED, event.handles.length);
        if (unknown > 0) {
          meter.count("kvatlas_events_refused_total", { reason: "unknown-removal" }, unknown);
        }
        return null;
      }
      case "ambiguous":
        residency.ambiguous(holder, event.keys);
        return null;
      case "ignored-group":
      case "lane":
      case "aside":
      case "catching-up":
        return null;
      case "cleared": {
        const hasLowerTiers = residency.hasSeenLowerTiers(holder);
        residency.cleared(holder);
        return hasLowerTiers ? "lower-tiers" : null;
      }
      case "lost":
        // What waits was counted when it came.
        if (event.reason !== WAITING) {
          meter.count("kvatlas_events_refused_total", { reason: event.reason });
        }
        return event.reason;
    }
  }

  #reportLag({ holder, engineMs }: KeyedBatch): void {
    if (engineMs === 0) return;
    const lagSeconds = Math.max(0, this.#deps.clock.wallMs() - engineMs) / 1000;
    const labels = { endpoint: holder.endpointId };
    this.#deps.meter.gauge("kvatlas_index_lag_seconds", labels, lagSeconds);
  }
}

/** The sizes of a holder's blocks with that of these; as they were where there is no room. */
function withSizeOf({ blockSizeTokens }: KeyedStored, sizes: readonly number[]): readonly number[] {
  const isNews = blockSizeTokens > 0 && !sizes.includes(blockSizeTokens);
  return isNews && sizes.length < BLOCK_SIZES_MAX ? [...sizes, blockSizeTokens] : sizes;
}

/** What passes hides nothing that stays, but for what the relay says again behind it. */
function isShown(loss: string, standing: string | null): boolean {
  if (standing === null || standing === WAITING) return true;
  return isShownBefore(loss, standing) && (loss !== WAITING || isExpected(standing));
}

/** What a relay said by itself after the last batch: hints that are over. Said twice, it changes nothing. */
function isAddition({ epoch, seq, engineMs, events }: KeyedBatch, cursor: HolderCursor): boolean {
  const isAfter = epoch === cursor.epoch && seq === cursor.seq && engineMs > cursor.engineMs;
  return isAfter && events[0]?.type === "aside";
}

function isBehind(batch: KeyedBatch, cursor: HolderCursor): boolean {
  if (batch.epoch !== cursor.epoch) return batch.epoch < cursor.epoch;
  const isAside = batch.events[0]?.type === "aside";
  return seqBeforeOf(batch) < cursor.seq || (isAside && batch.seq === cursor.seq);
}

/** Number of the message that has to be applied before this batch. */
function seqBeforeOf(batch: KeyedBatch): number {
  return isNote(batch) ? batch.seq : batch.seq - 1;
}
