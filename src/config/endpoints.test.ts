import { describe, expect, it } from "vitest";
import { endpointDefaults, parseEndpoints } from "./endpoints.ts";
import { configSchema } from "./schema.ts";

const config = configSchema.parse({ model: "m" });
const defaults = endpointDefaults(config);

describe("parseEndpoints", () => {
  it("reads the endpoints of a file", () => {
    const text = "endpoints:\n  - { name: a, address: 10.0.0.1:8000 }\n";
    expect(parseEndpoints({ file: "e.yaml", text }, defaults)).toMatchObject({
      ok: true,
      specs: [{ id: "10.0.0.1:8000", name: "a", pool: "default", model: "m" }],
    });
  });

  it("names file, place, value and what is expected", () => {
    const text = `endpoints:
  - name: a
    address: 10.0.0.1
  - name: a
    adress: h:1
    address: h:1
    kvEvents: { address: h:5557 }
`;
    expect(parseEndpoints({ file: "e.yaml", text }, defaults)).toEqual({
      ok: false,
      problems: [
        'e.yaml:3:14: endpoints[0].address: got "10.0.0.1", expected host:port with a port from 1 to 65535',
        'e.yaml:4:11: endpoints[1].name: got "a", expected another name than that of endpoints[0]',
        'e.yaml:5:5: endpoints[1].adress: got the unknown key "adress", expected one of the keys name, address, pool, model, kvEvents, metrics, draining, role, accelerator (did you mean "address"?)',
        'e.yaml:7:26: endpoints[1].kvEvents.address: got "h:5557", expected tcp://host:port with a port from 1 to 65535',
      ],
    });
  });

  it("takes no events of another engine than that by whose rules prompts are read", () => {
    const problemsOf = (prompt: object, engine: string): readonly string[] => {
      const given = endpointDefaults(configSchema.parse({ model: "m", prompt }));
      const events = `{ address: "tcp://h:1", engine: ${engine} }`;
      const text = `endpoints:\n  - { name: a, address: "h:1", kvEvents: ${events} }\n`;
      const parsed = parseEndpoints({ file: "e.yaml", text }, given);
      return parsed.ok ? [] : parsed.problems;
    };
    const expected = "which is prompt.engine: another engine makes other prompts of chats";
    expect(problemsOf({}, "sglang")).toEqual([
      `e.yaml:2:74: endpoints[0].kvEvents.engine: got "sglang", expected vllm, ${expected}`,
    ]);
    expect(problemsOf({ engine: "sglang" }, "vllm")).toEqual([
      `e.yaml:2:74: endpoints[0].kvEvents.engine: got "vllm", expected sglang, ${expected}`,
    ]);
    expect(problemsOf({ engine: "sglang" }, "sglang")).toEqual([]);
    expect(problemsOf({ engine: "sglang" }, "lmcache")).toEqual([]);
    expect(problemsOf({ tokenize: "off" }, "sglang")).toEqual([]);
  });

  it("gives an endpoint what is stated of its accelerator, and takes no other name", () => {
    const router = {
      prefillTokensPerSecond: 10_000,
      accelerators: {
        h100: { prefillTokensPerSecond: 40_000, dollarsPerHour: 4 },
        l4: { prefillTokensPerSecond: 5000 },
      },
    };
    const stated = endpointDefaults(configSchema.parse({ model: "m", router }));
    const text = (accelerator: string): string =>
      `endpoints:\n  - name: a\n    address: h:1\n    accelerator: ${accelerator}\n`;
    const parsed = (name: string, given = stated): unknown =>
      parseEndpoints({ file: "e.yaml", text: text(name) }, given);
    expect(parsed("h100")).toMatchObject({
      specs: [{ accelerator: { speed: 4, dollarsPerHour: 4 } }],
    });
    expect(parsed("l4")).toMatchObject({
      specs: [{ accelerator: { speed: 0.5, dollarsPerHour: 0 } }],
    });
    const place = 'e.yaml:4:18: endpoints[0].accelerator: got "h200", expected';
    const problems = [`${place} one of router.accelerators: h100, l4`];
    expect(parsed("h200")).toEqual({ ok: false, problems });
    const none = [`${place} no accelerator: router.accelerators is empty`];
    expect(parsed("h200", defaults)).toEqual({ ok: false, problems: none });
  });
});
