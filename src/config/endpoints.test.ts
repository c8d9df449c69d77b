import { describe, expect, it } from "vitest";
import { parseEndpoints } from "./endpoints.ts";

const defaults = { pool: "default", model: "m" };

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
        'e.yaml:5:5: endpoints[1].adress: got the unknown key "adress", expected one of the keys name, address, pool, model, kvEvents, metrics, draining (did you mean "address"?)',
        'e.yaml:7:26: endpoints[1].kvEvents.address: got "h:5557", expected tcp://host:port with a port from 1 to 65535',
      ],
    });
  });
});
