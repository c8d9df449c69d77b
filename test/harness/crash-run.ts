/** Kills a process that writes a store at random moments, and looks each time at what it left. */
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../../src/core/random.ts";
import { openGuarded } from "../../src/indexer/file-store-guard.ts";
import { LmdbStore } from "../../src/indexer/lmdb-store.ts";
import { Residency } from "../../src/indexer/residency.ts";
import { HOLDERS, problemOf } from "./crash-batches.ts";
import { MemoryIndex } from "./memory-index.ts";
import { restoreFrom } from "./plain-store.ts";

/** A life ends within this time after one of so many first writes. */
const WRITES_MAX = 20;
const WRITE_MS_MAX = 10;
/** One life in so many is ended at any moment from its start on, restoring included. */
const EARLY = 4;
const START_MS_MAX = 400;

export interface CrashRun {
  readonly kills: number;
  /** Lives that wrote something. */
  readonly lives: number;
  /** Highest sequence number that was found in the end. */
  readonly seq: number;
}

/** Throws at the first store that is not as it must be. */
export async function runCrashes(options: {
  readonly folder: string;
  readonly kills: number;
  readonly random: Random;
  readonly onKill?: (kills: number, seq: number) => void;
}): Promise<CrashRun> {
  const { folder, kills, random } = options;
  let lives = 0;
  let seqBefore = -1;
  for (let kill = 0; kill < kills; kill += 1) {
    await killOne(folder, random);
    const seq = await look(folder);
    if (seq < seqBefore) throw new Error(`kill ${kill}: at ${seq} after ${seqBefore}`);
    if (seq > seqBefore) lives += 1;
    seqBefore = seq;
    options.onKill?.(kill + 1, seq);
  }
  return { kills, lives, seq: seqBefore };
}

async function killOne(folder: string, random: Random): Promise<void> {
  const writer = new URL("./crash-writer.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [writer, folder], { stdio: ["ignore", "pipe", "pipe"] });
  let complaint = "";
  child.stderr.on("data", (data) => {
    complaint += data;
  });
  const exited = new Promise<NodeJS.Signals | null>((resolve) => {
    child.once("exit", (_, signal) => resolve(signal));
  });
  if (random.next() < 1 / EARLY) await sleep(random.next() * START_MS_MAX);
  else {
    const writes = Math.ceil(random.next() * WRITES_MAX);
    let seen = 0;
    const written = new Promise<void>((resolve) => {
      child.stdout.on("data", (dots: Buffer) => {
        seen += dots.length;
        if (seen >= writes) resolve();
      });
    });
    await Promise.race([written, exited]);
    await sleep(random.next() * WRITE_MS_MAX);
  }
  child.kill("SIGKILL");
  const signal = await exited;
  if (signal !== "SIGKILL") throw new Error(`the writer ended by itself: ${complaint}`);
}

/** Opens the store as a start would; returns the highest sequence number in it. */
async function look(folder: string): Promise<number> {
  const { store, aside, end } = openGuarded(folder, () => new LmdbStore(folder));
  const residency = new Residency({ index: new MemoryIndex(), entriesMax: 1e9 });
  const outcome = restoreFrom(store, residency);
  end();
  await store.close();
  const { pagesDamaged, holdersDamaged, rowsRefused, isEmptied } = outcome;
  if (aside !== null || pagesDamaged + holdersDamaged + rowsRefused > 0 || isEmptied) {
    throw new Error(`corrupt open: ${JSON.stringify({ ...outcome, aside })}`);
  }
  const problem = problemOf(residency);
  if (problem !== null) throw new Error(problem);
  return Math.max(...HOLDERS.map((holder) => residency.cursorOf(holder)?.seq ?? -1));
}
