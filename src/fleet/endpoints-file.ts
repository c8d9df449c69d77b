/**
 * The endpoints file: its form, and what it says as endpoint specs. Pure.
 *
 * Reading YAML with places and hints is the duty of config/, which takes the schema from here.
 */
import { z } from "zod";
import { ENGINE_DEFAULT, ENGINE_NAMES, type EngineName } from "../core/engine-name.ts";
import { endpointId, isEndpointAddress, RANK_MAX } from "../core/ids.ts";
import type { Accelerator, EndpointSpec } from "./endpoint.ts";

export const ENDPOINTS_MAX = 4096;
/** Bytes of an endpoints file: 4096 endpoints at 512 bytes each. */
export const ENDPOINTS_BYTES_MAX = 2_097_152;
const NAME_CHARS_MAX = 253;
const PORT_MAX = 65_535;

const kvEventsSchema = z
  .strictObject({
    engine: z
      .enum(ENGINE_NAMES)
      .default(ENGINE_DEFAULT)
      .describe("whose events they are; lmcache and mooncake: streams of those connectors alone"),
    address: z
      .string()
      .describe(
        "ZMQ address that rank 0 of the engine binds, tcp://host:port; trtllm: URL to poll",
      ),
    replay: z
      .string()
      .refine(isZmqAddress, { error: "tcp://host:port with a port from 1 to 65535" })
      .nullable()
      .default(null)
      .describe("ZMQ address of rank 0's replay socket, to heal gaps; null: the engine has none"),
    ranks: z
      .int()
      .min(1)
      .max(RANK_MAX + 1)
      .default(1)
      .describe(
        "data-parallel ranks behind the endpoint; rank r publishes at port + r, trtllm tells of all at its URL",
      ),
    topic: z.string().max(1024).default("").describe("ZMQ topic prefix; empty: all topics"),
  })
  .refine(({ engine, address }) => engine === "trtllm" || isZmqAddress(address), {
    path: ["address"],
    error: "tcp://host:port with a port from 1 to 65535",
  })
  .refine(({ engine, address }) => engine !== "trtllm" || isHttpUrl(address), {
    path: ["address"],
    error: "with engine trtllm an http(s) URL, http://host:port/kv_cache_events",
  })
  .refine(({ engine, replay }) => engine !== "trtllm" || replay === null, {
    path: ["replay"],
    error: "null with engine trtllm, which has no replay socket",
  })
  .refine(
    ({ address, replay, ranks }) =>
      [address, replay ?? address].every(
        (place) => !isZmqAddress(place) || portOf(place) + ranks - 1 <= PORT_MAX,
      ),
    {
      path: ["ranks"],
      error: `port + ranks - 1 of at most ${PORT_MAX}`,
    },
  );

const endpointSchema = z.strictObject({
  name: z.string().min(1).max(NAME_CHARS_MAX).describe("name for people; unique in the file"),
  address: z
    .string()
    .refine(isEndpointAddress, { error: "host:port with a port from 1 to 65535" })
    .describe("serving address host:port, as the gateway knows it; unique in the file"),
  pool: z.string().min(1).optional().describe("pool; without it the pool of kvatlas.yaml"),
  model: z
    .string()
    .min(1)
    .optional()
    .describe("base model served; without it the model of kvatlas.yaml"),
  kvEvents: kvEventsSchema
    .nullable()
    .default(null)
    .describe(
      "where the engine publishes KV events; null: it does not, and its blocks are assumed",
    ),
  metrics: z
    .string()
    .refine((text) => text === "off" || isHttpUrl(text), { error: 'an http(s) URL or "off"' })
    .optional()
    .describe('URL of the Prometheus metrics, or "off"; without it http://ADDRESS/metrics'),
  draining: z.boolean().default(false).describe("true: the endpoint gets no new requests"),
  role: z
    .enum(["both", "prefill", "decode"])
    .default("both")
    .describe("what it does of a request; prefill and decode: one half each (docs/policy.md)"),
  accelerator: z
    .string()
    .optional()
    .describe("its class in router.accelerators; without it nothing is stated, and all is learned"),
});

export const endpointsFileSchema = z
  .strictObject({
    endpoints: z.array(endpointSchema).max(ENDPOINTS_MAX).describe("the endpoints of the fleet"),
  })
  .superRefine(({ endpoints }, context) => {
    for (const key of ["name", "address"] as const) {
      const firstOf = new Map<string, number>();
      for (const [index, endpoint] of endpoints.entries()) {
        const first = firstOf.get(endpoint[key]);
        if (first === undefined) firstOf.set(endpoint[key], index);
        else {
          const message = `another ${key} than that of endpoints[${first}]`;
          context.addIssue({ code: "custom", path: ["endpoints", index, key], message });
        }
      }
    }
  });

export type EndpointsFile = z.infer<typeof endpointsFileSchema>;

/** What holds for endpoints that do not say otherwise. */
export interface EndpointDefaults {
  readonly pool: string;
  readonly model: string;
  /** The classes that an endpoint may name. */
  readonly accelerators: ReadonlyMap<string, Accelerator>;
  /** By whose rules prompts are read: events of the other one's are an error. Null: by none. */
  readonly promptEngine: PromptEngine | null;
}

type PromptEngine = Extract<EngineName, "vllm" | "sglang">;

/** The file's form where this is stated: what does not fit it is an error. */
export function endpointsFileSchemaWith({
  accelerators,
  promptEngine,
}: EndpointDefaults): typeof endpointsFileSchema {
  const names = [...accelerators.keys()];
  const message =
    names.length === 0
      ? "no accelerator: router.accelerators is empty"
      : `one of router.accelerators: ${names.join(", ")}`;
  return endpointsFileSchema.superRefine(({ endpoints }, context) => {
    for (const [index, { kvEvents }] of endpoints.entries()) {
      const other = promptEngine === "sglang" ? "vllm" : "sglang";
      if (promptEngine === null || kvEvents?.engine !== other) continue;
      const path = ["endpoints", index, "kvEvents", "engine"];
      const message = `${promptEngine}, which is prompt.engine: another engine makes other prompts of chats`;
      context.addIssue({ code: "custom", path, message });
    }
    for (const [index, { accelerator }] of endpoints.entries()) {
      if (accelerator === undefined || accelerators.has(accelerator)) continue;
      context.addIssue({ code: "custom", path: ["endpoints", index, "accelerator"], message });
    }
  });
}

export function endpointSpecs(file: EndpointsFile, defaults: EndpointDefaults): EndpointSpec[] {
  return file.endpoints.map((endpoint) => ({
    id: endpointId(endpoint.address),
    name: endpoint.name,
    pool: endpoint.pool ?? defaults.pool,
    model: endpoint.model ?? defaults.model,
    role: endpoint.role,
    poolTokens: null,
    kvEvents: endpoint.kvEvents,
    metricsUrl: metricsUrlOf(endpoint.metrics, endpoint.address),
    isDraining: endpoint.draining,
    accelerator: defaults.accelerators.get(endpoint.accelerator ?? "") ?? null,
  }));
}

function metricsUrlOf(metrics: string | undefined, address: string): string | null {
  if (metrics === "off") return null;
  return metrics ?? `http://${address}/metrics`;
}

function isZmqAddress(text: string): boolean {
  return text.startsWith("tcp://") && isEndpointAddress(text.slice("tcp://".length));
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}

function isHttpUrl(text: string): boolean {
  return /^https?:\/\//.test(text) && URL.canParse(text);
}
