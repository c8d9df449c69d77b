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
  entriesMax: z
    .int()
    .min(1)
    .max(100_000_000)
    .default(8_000_000)
    .describe(
      "(block, holder, tier) entries kept, about 120 bytes each; stores beyond are refused",
    ),
  keySeed: z
    .int()
    .min(0)
    .max(0xffff_ffff)
    .default(0)
    .describe("deployment seed of the block keys; all routers of a fleet share it"),
});

export type IndexerConfig = z.infer<typeof indexerConfigSchema>;
