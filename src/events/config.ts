/** Configuration of the event path. */
import { z } from "zod";

const eventsSchema = z.strictObject({
  transport: z
    .enum(["direct", "nats"])
    .default("direct")
    .describe("direct: engine sockets feed the index in this process; nats: through JetStream"),
  relay: z
    .enum(["in-router", "separate"])
    .default("in-router")
    .describe(
      "with nats, who listens to the engines: the router, or `kvatlas relay` beside them; " +
        "several routers need separate",
    ),
  hintLifeSeconds: z
    .number()
    .positive()
    .max(86_400)
    .default(300)
    .describe(
      "how long a block is believed that a connector (LMCache, Mooncake) stored, seconds; " +
        "no event says when it is gone",
    ),
  nats: z
    .strictObject({
      servers: z
        .array(z.string().min(1))
        .min(1)
        .default(["127.0.0.1:4222"])
        .describe("NATS servers, host:port"),
      stream: z
        .string()
        .regex(/^[A-Za-z0-9_-]+$/)
        .default("KVATLAS")
        .describe("name of the JetStream stream; created when absent"),
      bytesMax: z
        .int()
        .min(1_048_576)
        .default(1_073_741_824)
        .describe("retention of the stream by size, bytes"),
      ageHoursMax: z
        .number()
        .positive()
        .default(24)
        .describe("retention of the stream by age, hours"),
      snapshotSeconds: z
        .number()
        .min(0.1)
        .max(86_400)
        .nullable()
        .default(60)
        .describe("interval in which a router writes a snapshot for new ones, seconds; null: none"),
      snapshotBytesMax: z
        .int()
        .min(1_048_576)
        .default(268_435_456)
        .describe("largest snapshot, bytes, 24 a row; the stream of snapshots keeps twice as much"),
    })
    .prefault({}),
});

export const eventsConfigSchema: typeof eventsSchema = eventsSchema.refine(
  ({ transport, relay }) => transport === "nats" || relay === "in-router",
  { path: ["relay"], error: "in-router, because the transport is direct" },
);

export type EventsConfig = z.infer<typeof eventsConfigSchema>;
