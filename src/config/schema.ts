/** The whole of kvatlas.yaml, put together from the modules' own parts. */
import { z } from "zod";
import { eventsConfigSchema } from "../events/config.ts";
import { extProcConfigSchema } from "../extproc/config.ts";
import { fleetConfigSchema } from "../fleet/config.ts";
import { flowConfigSchema } from "../flow/config.ts";
import { indexerConfigSchema } from "../indexer/config.ts";
import { observeConfigSchema } from "../observe/config.ts";
import { promptConfigSchema } from "../prompt/config.ts";
import { queryConfigSchema } from "../query/config.ts";
import { routerConfigSchema } from "../router/config.ts";

export const configSchema = z.strictObject({
  apiVersion: z.literal("kvatlas/v1").optional().describe("form of this file"),
  pool: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,128}$/)
    .default("default")
    .describe("name of the pool that this router serves"),
  model: z
    .string()
    .min(1)
    .describe("base model that the endpoints serve; any other model of a request is an adapter"),
  fleet: fleetConfigSchema.prefault({}).describe("endpoints and their metrics"),
  events: eventsConfigSchema.prefault({}).describe("the way of KV events into the index"),
  index: indexerConfigSchema.prefault({}).describe("index of blocks and its store"),
  prompt: promptConfigSchema.prefault({}).describe("from request bodies to token ids"),
  router: routerConfigSchema.prefault({}).describe("the decision"),
  flow: flowConfigSchema.prefault({}).describe("holding requests in overload"),
  extProc: extProcConfigSchema.prefault({}).describe("the Envoy edge"),
  query: queryConfigSchema.prefault({}).describe("the index for other schedulers"),
  observe: observeConfigSchema.prefault({}).describe("metrics, health and log"),
});

export type Config = z.infer<typeof configSchema>;
