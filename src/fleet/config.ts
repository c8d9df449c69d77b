/** Configuration of the fleet: where its endpoints are written down, how often they are scraped. */
import { z } from "zod";

export const fleetConfigSchema = z.strictObject({
  endpointsFile: z
    .string()
    .min(1)
    .default("endpoints.yaml")
    .describe("file of the endpoints, relative to the configuration file; read again on change"),
  scrapeMs: z
    .number()
    .min(50)
    .max(60_000)
    .default(1000)
    .describe("interval between two scrapes of an endpoint's metrics, ms; each varies by 10 %"),
  isGossipOn: z
    .boolean()
    .default(true)
    .describe(
      "whether routers of one pool and model tell each other what they dispatch, where " +
        "events.transport is nats",
    ),
  scrapeTimeoutMs: z
    .number()
    .min(50)
    .max(60_000)
    .default(1000)
    .describe("time after which a scrape without whole answer has failed, ms"),
});
