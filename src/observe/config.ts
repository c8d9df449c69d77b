/** Configuration of the admin server and the log. */
import { z } from "zod";
import { isListenAddress } from "../core/ids.ts";

export const observeConfigSchema = z.strictObject({
  adminListen: z
    .string()
    .refine(isListenAddress, { error: "host:port with a port from 0 to 65535" })
    .default("127.0.0.1:9090")
    .describe("address of /metrics, /healthz and /readyz, host:port; port 0 takes a free one"),
  logLevel: z
    .enum(["debug", "info", "warn", "error"])
    .default("info")
    .describe(
      "error: someone must act; warn: degraded; info: start, stop, change; debug: requests",
    ),
});
