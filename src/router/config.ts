/** Configuration of the decision: every constant with unit, range and origin. */
import { z } from "zod";

export const routerConfigSchema = z.strictObject({
  policy: z
    .enum(["cost", "least-requests", "round-robin"])
    .default("cost")
    .describe("cost: expected seconds to first token; the others are for comparison"),
  prefillTokensPerSecond: z
    .number()
    .positive()
    .default(17_000)
    .describe("prefill rate of one endpoint, tokens/s; half of an 8B model's 34,000 on one H100"),
  attentionSecondsPerPair: z
    .number()
    .min(0)
    .default(1e-9)
    .describe(
      "quadratic part of the prefill, seconds per (token, earlier token) pair; 4 x 32 layers x 4096 FLOP at 500 TFLOP/s",
    ),
  stepSeconds: z
    .number()
    .min(0)
    .default(0.007)
    .describe("constant part of an engine step, seconds: a 7 ms decode step of an 8B model"),
  decodeSecondsPerContextToken: z
    .number()
    .min(0)
    .default(4.0e-8)
    .describe("what a token of a decoding request's context adds to a step, seconds"),
  chunkTokens: z.int().min(1).default(8192).describe("tokens that an engine prefills in one step"),
  kvBytesPerToken: z
    .number()
    .positive()
    .default(131_072)
    .describe("KV bytes per token; 8B model with grouped-query attention in 16 bits"),
  cpuBytesPerSecond: z.number().positive().default(25e9).describe("CPU tier to GPU, bytes/s"),
  nvmeBytesPerSecond: z.number().positive().default(5e9).describe("NVMe tier to GPU, bytes/s"),
  sharedBytesPerSecond: z
    .number()
    .positive()
    .default(2.5e9)
    .describe("shared tier to GPU, bytes/s"),
  kvUsageKnee: z
    .number()
    .min(0)
    .max(1)
    .default(0.85)
    .describe("share of used KV blocks above which an endpoint gets dearer"),
  signalUsefulMs: z
    .number()
    .positive()
    .default(1000)
    .describe("age at which a scraped signal counts 1/e of its value, ms"),
  assumedLifeMs: z
    .number()
    .positive()
    .max(3_600_000)
    .default(120_000)
    .describe("life of a block assumed at an endpoint without KV events, ms"),
  accelerators: z
    .record(
      z.string().min(1).max(64),
      z.strictObject({
        prefillTokensPerSecond: z
          .number()
          .positive()
          .describe("stated prefill rate, tokens/s: what an endpoint's speed begins with"),
        dollarsPerHour: z
          .number()
          .min(0)
          .default(0)
          .describe("price of one endpoint of the class, $ per hour; 0: not stated, no cost"),
      }),
    )
    .default({})
    .describe("classes of accelerators by the name that endpoints.yaml gives; none need be stated"),
  secondsPerDollar: z
    .number()
    .min(0)
    .default(0)
    .describe(
      "how many seconds later a first token may come for each $ of accelerator time that is saved; 0: prices do not count",
    ),
  popularity: z
    .strictObject({
      isOn: z.boolean().default(true).describe("whether the popularity cap holds"),
      slack: z
        .number()
        .min(0)
        .max(10)
        .default(1)
        .describe(
          "eps: outstanding work of a prefix at one endpoint stays within (1 + eps) x share",
        ),
      floorSeconds: z
        .number()
        .min(0)
        .default(2)
        .describe("outstanding work of a prefix that one endpoint may always have, seconds"),
      halfLifeMs: z
        .number()
        .positive()
        .default(10_000)
        .describe("half-life of a prefix's arrival rate, ms"),
      prefixesMax: z
        .int()
        .min(1)
        .default(16_384)
        .describe("prefixes whose arrivals are remembered"),
    })
    .prefault({}),
});

export type RouterConfig = z.infer<typeof routerConfigSchema>;
