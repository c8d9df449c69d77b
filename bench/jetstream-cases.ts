/**
 * The event log end to end, in one process beside a real nats-server: an engine's bytes -> keyed batch
 * -> JetStream -> read back -> applied. Blocks per second at full speed, and the time from an event to
 * the index at the rate that a large fleet has.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { silentLog } from "../src/core/log.ts";
import { silentMeter } from "../src/core/meter.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { Applier } from "../src/events/applier.ts";
import { eventsConfigSchema } from "../src/events/config.ts";
import { HolderRelay } from "../src/events/holder-relay.ts";
import type { KeyedBatch } from "../src/events/keyed-batch.ts";
import { NatsLog } from "../src/events/nats-log.ts";
import { decodeVllmBatch } from "../src/events/vllm-decoder.ts";
import { HotIndex } from "../src/indexer/hot-index.ts";
import { Residency } from "../src/indexer/residency.ts";
import type { BlockHasher } from "../src/keys/block-hasher.ts";
import { BINARIES_FOLDER, resolveBinary } from "../src/lab/process-binaries.ts";
import { startNats } from "../src/lab/process-nats.ts";
import type { ValueCase } from "./harness.ts";
import { holderOf, storeMessages } from "./workload.ts";

const BLOCKS_PER_EVENT = 32;
/** Blocks of all engines together. */
const BLOCKS = 524_288;
const QUICK_BLOCKS = 4096;
/** Blocks per second while the lag is measured. */
const PACED_PER_SECOND = 200_000;
const PACED_BLOCKS = 524_288;
/** Messages that are under way at once at full speed. */
const AHEAD_MESSAGES = 8192;

export function jetstreamCases(hasher: BlockHasher): ValueCase[] {
  return [1, 8, 64].flatMap((engines) => [
    {
      name: `ingest.jetstream.${engines}`,
      unit: "blocks/s" as const,
      value: (isQuick: boolean) =>
        blocksPerSecond(hasher, engines, isQuick ? QUICK_BLOCKS : BLOCKS),
    },
    {
      name: `ingest.jetstream.lag.${engines}`,
      unit: "ms" as const,
      value: (isQuick: boolean) => lagMs(hasher, engines, isQuick ? QUICK_BLOCKS : PACED_BLOCKS),
    },
  ]);
}

function blocksPerSecond(hasher: BlockHasher, engines: number, blocks: number): Promise<number> {
  return withPath({ hasher, engines, blocks }, async (path) => {
    const messages = blocks / BLOCKS_PER_EVENT;
    const startMs = nodeClock.nowMs();
    while (path.sent < messages) {
      const end = Math.min(messages, path.applied + AHEAD_MESSAGES, path.sent + 64);
      while (path.sent < end) path.send();
      await new Promise(setImmediate);
    }
    await path.allApplied();
    return (blocks * 1000) / (nodeClock.nowMs() - startMs);
  });
}

/** 99th percentile from the engine's message to its batch in the index. */
function lagMs(hasher: BlockHasher, engines: number, blocks: number): Promise<number> {
  return withPath({ hasher, engines, blocks }, async (path) => {
    const messages = blocks / BLOCKS_PER_EVENT;
    const startMs = nodeClock.nowMs();
    while (path.sent < messages) {
      const elapsedSeconds = (nodeClock.nowMs() - startMs) / 1000;
      const due = Math.min(messages, elapsedSeconds * (PACED_PER_SECOND / BLOCKS_PER_EVENT));
      while (path.sent < due) path.send();
      await setTimeout(1);
    }
    await path.allApplied();
    const lags = path.lags.sort((a, b) => a - b);
    return lags[Math.floor(lags.length * 0.99)] ?? 0;
  });
}

interface Work {
  readonly hasher: BlockHasher;
  readonly engines: number;
  /** Of all engines together. */
  readonly blocks: number;
}

class JetstreamPath {
  readonly #relays: readonly HolderRelay[];
  readonly #messages: readonly Uint8Array[];
  readonly #sentMs: number[] = [];
  readonly lags: number[] = [];
  readonly log: NatsLog;
  sent = 0;

  constructor(address: string, { hasher, engines, blocks }: Work) {
    const residency = new Residency({ index: new HotIndex(), entriesMax: 10_000_000 });
    const parts = { residency, clock: nodeClock, log: silentLog, meter: silentMeter };
    const applier = new Applier(parts);
    this.#relays = Array.from(
      { length: engines },
      (_, n) => new HolderRelay({ holder: holderOf(n), model: "bench", hasher, canReplay: false }),
    );
    // Every engine says the same: the relays know nothing of each other.
    const messages = Math.ceil(blocks / BLOCKS_PER_EVENT / engines);
    this.#messages = storeMessages(messages * BLOCKS_PER_EVENT, BLOCKS_PER_EVENT);
    const holders = new Map(this.#relays.map(({ holder }, n) => [holder.endpointId, n]));
    this.log = new NatsLog({
      ...parts,
      config: eventsConfigSchema.parse({ nats: { servers: [address], snapshotSeconds: null } })
        .nats,
      pool: "bench",
      keySeed: 0,
      onAsk: null,
      tailOf: null,
      onBatch: (batch: KeyedBatch): void => {
        applier.accept(batch);
        const message = batch.seq * engines + (holders.get(batch.holder.endpointId) ?? 0);
        this.lags.push(nodeClock.nowMs() - (this.#sentMs[message] ?? 0));
      },
      onRestored: () => {},
      onTruncated: () => {},
    });
  }

  get applied(): number {
    return this.lags.length;
  }

  /** One message of the engine whose turn it is. */
  send(): void {
    const seq = Math.floor(this.sent / this.#relays.length);
    this.#sentMs.push(nodeClock.nowMs());
    const decoded = decodeVllmBatch(this.#messages[seq] ?? new Uint8Array(0));
    if (!decoded.ok) throw new Error(decoded.detail);
    const relay = this.#relays[this.sent % this.#relays.length];
    for (const batch of relay?.live({ seq, batch: decoded.value }).batches ?? []) {
      if (!this.log.accept(batch)) throw new Error("the publisher's queue is full");
    }
    this.sent += 1;
  }

  async allApplied(): Promise<void> {
    while (this.applied < this.sent) await setTimeout(1);
  }
}

async function withPath(
  work: Work,
  measure: (path: JetstreamPath) => Promise<number>,
): Promise<number> {
  const binary = await resolveBinary("nats-server", { env: process.env, folder: BINARIES_FOLDER });
  if (!binary.isFound) {
    process.stderr.write(`no nats-server, rows of JetStream are 0: ${binary.reason}\n`);
    return 0;
  }
  const storeFolder = mkdtempSync(join(tmpdir(), "kvatlas-bench-"));
  const server = await startNats({ binary: binary.path, storeFolder, clock: nodeClock });
  const path = new JetstreamPath(server.address, work);
  try {
    await path.log.caughtUp;
    return await measure(path);
  } finally {
    await path.log.stop();
    await server.stop();
    rmSync(storeFolder, { recursive: true, force: true });
  }
}
