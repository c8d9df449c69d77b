/**
 * What hours do to the index: engines that store prompts in pieces, several at a time, then one block
 * after the other as they generate, take turns of conversations up again, and evict what was unused
 * longest from its end, one block for each that they store.
 */
import type { Holder } from "../src/core/ids.ts";
import { type Random, seededRandom } from "../src/core/random.ts";
import type { BlockIndex } from "../src/indexer/block-index.ts";

/** Requests that an engine works on at the same time. */
const RUNNING = 8;
/** Blocks of one event while a prompt is computed. */
const PIECE_BLOCKS = 32;
const GENERATED_BLOCKS = 24;
/** Conversations that are taken up again, of all requests. */
const RETURNING_SHARE = 0.4;

interface Chain {
  readonly keys: BigUint64Array;
  /** Blocks held, from the first on: eviction takes the last. */
  held: number;
  /** Blocks that this turn will have; those up to `promptEnd` come in pieces. */
  turnEnd: number;
  promptEnd: number;
}

/** One engine with room for `blocksMax` blocks. */
export class ChurningEngine {
  readonly #index: BlockIndex;
  readonly #holder: Holder;
  readonly #random: Random;
  readonly #blocksMax: number;
  readonly #running: Chain[] = [];
  /** Finished, the one used longest ago first. */
  readonly #idle: Chain[] = [];
  #blocks = 0;
  #stored = 0;

  constructor(deps: { index: BlockIndex; holder: Holder; seed: number; blocksMax: number }) {
    this.#index = deps.index;
    this.#holder = deps.holder;
    this.#random = seededRandom(deps.seed);
    this.#blocksMax = deps.blocksMax;
  }

  /** Blocks stored so far. */
  get stored(): number {
    return this.#stored;
  }

  /** One event of one of the running requests, and of what it evicts. */
  step(): void {
    while (this.#running.length < RUNNING) this.#running.push(this.#next());
    const at = this.#below(this.#running.length);
    const chain = this.#running[at];
    if (chain === undefined) return;
    const blocks =
      chain.held < chain.promptEnd ? Math.min(PIECE_BLOCKS, chain.promptEnd - chain.held) : 1;
    this.#evict(this.#blocks + blocks - this.#blocksMax);
    const keys = chain.keys.subarray(chain.held, chain.held + blocks);
    const parents = new BigUint64Array(keys.length);
    parents[0] = chain.keys[chain.held - 1] ?? 0n;
    this.#index.storeMany(this.#holder, "gpu", keys, parents);
    chain.held += blocks;
    this.#blocks += blocks;
    this.#stored += blocks;
    if (chain.held < chain.turnEnd) return;
    this.#running.splice(at, 1);
    this.#idle.push(chain);
  }

  #evict(blocks: number): void {
    for (let left = blocks; left > 0; ) {
      const chain = this.#idle[0];
      if (chain === undefined) return;
      const taken = Math.min(left, chain.held);
      const removed = chain.keys.slice(chain.held - taken, chain.held).reverse();
      this.#index.removeMany(this.#holder, "gpu", removed);
      chain.held -= taken;
      this.#blocks -= taken;
      left -= taken;
      if (chain.held === 0) this.#idle.shift();
    }
  }

  #next(): Chain {
    if (this.#idle.length > RUNNING && this.#random.next() < RETURNING_SHARE) {
      // Mostly one of the latest.
      const back = Math.floor(this.#random.next() ** 2 * this.#idle.length) + 1;
      const [chain] = this.#idle.splice(-back, 1);
      if (chain !== undefined && chain.keys.length > chain.turnEnd) return this.#turn(chain);
      if (chain !== undefined) this.#idle.push(chain);
    }
    const keys = new BigUint64Array(256 + this.#below(2048));
    for (let at = 0; at < keys.length; at += 1) keys[at] = this.#key();
    return this.#turn({ keys, held: 0, turnEnd: 0, promptEnd: 0 });
  }

  #turn(chain: Chain): Chain {
    const end = chain.keys.length;
    chain.promptEnd = Math.min(end, chain.turnEnd + 64 + this.#below(256));
    chain.turnEnd = Math.min(end, chain.promptEnd + GENERATED_BLOCKS);
    return chain;
  }

  #key(): bigint {
    return BigInt.asUintN(
      64,
      (BigInt(this.#below(2 ** 31)) << 32n) ^ BigInt(this.#below(2 ** 32)) ^ 0x5bd1_e995_0000_0000n,
    );
  }

  #below(end: number): number {
    return Math.floor(this.#random.next() * end);
  }
}
