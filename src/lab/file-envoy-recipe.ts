/**
 * Envoy configurations as files, with other addresses: what the tour and the tests start is the
 * file of deploy/envoy/ that an operator pastes, and nothing of it but addresses is changed.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";

/** Files of deploy/envoy/. */
export const ENVOY_RECIPES = [
  "kvatlas",
  "kvatlas-fail-open",
  "kvatlas-buffered",
  "kvatlas-buffered-fail-open",
] as const;
export type EnvoyRecipe = (typeof ENVOY_RECIPES)[number];

const named = z.looseObject({ name: z.string() });
const managerSchema = z.looseObject({
  stat_prefix: z.string(),
  route_config: z.looseObject({
    virtual_hosts: z.array(
      z.looseObject({
        routes: z.array(z.looseObject({ route: z.looseObject({ cluster: z.string() }) })),
      }),
    ),
  }),
  http_filters: z.array(named),
});
const listenerSchema = z.looseObject({
  name: z.string(),
  address: z.unknown(),
  filter_chains: z.array(
    z.looseObject({ filters: z.array(z.looseObject({ typed_config: managerSchema })) }),
  ),
});
const lbEndpointSchema = z.looseObject({ endpoint: z.looseObject({ address: z.unknown() }) });
const clusterSchema = z.looseObject({
  name: z.string(),
  load_assignment: z
    .looseObject({
      cluster_name: z.string(),
      endpoints: z.array(z.looseObject({ lb_endpoints: z.array(lbEndpointSchema).min(1) })),
    })
    .optional(),
});
const fileSchema = z.looseObject({
  admin: z.looseObject({ address: z.unknown() }),
  static_resources: z.looseObject({
    listeners: z.array(listenerSchema).min(1),
    clusters: z.array(clusterSchema).min(1),
  }),
});

export type EnvoyConfig = z.infer<typeof fileSchema>;
type Listener = z.infer<typeof listenerSchema>;
type Cluster = z.infer<typeof clusterSchema>;

/** host:port of everything in a configuration, by name; port 0 takes a free one to listen on. */
export interface EnvoyPlaces {
  readonly admin: string;
  readonly listeners: Readonly<Record<string, string>>;
  /** A cluster that is not named keeps its endpoints. */
  readonly clusters: Readonly<Record<string, readonly string[]>>;
}

export interface RecipeOptions {
  /** Default "kvatlas". */
  readonly recipe?: EnvoyRecipe;
  readonly listenAddress: string;
  readonly adminAddress: string;
  readonly extProcAddress: string;
  /** ip:port of every endpoint. */
  readonly endpoints: readonly string[];
  /** Another listener to the same endpoints, without kvatlas, in rotation: for comparison. */
  readonly roundRobinListenAddress?: string;
}

export function envoyRecipe(options: RecipeOptions): EnvoyConfig {
  const { listenAddress, adminAddress, extProcAddress, endpoints, roundRobinListenAddress } =
    options;
  const config = placeEnvoy(readEnvoyFile(recipeFile(options.recipe ?? "kvatlas")), {
    admin: adminAddress,
    listeners: { kvatlas: listenAddress },
    clusters: { pool: endpoints, ext_proc: [extProcAddress] },
  });
  return roundRobinListenAddress === undefined
    ? config
    : withRotation(config, roundRobinListenAddress);
}

export function recipeFile(recipe: EnvoyRecipe): URL {
  return new URL(`../../deploy/envoy/${recipe}.yaml`, import.meta.url);
}

/** Throws on a file that is no Envoy configuration of this repository's form. */
export function readEnvoyFile(file: URL): EnvoyConfig {
  return fileSchema.parse(parse(readFileSync(file, "utf8")));
}

/** Endpoints of a cluster with several localities are dealt out to them in turn. */
export function placeEnvoy(config: EnvoyConfig, places: EnvoyPlaces): EnvoyConfig {
  const { listeners, clusters } = config.static_resources;
  return {
    ...config,
    admin: { ...config.admin, address: socketAddress(places.admin) },
    static_resources: {
      ...config.static_resources,
      listeners: listeners.map((listener) => placeListener(listener, places)),
      clusters: clusters.map((cluster) => placeCluster(cluster, places)),
    },
  };
}

function placeListener(listener: Listener, { listeners }: EnvoyPlaces): Listener {
  const address = listeners[listener.name];
  if (address === undefined) throw new Error(`no address for the listener ${listener.name}`);
  return { ...listener, address: socketAddress(address) };
}

function placeCluster(cluster: Cluster, { clusters }: EnvoyPlaces): Cluster {
  const addresses = clusters[cluster.name];
  const assignment = cluster.load_assignment;
  if (addresses === undefined || assignment === undefined) return cluster;
  const localities = assignment.endpoints.length;
  const endpoints = assignment.endpoints.map((locality, position) => {
    const [pattern] = locality.lb_endpoints;
    const own = addresses.filter((_, i) => i % localities === position);
    const lbEndpoints = own.map((address) => ({
      ...pattern,
      endpoint: { ...pattern?.endpoint, address: socketAddress(address) },
    }));
    return { ...locality, lb_endpoints: lbEndpoints };
  });
  return { ...cluster, load_assignment: { ...assignment, endpoints } };
}

/** The same way to the same endpoints, without the picker's filters and policy. */
function withRotation(config: EnvoyConfig, address: string): EnvoyConfig {
  const { listeners, clusters } = config.static_resources;
  const name = "round_robin";
  const cluster = "pool_round_robin";
  const rotating = listeners.map((listener) => ({
    ...listener,
    name,
    address: socketAddress(address),
    filter_chains: listener.filter_chains.map((chain) => ({
      ...chain,
      filters: chain.filters.map((filter) => ({
        ...filter,
        typed_config: {
          ...filter.typed_config,
          stat_prefix: name,
          route_config: {
            ...filter.typed_config.route_config,
            virtual_hosts: filter.typed_config.route_config.virtual_hosts.map((host) => ({
              ...host,
              routes: host.routes.map((each) => ({ ...each, route: { ...each.route, cluster } })),
            })),
          },
          http_filters: filter.typed_config.http_filters.slice(-1),
        },
      })),
    })),
  }));
  const pools = clusters
    .filter((each) => each.name === "pool")
    .map(({ load_balancing_policy: _, ...pool }) => ({
      ...pool,
      name: cluster,
      lb_policy: "ROUND_ROBIN",
      load_assignment: { ...pool.load_assignment, cluster_name: cluster },
    }));
  return fileSchema.parse({
    ...config,
    static_resources: {
      ...config.static_resources,
      listeners: [...listeners, ...rotating],
      clusters: [...clusters, ...pools],
    },
  });
}

function socketAddress(address: string): object {
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  return { socket_address: { address: host, port_value: Number(address.slice(colon + 1)) } };
}
