/** A log that loses, doubles, swaps and truncates messages: bytes in, in batches, and bytes out. */
import type { EndpointId } from "../../src/core/ids.ts";
import type { KeyedBatch } from "../../src/events/keyed-batch.ts";
import { decodeKeyedBatches, encodeKeyedBatches } from "../../src/events/keyed-batch-codec.ts";
import type { Chance } from "./chance.ts";

export interface LogFaults {
  readonly drop: number;
  readonly double: number;
  readonly swap: number;
  readonly truncate: number;
}

export const NO_LOG_FAULTS: LogFaults = { drop: 0, double: 0, swap: 0, truncate: 0 };

export class ChaosLog {
  readonly #chance: Chance;
  readonly #pending = new Map<EndpointId, KeyedBatch[]>();
  faults: LogFaults;
  /** All that was published, oldest first. */
  readonly messages: Uint8Array[] = [];
  #late: Uint8Array[] = [];

  constructor(chance: Chance, faults: LogFaults) {
    this.#chance = chance;
    this.faults = faults;
  }

  publish(batch: KeyedBatch): void {
    const { endpointId } = batch.holder;
    const pending = this.#pending.get(endpointId) ?? [];
    this.#pending.set(endpointId, pending);
    pending.push(batch);
    if (this.#chance.is(0.6)) this.flush();
  }

  flush(): void {
    for (const [endpointId, batches] of this.#pending) {
      if (batches.length > 0) this.messages.push(encodeKeyedBatches(endpointId, batches.splice(0)));
    }
  }

  /** The relays were killed: what they had not published is gone. */
  relaysKilled(): void {
    this.#pending.clear();
  }

  /** The batches that come out where one message went in, as one reader gets them. */
  read(message: Uint8Array): KeyedBatch[] {
    const { drop, double, swap, truncate } = this.faults;
    const out: Uint8Array[] = [];
    if (this.#chance.is(swap)) this.#late.push(message);
    else if (!this.#chance.is(drop)) {
      const isCut = this.#chance.is(truncate);
      out.push(isCut ? message.subarray(0, this.#chance.below(message.length)) : message);
      if (this.#chance.is(double)) out.push(message);
      if (this.#chance.is(0.5)) out.push(...this.#late.splice(0));
    }
    return out.flatMap((bytes) => batchesOf(bytes));
  }

  /** What was held back. */
  readLate(): KeyedBatch[] {
    return this.#late.splice(0).flatMap((bytes) => batchesOf(bytes));
  }
}

export function batchesOf(message: Uint8Array): KeyedBatch[] {
  const decoded = decodeKeyedBatches(message);
  return decoded.ok ? decoded.value : [];
}
