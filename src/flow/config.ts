/** Configuration of holding in overload. */
import { z } from "zod";

/** Names of objectives that are shed. */
const SHED_OBJECTIVES_MAX = 256;
const OBJECTIVE_CHARS_MAX = 256;

export const flowConfigSchema = z.strictObject({
  isOn: z.boolean().default(true).describe("whether requests may wait here in overload"),
  queueSeconds: z
    .number()
    .min(0.1)
    .max(600)
    .default(3)
    .describe(
      "mean queue of the endpoints above which requests are held, seconds; the shortest is over a quarter of it",
    ),
  workFactor: z
    .number()
    .min(0)
    .max(1000)
    .default(10)
    .describe("a request waits at most this many times its own work, so that short ones go first"),
  waitMsMax: z
    .number()
    .min(0)
    .max(600_000)
    .default(20_000)
    .describe("a request waits at most this long, ms"),
  recheckMs: z
    .number()
    .min(10)
    .max(10_000)
    .default(250)
    .describe("interval in which a held request is decided again, ms"),
  requestsMax: z
    .int()
    .min(0)
    .max(1_000_000)
    .default(8192)
    .describe("requests held at once; what is beyond is decided at once"),
  bytesMax: z
    .int()
    .min(0)
    .default(268_435_456)
    .describe("bytes of the bodies of held requests; what is beyond is decided at once"),
  shedObjectives: z
    .array(z.string().min(1).max(OBJECTIVE_CHARS_MAX))
    .max(SHED_OBJECTIVES_MAX)
    .default([])
    .describe(
      "objectives (header x-llm-d-inference-objective) whose requests are answered with 429 where others are held",
    ),
});

export type FlowConfig = z.infer<typeof flowConfigSchema>;
