/** Configuration of the event path. */
import { z } from "zod";

export const eventsConfigSchema = z.strictObject({
  transport: z
    .enum(["direct", "nats"])
    .default("direct")
    .describe("direct: engine sockets feed the index in this process; nats: through JetStream"),
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
    })
    .prefault({}),
});

export type EventsConfig = z.infer<typeof eventsConfigSchema>;
