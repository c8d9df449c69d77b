/** Configuration of the Envoy edge. */
import { z } from "zod";

/** Threads that serve; the one that decides is busy long before. */
const WORKERS_MAX = 16;

const listenAddress = z
  .string()
  .regex(/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}$/, "expected host:port")
  .refine((address) => Number(address.slice(address.lastIndexOf(":") + 1)) <= 65_535, {
    error: "expected a port from 0 to 65535",
  });

const tlsConfigSchema = z.strictObject({
  certFile: z
    .string()
    .min(1)
    .describe(
      "certificate chain, PEM, relative to the configuration file; read again when it changes",
    ),
  keyFile: z.string().min(1).describe("its private key, PEM"),
  clientCaFile: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      "authorities of gateways' certificates, PEM: who shows none is turned away; null: none is asked for",
    ),
});

export type TlsConfig = z.infer<typeof tlsConfigSchema>;

const extProcSchema = z.strictObject({
  listen: listenAddress
    .default("127.0.0.1:9002")
    .describe("address of the ext_proc service, host:port; port 0 takes a free one"),
  healthListen: listenAddress
    .default("127.0.0.1:9003")
    .describe("address of the gRPC health service, which the ext_proc address serves as well"),
  workers: z
    .int()
    .min(0)
    .max(WORKERS_MAX)
    .default(0)
    .describe(
      "threads that serve the ext_proc address; 0: the thread that decides serves as well; see operations.md on when it is too little",
    ),
  tls: tlsConfigSchema
    .nullable()
    .default(null)
    .describe(
      "TLS of the ext_proc address; null: plain HTTP/2. The health address is always plain",
    ),
  bodyMode: z
    .enum(["full-duplex", "buffered"])
    .default("full-duplex")
    .describe("body mode of gateways that do not state theirs in the first message"),
  bodyBytesMax: z
    .int()
    .min(1024)
    .max(1_073_741_824)
    .default(33_554_432)
    .describe("largest request body, bytes; a larger one is refused with 413"),
  bodiesBytesMax: z
    .int()
    .min(1024)
    .default(1_073_741_824)
    .describe(
      "bytes of all bodies that come, wait for a decision, or for the gateway to take them back; what is beyond is refused with 503",
    ),
  deadlineMs: z
    .number()
    .positive()
    .max(60_000)
    .default(100)
    .describe("time for a decision, ms; beyond it the least loaded endpoint is taken"),
  isFallbackNamed: z
    .boolean()
    .default(false)
    .describe(
      "name the next best endpoint behind the destination, comma-separated, for gateways that retry there; those that route by the header alone take the two for one address",
    ),
  isTestSelectionOn: z
    .boolean()
    .default(false)
    .describe(
      "obey the header test-epp-endpoint-selection of the endpoint picker's conformance tests; not in production, as any client can steer with it",
    ),
  drainMs: z
    .int()
    .min(0)
    .max(3_600_000)
    .default(30_000)
    .describe("on SIGTERM: longest wait for answers in flight, ms"),
  drainNoticeMs: z
    .int()
    .min(0)
    .max(600_000)
    .default(3000)
    .describe(
      "on SIGTERM: shortest wait, ms, in which gateways see NOT_SERVING; two health checks and slack",
    ),
});

export const extProcConfigSchema: typeof extProcSchema = extProcSchema.refine(
  ({ bodyBytesMax, bodiesBytesMax }) => bodiesBytesMax >= bodyBytesMax,
  { path: ["bodiesBytesMax"], error: "at least bodyBytesMax, or the largest body is never taken" },
);

export type ExtProcConfig = z.infer<typeof extProcConfigSchema>;
