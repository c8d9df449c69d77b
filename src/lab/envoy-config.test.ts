import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { requireBinary } from "../../test/harness/binaries.ts";
import { envoyConfig } from "./envoy-config.ts";
import { validateEnvoyConfig } from "./process-envoy.ts";

const recipe = new URL("../../deploy/envoy/kvatlas.yaml", import.meta.url);
const options = {
  listenAddress: "0.0.0.0:8080",
  adminAddress: "127.0.0.1:9901",
  extProcAddress: "127.0.0.1:9002",
  endpoints: ["127.0.0.1:18001", "127.0.0.1:18002"],
};
const envoy = await requireBinary("envoy");

describe("envoyConfig", () => {
  it("is what deploy/envoy/kvatlas.yaml says", () => {
    expect(parse(readFileSync(recipe, "utf8"))).toEqual(envoyConfig(options));
  });

  it("strips routing headers of clients before ext_proc sees a request", () => {
    const text = JSON.stringify(envoyConfig(options));
    expect(text.indexOf("http.header_mutation")).toBeGreaterThan(-1);
    expect(text.indexOf("http.header_mutation")).toBeLessThan(text.indexOf("http.ext_proc"));
  });

  it.skipIf(envoy.isMissing)(`is accepted by Envoy${envoy.note}`, async () => {
    const comparison = { ...options, roundRobinListenAddress: "127.0.0.1:8081" };
    const tests = { ...comparison, subset: ["127.0.0.1"], isFailOpen: true };
    for (const each of [options, tests]) {
      expect(await validateEnvoyConfig(envoy.path, envoyConfig(each))).toBeNull();
    }
  });

  it.skipIf(envoy.isMissing)(`is not accepted with an unknown key${envoy.note}`, async () => {
    const config = { ...envoyConfig(options), unknown_key: 1 };
    expect(await validateEnvoyConfig(envoy.path, config)).toContain("unknown_key");
  });
});
