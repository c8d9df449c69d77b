/** What the threads of the write path and of the decisions tell each other. Plain data only. */
import type { Config } from "../config/schema.ts";
import type { Holder } from "../core/ids.ts";
import type { EventSource } from "../events/ingest.ts";
import type { TableHandle } from "../indexer/table-memory.ts";
import type { MeterTape } from "../observe/meter-tape.ts";
import type { NewsOfHolders } from "./holder-news.ts";
import type { WriteDetail } from "./write-side.ts";

/** With which a writer begins. */
export interface WriterData {
  readonly config: Config;
  /** Memory of the EvictionBoard. */
  readonly evictions: SharedArrayBuffer;
}

export type ToWriter =
  | { readonly kind: "reconcile"; readonly sources: readonly EventSource[] }
  | { readonly kind: "resync"; readonly holder: Holder }
  /** Answered by "told" with the same number, after everything that is known by then. */
  | { readonly kind: "tell"; readonly id: number }
  /** Ends the thread when the store is written, */
  | { readonly kind: "stop" }
  /** or at once. */
  | { readonly kind: "abandon" };

/** Beside what every thread tells; see FromThread. */
export type FromWriter =
  /** First of all: the index can be read. */
  | { readonly kind: "open"; readonly index: TableHandle }
  | {
      readonly kind: "news";
      readonly holders: NewsOfHolders;
      readonly meter: MeterTape | null;
      readonly detail: WriteDetail;
    };
