import { describe, expect, it } from "vitest";
import { ENDPOINTS_MAX, endpointSpecs, endpointsFileSchema } from "./endpoints-file.ts";

const defaults = { pool: "default", model: "m", accelerators: new Map(), promptEngine: null };

/** Path and message of each issue; empty when the file is accepted. */
function issuesOf(endpoints: readonly unknown[]): string[] {
  const checked = endpointsFileSchema.safeParse({ endpoints });
  if (checked.success) return [];
  return checked.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
}

describe("endpointsFileSchema", () => {
  it("fills in pool, model and metrics URL", () => {
    const file = endpointsFileSchema.parse({
      endpoints: [
        { name: "a", address: "[::1]:8000" },
        {
          name: "b",
          address: "b.svc:80",
          pool: "p",
          model: "n",
          kvEvents: { address: "tcp://b.svc:5557" },
          metrics: "off",
          draining: true,
          role: "decode",
        },
      ],
    });
    expect(endpointSpecs(file, defaults)).toEqual([
      {
        id: "[::1]:8000",
        name: "a",
        pool: "default",
        model: "m",
        ...{ role: "both", poolTokens: null },
        kvEvents: null,
        metricsUrl: "http://[::1]:8000/metrics",
        isDraining: false,
        accelerator: null,
      },
      {
        id: "b.svc:80",
        name: "b",
        pool: "p",
        model: "n",
        ...{ role: "decode", poolTokens: null },
        kvEvents: {
          engine: "vllm",
          address: "tcp://b.svc:5557",
          ranks: 1,
          replay: null,
          topic: "",
        },
        metricsUrl: null,
        isDraining: true,
        accelerator: null,
      },
    ]);
  });

  it("refuses names and addresses that occur twice", () => {
    const one = { name: "a", address: "h:1" };
    expect(issuesOf([one, { name: "b", address: "h:2" }, one])).toEqual([
      "endpoints.2.name: another name than that of endpoints[0]",
      "endpoints.2.address: another address than that of endpoints[0]",
    ]);
  });

  it.each([
    [{ name: "a", address: "h" }, "endpoints.0.address"],
    [{ name: "a", address: "h:0" }, "endpoints.0.address"],
    [{ name: "", address: "h:1" }, "endpoints.0.name"],
    [{ name: "a", address: "h:1", metrics: "ftp://h" }, "endpoints.0.metrics"],
    [
      { name: "a", address: "h:1", kvEvents: { address: "h:5557" } },
      "endpoints.0.kvEvents.address",
    ],
    [
      { name: "a", address: "h:1", kvEvents: { address: "tcp://h:65535", ranks: 2 } },
      "endpoints.0.kvEvents.ranks",
    ],
  ])("refuses %j", (endpoint, path) => {
    expect(issuesOf([endpoint])).toEqual([expect.stringContaining(`${path}: `)]);
  });

  it("takes a URL, ranks and no replay where TensorRT-LLM is polled", () => {
    const issues = (kvEvents: object): string[] =>
      issuesOf([{ name: "a", address: "h:1", kvEvents: { engine: "trtllm", ...kvEvents } }]);
    const address = "http://h:8000/kv_cache_events";
    const path = "endpoints.0.kvEvents";
    expect(issues({ address })).toEqual([]);
    expect(issues({ address: "tcp://h:5557" })).toEqual([
      expect.stringContaining(`${path}.address`),
    ]);
    expect(issues({ address, ranks: 2 })).toEqual([]);
    expect(issues({ address, replay: "tcp://h:1" })).toEqual([
      expect.stringContaining(`${path}.replay`),
    ]);
    const vllm = { name: "a", address: "h:1", kvEvents: { address } };
    expect(issuesOf([vllm])).toEqual([expect.stringContaining(`${path}.address`)]);
  });

  it("refuses more endpoints than the limit", () => {
    const endpoints = Array.from({ length: ENDPOINTS_MAX + 1 }, (_, index) => ({
      name: `n${index}`,
      address: `h${index}:1`,
    }));
    expect(issuesOf(endpoints.slice(1))).toEqual([]);
    expect(issuesOf(endpoints)).toEqual([expect.stringContaining("endpoints: ")]);
  });
});
