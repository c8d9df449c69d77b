/**
 * Reads the fleet's event log in order, from where the store's cursor stands.
 *
 * An ordered consumer heals a lost connection by itself. A stream that was deleted and made anew it
 * does not notice (it waits for a sequence that never comes), so the stream's creation time and last
 * sequence are looked at every second, and reading starts over when they do not fit.
 */
import {
  type ConsumerMessages,
  DeliverPolicy,
  type JetStreamManager,
  type JsMsg,
} from "@nats-io/jetstream";
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Residency } from "../indexer/residency.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import { decodeKeyedBatches } from "./keyed-batch-codec.ts";

const LOOK_MS = 1000;
const RETRY_MS = 250;
/** Messages that the server may send ahead. */
const AHEAD_MESSAGES_MAX = 1000;
/** Time in which messages are handed over in one turn of the event loop, ms. */
const TURN_MS_MAX = 2;

export interface ConsumeDeps {
  readonly stream: string;
  /** Subjects to read: pools may share a stream. */
  readonly subjects: string;
  readonly residency: Residency;
  readonly onBatch: (batch: KeyedBatch) => void;
  readonly onCaughtUp: () => void;
  /** Makes the stream again when it is gone. */
  readonly recreate: () => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  readonly signal: AbortSignal;
}

interface StreamPlace {
  readonly created: string;
  readonly lastSeq: number;
}

/** Resolves when the signal aborts. */
export async function consumeNatsLog(manager: JetStreamManager, deps: ConsumeDeps): Promise<void> {
  const { clock, log, meter, signal } = deps;
  while (!signal.aborted) {
    try {
      await readStream(manager, deps);
    } catch (error) {
      if (signal.aborted) return;
      meter.count("kvatlas_nats_errors_total", { operation: "consume" });
      log.warn({ error: messageOf(error) }, "reading the event log failed, trying again");
      await sleep(clock, RETRY_MS, signal);
      await deps.recreate().catch(() => {});
    }
  }
}

/** Reads until the stream is another one, the reader ends, or the signal aborts. */
async function readStream(manager: JetStreamManager, deps: ConsumeDeps): Promise<void> {
  const { stream, subjects, residency, onCaughtUp, signal } = deps;
  const place = await placeOf(manager, stream);
  const cursor = residency.logCursor;
  const isSameStream = cursor?.stream === place.created && cursor.seq <= place.lastSeq;
  const start = isSameStream ? cursor.seq + 1 : 1;
  if (!isSameStream) residency.setLogCursor({ stream: place.created, seq: 0 });

  const consumer = await manager.jetstream().consumers.get(stream, {
    filter_subjects: subjects,
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: start,
  });
  // Asked of the consumer: the stream's last message may be deleted, or be another pool's.
  const { num_pending: messagesAhead } = await consumer.info(true);
  if (messagesAhead === 0) onCaughtUp();
  const messages = await consumer.consume({
    max_messages: AHEAD_MESSAGES_MAX,
    idle_heartbeat: 1000,
  });
  const ended = new AbortController();
  const stop = (): void => messages.stop();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const watch = watchStream(manager, { messages, place, deps, signal: ended.signal });
  try {
    await readMessages(messages, place, deps);
  } finally {
    signal.removeEventListener("abort", stop);
    ended.abort();
    await watch;
  }
}

async function readMessages(
  messages: ConsumerMessages,
  place: StreamPlace,
  deps: ConsumeDeps,
): Promise<void> {
  let turnEndMs = deps.clock.nowMs() + TURN_MS_MAX;
  for await (const message of messages) {
    apply(message, place, deps);
    if (message.seq >= place.lastSeq || message.info.pending === 0) deps.onCaughtUp();
    if (deps.clock.nowMs() < turnEndMs) continue;
    await sleep(deps.clock, 0, deps.signal);
    turnEndMs = deps.clock.nowMs() + TURN_MS_MAX;
  }
}

function apply(message: JsMsg, place: StreamPlace, deps: ConsumeDeps): void {
  const { residency, onBatch, log, meter } = deps;
  const decoded = decodeKeyedBatches(message.data);
  if (decoded.ok) {
    for (const batch of decoded.value) onBatch(batch);
  } else {
    meter.count("kvatlas_events_refused_total", { reason: decoded.reason });
    log.warn({ seq: message.seq, detail: decoded.detail }, "log message refused");
  }
  residency.setLogCursor({ stream: place.created, seq: message.seq });
}

/** Stops the reader when the stream under it is not the one it began with. */
async function watchStream(
  manager: JetStreamManager,
  options: {
    readonly messages: ConsumerMessages;
    readonly place: StreamPlace;
    readonly deps: ConsumeDeps;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { messages, place, deps, signal } = options;
  while (!signal.aborted) {
    await sleep(deps.clock, LOOK_MS, signal);
    if (signal.aborted) return;
    try {
      const seen = await placeOf(manager, deps.stream);
      const isShorter = seen.lastSeq < (deps.residency.logCursor?.seq ?? 0);
      if (seen.created === place.created && !isShorter) continue;
      deps.log.warn({ stream: deps.stream }, "event log was recreated: reading it from its start");
      messages.stop();
      return;
    } catch (error) {
      // A server that is away answers later; a stream that is gone is made again by the next round.
      if (messageOf(error).includes("stream not found")) {
        messages.stop();
        await deps.recreate().catch(() => {});
        return;
      }
    }
  }
}

async function placeOf(manager: JetStreamManager, stream: string): Promise<StreamPlace> {
  const info = await manager.streams.info(stream);
  return { created: String(info.created), lastSeq: info.state.last_seq };
}
