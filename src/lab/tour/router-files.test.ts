import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadConfig } from "../../config/file-config.ts";
import { loadEndpoints } from "../../config/file-endpoints-check.ts";
import { endpointsYaml, routerYaml } from "./router-files.ts";

describe("router files", () => {
  it.each([
    { natsAddress: null, transport: "direct" },
    { natsAddress: "127.0.0.1:4222", transport: "nats" },
  ])("are accepted by the router ($transport)", ({ natsAddress, transport }) => {
    const folder = mkdtempSync(join(tmpdir(), "kvatlas-test-"));
    try {
      writeFileSync(join(folder, "kvatlas.yaml"), routerYaml(natsAddress));
      const addresses = {
        kvEventsAddress: "tcp://127.0.0.1:2",
        replayAddress: "tcp://127.0.0.1:3",
      };
      const engines = [{ address: "127.0.0.1:1", ...addresses }];
      writeFileSync(join(folder, "endpoints.yaml"), endpointsYaml(engines));
      const config = loadConfig(join(folder, "kvatlas.yaml"));
      expect(config.events.transport).toBe(transport);
      expect(loadEndpoints(config).map(({ name }) => name)).toEqual(["pod-1"]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
