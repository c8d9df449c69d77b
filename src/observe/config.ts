/** Configuration of the admin server and the log. */
import { z } from "zod";
import { isListenAddress } from "../core/ids.ts";

export const observeConfigSchema = z.strictObject({
  adminListen: z
    .string()
    .refine(isListenAddress, { error: "host:port with a port from 0 to 65535" })
    .default("127.0.0.1:9090")
    .describe(
      "address of /metrics, /healthz and /readyz, of `kvatlas pods` and `kvatlas why`, host:port; port 0 takes a free one",
    ),
  decisionsMax: z
    .int()
    .min(0)
    .max(1_000_000)
    .default(4096)
    .describe("newest decisions kept for `kvatlas why`, some 2 KB each; 0: none"),
  logLevel: z
    .enum(["debug", "info", "warn", "error"])
    .default("info")
    .describe(
      "error: someone must act; warn: degraded; info: start, stop, change; debug: requests",
    ),
});
