/**
 * Snapshots of the residency for replicas that start with less than the log retains, in a stream of
 * their own: parts first, then a head that names them. The newest head wins; a reader that finds
 * parts missing, because a newer snapshot replaced them, begins again.
 */
import { DiscardPolicy, type JetStreamManager, StorageType } from "@nats-io/jetstream";
import { nuid } from "@nats-io/transport-node";
import type { Clock } from "../core/clock.ts";
import { messageOf } from "../core/errors.ts";
import { type EndpointId, holderName } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import { subjectToken } from "../core/subject-token.ts";
import type { HolderCursor, Residency } from "../indexer/residency.ts";
import type { EventsConfig } from "./config.ts";
import { SnapshotAssembly } from "./snapshot-assembly.ts";
import {
  decodeHead,
  decodePart,
  encodeHead,
  encodeParts,
  ROW_BYTES,
  type SnapshotHead,
  type SnapshotPart,
} from "./snapshot-codec.ts";

/** Bytes of a part; less where the server's max_payload is smaller. */
const PART_BYTES_MAX = 524_288;
/** Heads that are tried when parts of one are missing. */
const LOADS_MAX = 3;
const ACK_TIMEOUT_MS = 5000;

/**
 * - written
 * - current: nothing was read from the log since the newest one
 * - fresh: another replica has written one within the interval
 * - too-large: over events.nats.snapshotBytesMax
 * - cancelled: the router stops
 * - failed: NATS did not take it
 */
export type SnapshotWrite = "written" | "current" | "fresh" | "too-large" | "cancelled" | "failed";

/**
 * - restored
 * - absent: there is none
 * - behind: more is known here
 * - malformed: not written by kvatlas
 * - other-layout: of another version of kvatlas
 * - other-key-seed: its keys mean nothing here
 * - incomplete: parts are missing
 * - unreadable: NATS did not hand it over
 */
export type SnapshotLoad =
  | "restored"
  | "absent"
  | "behind"
  | "malformed"
  | "other-layout"
  | "other-key-seed"
  | "incomplete"
  | "unreadable";

export interface NatsSnapshotsDeps {
  readonly config: EventsConfig["nats"];
  readonly pool: string;
  readonly keySeed: number;
  readonly residency: Residency;
  /** Bytes that the server accepts in one message. */
  readonly messageBytesMax: () => number;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class NatsSnapshots {
  readonly #manager: JetStreamManager;
  readonly #deps: NatsSnapshotsDeps;
  readonly #stream: string;
  readonly #prefix: string;

  constructor(manager: JetStreamManager, deps: NatsSnapshotsDeps) {
    this.#manager = manager;
    this.#deps = deps;
    this.#stream = `${deps.config.stream}_SNAPSHOTS`;
    this.#prefix = `kvatlas.snapshot.${subjectToken(deps.pool)}`;
  }

  /** Creates the stream, or adds this pool's subjects to one that exists. */
  async #ensure(): Promise<void> {
    const subject = `${this.#prefix}.>`;
    // One that stands, one that is being written.
    const limits = { max_bytes: this.#deps.config.snapshotBytesMax * 2, allow_direct: true };
    const existing = await this.#manager.streams.info(this.#stream).catch(() => null);
    if (existing === null) {
      const fixed = { storage: StorageType.File, discard: DiscardPolicy.Old };
      await this.#manager.streams.add({
        ...{ name: this.#stream, subjects: [subject], ...fixed, ...limits },
      });
      return;
    }
    const subjects = [...new Set([...existing.config.subjects, subject])];
    await this.#manager.streams.update(this.#stream, { ...limits, subjects });
  }

  /** Never rejects. `isLast`: also when another replica has just written one. */
  async write(options: { readonly isLast: boolean; readonly signal: AbortSignal }): Promise<void> {
    const { log, meter } = this.#deps;
    let outcome: SnapshotWrite;
    try {
      outcome = await this.#write(options);
    } catch (error) {
      outcome = "failed";
      log.warn({ error: messageOf(error) }, "snapshot was not written");
    }
    meter.count("kvatlas_snapshots_total", { operation: "write", outcome });
  }

  /** Takes over every holder that is ahead of what is known here; `endpoints` null: of all. */
  async load(
    endpoints: readonly EndpointId[] | null,
  ): Promise<{ readonly outcome: SnapshotLoad; readonly rows: number }> {
    const { residency, log, meter } = this.#deps;
    let outcome: SnapshotLoad = "absent";
    let rows = 0;
    try {
      await this.#ensure();
      for (let attempt = 0; attempt < LOADS_MAX; attempt += 1) {
        const newest = await this.#head();
        outcome = newest.outcome;
        if (newest.head === null) break;
        const { stream, seq } = newest.head;
        const known = residency.logCursor;
        if (known?.stream === stream && known.seq >= seq) outcome = "behind";
        if (outcome === "behind") break;
        const read = await this.#read(newest.head, endpoints);
        rows += read.rows;
        outcome = read.isWhole ? "restored" : "incomplete";
        if (!read.isWhole) continue;
        residency.setLogCursor({ stream, seq });
        break;
      }
    } catch (error) {
      outcome = "unreadable";
      log.warn({ error: messageOf(error) }, "snapshot could not be read");
    }
    meter.count("kvatlas_snapshots_total", { operation: "load", outcome });
    return { outcome, rows };
  }

