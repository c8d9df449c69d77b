/** Configuration of the query service. */
import { z } from "zod";
import { isListenAddress } from "../core/ids.ts";

export const queryConfigSchema = z.strictObject({
  listen: z
    .string()
    .refine(isListenAddress, { error: "host:port with a port from 0 to 65535" })
    .nullable()
    .default("127.0.0.1:9004")
    .describe("address of the gRPC query service, host:port; port 0 takes a free one; null: none"),
});
