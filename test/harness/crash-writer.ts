/**
 * A process to be killed: restores its store, then applies batches and flushes without pause. What a
 * holder has is a function of its sequence number, so that whoever opens the store can tell what must be
 * in it. Arguments: folder of the store.
 */
import { HotIndex } from "../../src/indexer/hot-index.ts";
import { LmdbStoreThread } from "../../src/indexer/lmdb-store-thread.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { Restorer } from "../../src/indexer/restorer.ts";
import { applyBatch, HOLDERS, nextBatch } from "./crash-batches.ts";

/** Less than the holders have, so that rounds have several portions. */
const FLUSH_BYTES_MAX = 20_000;
const BATCHES = 40;

const residency = new Residency({ index: new HotIndex(), entriesMax: 1e9 });
const store = new LmdbStoreThread();
const { contents, aside } = await store.open(process.argv[2] ?? "", 0);
const restorer = new Restorer(contents, residency);
for (;;) {
  const portion = await store.read(100_000);
  if (portion === null) break;
  restorer.take(portion);
}
if (aside !== null || restorer.outcome.holdersDamaged > 0) throw new Error("the store is damaged");

let batch = nextBatch(residency);
for (;;) {
  for (const end = batch + BATCHES * HOLDERS.length; batch < end; batch += 1) {
    applyBatch(residency, batch);
  }
  await store.write(residency.takeFlush(FLUSH_BYTES_MAX));
  // Whoever kills counts the writes.
  process.stdout.write(".");
}
