/** What tests change in an Envoy configuration beside its addresses. */
import type { EnvoyConfig } from "../../src/lab/file-envoy-recipe.ts";

/** Sets the subset hint on every request, in place of a gateway that restricts its pool. */
export function withSubset(config: EnvoyConfig, subset: readonly string[]): EnvoyConfig {
  const hint = {
    metadata_namespace: "envoy.lb.subset_hint",
    value: { "x-gateway-destination-endpoint-subset": subset },
    allow_overwrite: true,
  };
  const filter = {
    name: "envoy.filters.http.set_metadata",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
      metadata: [hint],
    },
  };
  const changed = structuredClone(config);
  for (const manager of managersOf(changed)) manager.http_filters.unshift(filter);
  return changed;
}

/** The HTTP connection managers of all listeners. */
export function managersOf(config: EnvoyConfig) {
  return config.static_resources.listeners.flatMap(({ filter_chains: chains }) =>
    chains.flatMap(({ filters }) => filters.map((filter) => filter.typed_config)),
  );
}
