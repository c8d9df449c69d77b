/**
 * What a gateway's controller does with the manifests of deploy/gateways/: puts their parts into the
 * Envoy configuration that it makes.
 */
import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { z } from "zod";
import type { EnvoyConfig } from "../../src/lab/file-envoy-recipe.ts";
import { managersOf } from "./envoy-edits.ts";

const manifestSchema = z.looseObject({ kind: z.string() });
export type Manifest = z.infer<typeof manifestSchema>;

const envoyFilterSchema = z.looseObject({
  spec: z.looseObject({
    configPatches: z.array(
      z.discriminatedUnion("applyTo", [
        z.looseObject({
          applyTo: z.literal("HTTP_FILTER"),
          patch: z.object({
            operation: z.literal("INSERT_FIRST"),
            value: z.looseObject({ name: z.string() }),
          }),
        }),
        z.looseObject({
          applyTo: z.literal("CLUSTER"),
          match: z.looseObject({
            cluster: z.object({ service: z.string(), portNumber: z.number() }),
          }),
          patch: z.object({ operation: z.literal("MERGE"), value: z.looseObject({}) }),
        }),
      ]),
    ),
  }),
});
const trafficPolicySchema = z.looseObject({
  spec: z.looseObject({
    headers: z.object({ earlyRequestHeaders: z.object({ remove: z.array(z.string()) }) }),
    connection: z.object({ bufferLimit: z.string().regex(/^\d+Mi$/) }),
  }),
});

/** A file of deploy/gateways/. */
export function readManifests(name: string): Manifest[] {
  const file = new URL(`../../deploy/gateways/${name}`, import.meta.url);
  return parseAllDocuments(readFileSync(file, "utf8")).map((document) =>
    manifestSchema.parse(document.toJS()),
  );
}

/** Istio: an EnvoyFilter. */
export function withEnvoyFilter(config: EnvoyConfig, manifests: readonly Manifest[]): EnvoyConfig {
  const changed = structuredClone(config);
  const { spec } = envoyFilterSchema.parse(manifestOf(manifests, "EnvoyFilter"));
  for (const each of spec.configPatches) {
    if (each.applyTo === "HTTP_FILTER") {
      for (const manager of managersOf(changed)) manager.http_filters.unshift(each.patch.value);
      continue;
    }
    const { service, portNumber } = each.match.cluster;
    const name = `outbound|${portNumber}||${service}`;
    const cluster = changed.static_resources.clusters.find((one) => one.name === name);
    if (cluster === undefined) throw new Error(`the EnvoyFilter matches no cluster: ${name}`);
    Object.assign(cluster, each.patch.value);
  }
  return changed;
}

/** Envoy Gateway: a ClientTrafficPolicy. */
export function withTrafficPolicy(
  config: EnvoyConfig,
  manifests: readonly Manifest[],
): EnvoyConfig {
  const changed = structuredClone(config);
  const { spec } = trafficPolicySchema.parse(manifestOf(manifests, "ClientTrafficPolicy"));
  const mutations = spec.headers.earlyRequestHeaders.remove.map((remove) => ({ remove }));
  for (const manager of managersOf(changed)) {
    manager["early_header_mutation_extensions"] = [
      {
        name: "envoy.http.early_header_mutation.header_mutation",
        typed_config: {
          "@type":
            "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
          mutations,
        },
      },
    ];
  }
  const bufferBytes = Number.parseInt(spec.connection.bufferLimit, 10) * 1_048_576;
  for (const listener of changed.static_resources.listeners) {
    listener["per_connection_buffer_limit_bytes"] = bufferBytes;
  }
  return changed;
}

function manifestOf(manifests: readonly Manifest[], kind: string): Manifest | undefined {
  return manifests.find((manifest) => manifest.kind === kind);
}