  async #write(options: {
    readonly isLast: boolean;
    readonly signal: AbortSignal;
  }): Promise<SnapshotWrite> {
    const { config, residency, clock, log } = this.#deps;
    const { logCursor } = residency;
    const startMs = clock.nowMs();
    await this.#ensure();
    const { head: former } = await this.#head();
    if (logCursor === null) return "current";
    const { stream, seq } = logCursor;
    if (former?.stream === stream && former.seq >= seq) return "current";
    const ageMs = Math.abs(clock.wallMs() - (former?.atMs ?? 0));
    if (!options.isLast && ageMs < (config.snapshotSeconds ?? 0) * 500) return "fresh";
    const rows = residency.holders().reduce((sum, each) => sum + residency.blocksOf(each), 0);
    if (rows * ROW_BYTES > config.snapshotBytesMax) {
      const bytesMax = config.snapshotBytesMax;
      log.warn({ rows, bytes_max: bytesMax }, "snapshot is over events.nats.snapshotBytesMax");
      return "too-large";
    }
    const id = nuid.next();
    const parts = await this.#writeParts(id, options.signal);
    if (parts === null) return "cancelled";
    const { keySeed } = this.#deps;
    const head = { keySeed, id, parts, rows, stream, seq, atMs: clock.wallMs() };
    await this.#publish(`${this.#prefix}.head`, encodeHead(head));
    await this.#manager.streams.purge(this.#stream, { filter: `${this.#prefix}.head`, keep: 1 });
    if (former !== null) {
      await this.#manager.streams.purge(this.#stream, { filter: `${this.#prefix}.${former.id}.*` });
    }
    log.info({ rows, parts, ms: Math.round(clock.nowMs() - startMs) }, "snapshot written");
    return "written";
  }

  /** Number of parts; null when the signal aborted. */
  async #writeParts(id: string, signal: AbortSignal): Promise<number | null> {
    const { residency, messageBytesMax } = this.#deps;
    const partBytesMax = Math.min(PART_BYTES_MAX, messageBytesMax());
    let parts = 0;
    for (const holder of residency.holders()) {
      for (const part of encodeParts(residency, holder, partBytesMax)) {
        if (signal.aborted) return null;
        await this.#publish(this.#subject(id, holder.endpointId), part);
        parts += 1;
      }
    }
    return parts;
  }

  async #publish(subject: string, data: Uint8Array): Promise<void> {
    await this.#manager.jetstream().publish(subject, data, { timeout: ACK_TIMEOUT_MS });
  }

  async #head(): Promise<{ readonly outcome: SnapshotLoad; readonly head: SnapshotHead | null }> {
    const query = { last_by_subj: `${this.#prefix}.head` };
    const message = await this.#manager.direct.getMessage(this.#stream, query);
    if (message === null) return { outcome: "absent", head: null };
    const head = decodeHead(new TextDecoder().decode(message.data), this.#deps.keySeed);
    if (head.ok) return { outcome: "restored", head: head.value };
    const { reason, detail } = head;
    this.#deps.log.warn({ reason, detail }, "snapshot refused");
    return { outcome: reason, head: null };
  }

  async #read(
    { id, parts }: SnapshotHead,
    endpoints: readonly EndpointId[] | null,
  ): Promise<{ readonly isWhole: boolean; readonly rows: number }> {
    const subjects =
      endpoints === null
        ? [`${this.#prefix}.${id}.*`]
        : endpoints.map((endpoint) => this.#subject(id, endpoint));
    let rows = 0;
    let found = 0;
    const assembly = new SnapshotAssembly();
    for (const subject of subjects) {
      for await (const data of this.#messages(subject)) {
        const part = decodePart(data);
        if (!part.ok) return { isWhole: false, rows };
        found += 1;
        const whole = assembly.add(part.value);
        if (whole !== null) rows += this.#take(whole);
      }
    }
    return { isWhole: assembly.isWhole && (endpoints !== null || found === parts), rows };
  }

  async *#messages(subject: string): AsyncGenerator<Uint8Array> {
    for (let seq = 1; ; ) {
      const query = { seq, next_by_subj: subject };
      const message = await this.#manager.direct.getMessage(this.#stream, query);
      if (message === null) return;
      yield message.data;
      seq = message.seq + 1;
    }
  }

  /** Returns the rows taken over; none where more is known here. */
  #take(parts: readonly SnapshotPart[]): number {
    const { residency, log } = this.#deps;
    const [first] = parts;
    if (first === undefined) return 0;
    const { holder, cursor } = first;
    if (!isAhead(cursor, residency.cursorOf(holder))) return 0;
    const rows = parts.flatMap((part) => part.rows);
    const ambiguous = BigUint64Array.from(parts.flatMap((part) => [...part.ambiguous]));
    const refused = residency.replace(holder, { cursor, rows, ambiguous });
    if (refused > 0) {
      log.warn({ holder: holderName(holder), refused }, "snapshot is over index.bytesMax");
    }
    return rows.length - refused;
  }

  #subject(id: string, endpoint: EndpointId): string {
    return `${this.#prefix}.${id}.${subjectToken(endpoint)}`;
  }
}

function isAhead(cursor: HolderCursor, known: HolderCursor | null): boolean {
  if (known === null || cursor.epoch > known.epoch) return true;
  return cursor.epoch === known.epoch && cursor.seq > known.seq;
}
