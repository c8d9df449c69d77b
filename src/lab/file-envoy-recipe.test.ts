import { describe, expect, it } from "vitest";
import { requireBinary } from "../../test/harness/binaries.ts";
import { ENVOY_RECIPES, envoyRecipe, readEnvoyFile, recipeFile } from "./file-envoy-recipe.ts";
import { validateEnvoyConfig } from "./process-envoy.ts";

const options = {
  listenAddress: "127.0.0.1:8080",
  adminAddress: "127.0.0.1:9901",
  extProcAddress: "127.0.0.1:9002",
  endpoints: ["127.0.0.1:18001", "127.0.0.1:18002", "[::1]:18003"],
};
const envoy = await requireBinary("envoy");

describe("envoyRecipe", () => {
  it("puts the addresses into the file, and changes nothing else", () => {
    const { static_resources: placed } = envoyRecipe(options);
    const [pool, extProc] = placed.clusters;
    const hosts = pool?.load_assignment?.endpoints.flatMap((each) => each.lb_endpoints);
    expect(hosts?.map((host) => host.endpoint.address)).toEqual([
      { socket_address: { address: "127.0.0.1", port_value: 18_001 } },
      { socket_address: { address: "127.0.0.1", port_value: 18_002 } },
      { socket_address: { address: "::1", port_value: 18_003 } },
    ]);
    const asPasted = envoyRecipe({
      ...options,
      listenAddress: "0.0.0.0:8080",
      endpoints: ["127.0.0.1:18001", "127.0.0.1:18002"],
    });
    expect(asPasted).toEqual(readEnvoyFile(recipeFile("kvatlas")));
    expect(extProc?.name).toBe("ext_proc");
  });

  it.each(ENVOY_RECIPES)("%s strips routing headers of clients before ext_proc", (recipe) => {
    const text = JSON.stringify(envoyRecipe({ ...options, recipe }));
    expect(text.indexOf("http.header_mutation")).toBeGreaterThan(-1);
    expect(text.indexOf("http.header_mutation")).toBeLessThan(text.indexOf("http.ext_proc"));
  });

  it.skipIf(envoy.isMissing).each(ENVOY_RECIPES)(
    `%s is accepted by Envoy${envoy.note}`,
    async (recipe) => {
      const config = envoyRecipe({
        ...options,
        recipe,
        roundRobinListenAddress: "127.0.0.1:8081",
      });
      expect(await validateEnvoyConfig(envoy.path, config)).toBeNull();
    },
  );

  it.skipIf(envoy.isMissing)(`an unknown key is not${envoy.note}`, async () => {
    const config = { ...envoyRecipe(options), unknown_key: 1 };
    expect(await validateEnvoyConfig(envoy.path, config)).toContain("unknown_key");
  });
});
