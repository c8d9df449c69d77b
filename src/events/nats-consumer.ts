/**
 * Reads the fleet's event log in order, from where the log cursor stands.
 *
 * What an ordered consumer does to heal itself is not relied on: it stands still for ever where the
 * connection is lost twice in a row, and in a stream that was deleted and made anew it waits for a
 * sequence that never comes. So reading begins anew at the cursor after every lost connection, when
 * heartbeats are missing, and when the stream's creation time and last sequence, looked at every
 * second, do not fit.
 */
import {
  type ConsumerMessages,
  DeliverPolicy,
  type JetStreamManager,
  type JsMsg,
} from "@nats-io/jetstream";
import { type Clock, sleep } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import type { EndpointId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { Residency } from "../indexer/residency.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import { decodeKeyedBatches } from "./keyed-batch-codec.ts";
import { placeOf, type StreamPlace, streamReplaced } from "./nats-place.ts";
import { endpointOf } from "./nats-stream.ts";

const RETRY_MS = 250;
/** Messages that the server may send ahead: of LOG_MESSAGE_BYTES_MAX each, below its max_pending of 64 MiB. */
const AHEAD_MESSAGES_MAX = 50;
/** Time in which messages are handed over in one turn of the event loop, ms. */
const TURN_MS_MAX = 2;

export interface ConsumeDeps {
  readonly stream: string;
  /** Subjects to read: pools may share a stream. */
  readonly subjects: readonly string[];
  /** Return once the tail is handed over. */
  readonly isTailOnly: boolean;
  readonly residency: Residency;
  readonly onBatch: (batch: KeyedBatch) => void;
  readonly onCaughtUp: () => void;
  /** Loads a snapshot, where there is one: the cursor does not reach what the stream retains. */
  readonly bootstrap: () => Promise<void>;
  /** Messages are gone for good: of this endpoint, or (null) between cursor and stream, of any. */
  readonly onTruncated: (endpoint: EndpointId | null) => void;
  /** Makes the stream again where it is gone. */
  readonly renew: (options: { readonly isReplaced: boolean }) => Promise<void>;
  /** Aborts when the connection that is now in use was lost and is there again. */
  readonly reconnected: () => AbortSignal;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  readonly signal: AbortSignal;
}

/** Resolves when the signal aborts, or when the tail is read where no more is wanted. */
export async function consumeNatsLog(manager: JetStreamManager, deps: ConsumeDeps): Promise<void> {
  const { clock, log, meter, signal } = deps;
  while (!signal.aborted) {
    try {
      const isDone = await readStream(manager, deps);
      if (isDone) return;
    } catch (error) {
      if (signal.aborted) return;
      meter.count("kvatlas_nats_errors_total", { operation: "consume" });
      log.warn({ error: messageOf(error) }, "reading the event log failed, trying again");
      await sleep(clock, RETRY_MS, signal);
      await deps.renew({ isReplaced: false }).catch(() => {});
    }
  }
}

/** Reads until the stream is another one, the reader ends or the signal aborts; true: all is read. */
async function readStream(manager: JetStreamManager, deps: ConsumeDeps): Promise<boolean> {
  const { stream, subjects, residency, onCaughtUp, isTailOnly } = deps;
  const signal = AbortSignal.any([deps.signal, deps.reconnected()]);
  const place = await placeOf(manager, stream);
  const start = await startOf(place, deps);
  const consumer = await manager.jetstream().consumers.get(stream, {
    filter_subjects: [...subjects],
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: start,
  });
  // Asked of the consumer: the stream's last message may be deleted, or be another pool's.
  const { num_pending: messagesAhead } = await consumer.info(true);
  if (messagesAhead === 0) {
    onCaughtUp();
    if (isTailOnly) return true;
  }
  const messages = await consumer.consume({
    max_messages: AHEAD_MESSAGES_MAX,
    idle_heartbeat: 1000,
  });
  const ended = new AbortController();
  const stop = (): void => messages.stop();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const seqSeen = (): number => residency.logCursor?.seq ?? 0;
  const look = (): Promise<StreamPlace> => placeOf(manager, stream);
  const watch = { look, place, seqSeen, clock: deps.clock, signal: ended.signal };
  const watching = streamReplaced(watch).then(async (isReplaced) => {
    if (!isReplaced) return;
    deps.log.warn({ stream }, "event log was recreated: reading it from its start");
    stop();
    await deps.renew({ isReplaced }).catch(() => {});
  });
  const beating = stopWhenSilent(messages);
  try {
    return await readMessages(messages, place, deps);
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
    ended.abort();
    await Promise.all([watching, beating]);
  }
}

async function stopWhenSilent(messages: ConsumerMessages): Promise<void> {
  for await (const { type } of messages.status()) if (type === "heartbeats_missed") messages.stop();
}

/** The first sequence to read; loads a snapshot where the cursor does not lead into the stream. */
async function startOf(place: StreamPlace, deps: ConsumeDeps): Promise<number> {
  const { residency, onTruncated } = deps;
  if (!isWithin(place, residency)) await deps.bootstrap();
  const cursor = residency.logCursor;
  const isSameStream = cursor?.stream === place.created && cursor.seq <= place.lastSeq;
  const start = isSameStream ? cursor.seq + 1 : 1;
  if (!isSameStream) residency.setLogCursor({ stream: place.created, seq: 0 });
  if (start < place.firstSeq) onTruncated(null);
  return start;
}

function isWithin(place: StreamPlace, { logCursor }: Residency): boolean {
  if (logCursor === null || logCursor.stream !== place.created) return false;
  return logCursor.seq + 1 >= place.firstSeq && logCursor.seq <= place.lastSeq;
}

async function readMessages(
  messages: ConsumerMessages,
  place: StreamPlace,
  deps: ConsumeDeps,
): Promise<boolean> {
  let turnEndMs = deps.clock.nowMs() + TURN_MS_MAX;
  for await (const message of messages) {
    apply(message, place, deps);
    if (message.seq >= place.lastSeq || message.info.pending === 0) {
      deps.onCaughtUp();
      if (deps.isTailOnly) return true;
    }
    if (deps.clock.nowMs() < turnEndMs) continue;
    await sleep(deps.clock, 0, deps.signal);
    turnEndMs = deps.clock.nowMs() + TURN_MS_MAX;
  }
  return false;
}

function apply(message: JsMsg, place: StreamPlace, deps: ConsumeDeps): void {
  const { residency, onBatch, onTruncated, log, meter } = deps;
  const decoded = decodeKeyedBatches(message.data);
  if (decoded.ok) {
    for (const batch of decoded.value) onBatch(batch);
  } else {
    meter.count("kvatlas_events_refused_total", { reason: decoded.reason });
    log.warn({ seq: message.seq, detail: decoded.detail }, "log message refused");
    // It may have been an engine's last word, which no gap would show.
    onTruncated(endpointOf(message.subject));
  }
  residency.setLogCursor({ stream: place.created, seq: message.seq });
}
