/** Configuration of the index and its store of record. */
import { z } from "zod";

export const indexerConfigSchema = z.strictObject({
  path: z
    .string()
    .min(1)
    .nullable()
    .default("kvatlas-data")
    .describe("folder of the LMDB store, relative to the configuration file; null: memory only"),
  flushMs: z.number().min(10).max(60_000).default(200).describe("write-behind interval, ms"),
  bytesMax: z
    .int()
    .min(2 ** 20)
    .max(2 ** 40)
    .default(2 ** 30)
    .describe(
      "bytes of memory that blocks may take, counted as 64 for each (block, holder, tier) entry; where it is full, blocks are evicted",
    ),
  keySeed: z
    .int()
    .min(0)
    .max(0xffff_ffff)
    .default(0)
    .describe("deployment seed of the block keys; all routers of a fleet share it"),
});

export type IndexerConfig = z.infer<typeof indexerConfigSchema>;

/** Bytes of an entry: its row in the residency, and its key in the index as if no other holder had it. */
const ENTRY_BYTES = 64;

/** (block, holder, tier) entries that so many bytes of memory have room for. */
export function entriesIn(bytesMax: number): number {
  return Math.floor(bytesMax / ENTRY_BYTES);
}
