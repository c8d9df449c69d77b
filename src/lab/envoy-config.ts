/**
 * The Envoy recipe of kvatlas, as a function: deploy/envoy/kvatlas.yaml is its output for one set
 * of addresses, with comments.
 *
 * Endpoints are a real cluster whose balancer takes the destination from metadata (override_host),
 * so connection pools, circuit breakers and statistics of Envoy work for them as usual.
 */

export interface EnvoyConfigOptions {
  /** host:port; port 0 takes a free one, as in all addresses that Envoy listens on. */
  readonly listenAddress: string;
  readonly adminAddress: string;
  readonly extProcAddress: string;
  /** ip:port of every endpoint. */
  readonly endpoints: readonly string[];
  /** Another listener to the same endpoints, without kvatlas, in rotation: for comparison. */
  readonly roundRobinListenAddress?: string;
  /** Read buffer of a connection, bytes. Default 1 MiB. Bodies are streamed and may be larger. */
  readonly bufferLimitBytes?: number;
  /** True: requests pass unrouted (in rotation) while kvatlas cannot be reached. Default false. */
  readonly isFailOpen?: boolean;
  /** Sets the subset hint on every request; for tests of the protocol. */
  readonly subset?: readonly string[];
}

export type JsonObject = { readonly [key: string]: unknown };

const BUFFER_LIMIT_BYTES = 1_048_576;
/** Bound of connections, pending and active requests; Envoy's default of 1024 is soon reached. */
const CIRCUIT_MAX = 100_000;
const DESTINATION = "x-gateway-destination-endpoint";
const EXTENSIONS = "type.googleapis.com/envoy.extensions";

export function envoyConfig(options: EnvoyConfigOptions): JsonObject {
  const { roundRobinListenAddress } = options;
  const hasRoundRobin = roundRobinListenAddress !== undefined;
  return {
    admin: { address: socketAddress(options.adminAddress) },
    static_resources: {
      listeners: [
        listener({ options, name: "kvatlas", address: options.listenAddress, cluster: "pool" }),
        ...(hasRoundRobin
          ? [
              listener({
                options,
                name: "round_robin",
                address: roundRobinListenAddress,
                cluster: "pool_round_robin",
              }),
            ]
          : []),
      ],
      clusters: [
        poolCluster(options),
        ...(hasRoundRobin ? [roundRobinCluster(options)] : []),
        extProcCluster(options),
      ],
    },
  };
}

function listener(listened: {
  readonly options: EnvoyConfigOptions;
  readonly name: string;
  readonly address: string;
  readonly cluster: string;
}): JsonObject {
  const { options, name, address, cluster } = listened;
  const isRouted = cluster === "pool";
  const manager = {
    "@type": `${EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: name,
    codec_type: "AUTO",
    request_headers_timeout: "10s",
    stream_idle_timeout: "600s",
    common_http_protocol_options: { idle_timeout: "3600s" },
    route_config: {
      virtual_hosts: [
        {
          name,
          domains: ["*"],
          routes: [{ match: { prefix: "/" }, route: { cluster, timeout: "0s" } }],
        },
      ],
    },
    http_filters: [
      ...(isRouted ? [stripFilter(), ...subsetFilter(options), extProcFilter(options)] : []),
      {
        name: "envoy.filters.http.router",
        typed_config: { "@type": `${EXTENSIONS}.filters.http.router.v3.Router` },
      },
    ],
  };
  return {
    name,
    address: socketAddress(address),
    per_connection_buffer_limit_bytes: options.bufferLimitBytes ?? BUFFER_LIMIT_BYTES,
    filter_chains: [
      {
        filters: [{ name: "envoy.filters.network.http_connection_manager", typed_config: manager }],
      },
    ],
  };
}

/** Routing headers of the protocol are the picker's to set: what a client sends is dropped. */
function stripFilter(): JsonObject {
  return {
    name: "envoy.filters.http.header_mutation",
    typed_config: {
      "@type": `${EXTENSIONS}.filters.http.header_mutation.v3.HeaderMutation`,
      mutations: {
        request_mutations: [
          { remove: DESTINATION },
          { remove: `${DESTINATION}-subset` },
          { remove: `${DESTINATION}-served` },
        ],
      },
    },
  };
}

function subsetFilter(options: EnvoyConfigOptions): readonly JsonObject[] {
  if (options.subset === undefined) return [];
  const hint = {
    metadata_namespace: "envoy.lb.subset_hint",
    value: { [`${DESTINATION}-subset`]: options.subset },
    allow_overwrite: true,
  };
  return [
    {
      name: "envoy.filters.http.set_metadata",
      typed_config: {
        "@type": `${EXTENSIONS}.filters.http.set_metadata.v3.Config`,
        metadata: [hint],
      },
    },
  ];
}

function extProcFilter(options: EnvoyConfigOptions): JsonObject {
  return {
    name: "envoy.filters.http.ext_proc",
    typed_config: {
      "@type": `${EXTENSIONS}.filters.http.ext_proc.v3.ExternalProcessor`,
      grpc_service: { envoy_grpc: { cluster_name: "ext_proc", authority: "ext-proc" } },
      failure_mode_allow: options.isFailOpen ?? false,
      processing_mode: {
        request_header_mode: "SEND",
        request_body_mode: "FULL_DUPLEX_STREAMED",
        request_trailer_mode: "SEND",
        response_header_mode: "SEND",
        response_body_mode: "FULL_DUPLEX_STREAMED",
        response_trailer_mode: "SEND",
      },
      message_timeout: "5s",
      metadata_options: {
        forwarding_namespaces: { untyped: ["envoy.lb", "envoy.lb.subset_hint"] },
        receiving_namespaces: { untyped: ["envoy.lb"] },
      },
    },
  };
}

function poolCluster(options: EnvoyConfigOptions): JsonObject {
  const overrideHost = {
    "@type": `${EXTENSIONS}.load_balancing_policies.override_host.v3.OverrideHost`,
    override_host_sources: [{ metadata: { key: "envoy.lb", path: [{ key: DESTINATION }] } }],
    selected_host_key: { key: "envoy.lb", path: [{ key: `${DESTINATION}-served` }] },
    fallback_policy: { policies: [roundRobinPolicy()] },
  };
  return {
    ...endpointCluster(options, "pool"),
    load_balancing_policy: {
      policies: [
        {
          typed_extension_config: {
            name: "envoy.load_balancing_policies.override_host",
            typed_config: overrideHost,
          },
        },
      ],
    },
  };
}

function roundRobinCluster(options: EnvoyConfigOptions): JsonObject {
  return {
    ...endpointCluster(options, "pool_round_robin"),
    load_balancing_policy: { policies: [roundRobinPolicy()] },
  };
}

function roundRobinPolicy(): JsonObject {
  return {
    typed_extension_config: {
      name: "envoy.load_balancing_policies.round_robin",
      typed_config: {
        "@type": `${EXTENSIONS}.load_balancing_policies.round_robin.v3.RoundRobin`,
      },
    },
  };
}

function endpointCluster(options: EnvoyConfigOptions, name: string): JsonObject {
  return {
    name,
    type: "STATIC",
    connect_timeout: "2s",
    per_connection_buffer_limit_bytes: options.bufferLimitBytes ?? BUFFER_LIMIT_BYTES,
    circuit_breakers: circuitBreakers(),
    // Shorter than the 5 s after which engines close an idle connection: a request written into
    // a connection that is just being closed would fail.
    typed_extension_protocol_options: httpOptions({
      common_http_protocol_options: { idle_timeout: "4s" },
      explicit_http_config: { http_protocol_options: {} },
    }),
    load_assignment: loadAssignment(name, options.endpoints),
  };
}

function extProcCluster(options: EnvoyConfigOptions): JsonObject {
  return {
    name: "ext_proc",
    type: "STATIC",
    connect_timeout: "1s",
    lb_policy: "LEAST_REQUEST",
    // Without these two a fail-open gateway still fails requests with a body.
    common_lb_config: { healthy_panic_threshold: { value: 0 } },
    health_checks: [
      {
        timeout: "1s",
        interval: "1s",
        no_traffic_interval: "1s",
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        grpc_health_check: { service_name: "envoy.service.ext_proc.v3.ExternalProcessor" },
      },
    ],
    circuit_breakers: circuitBreakers(),
    typed_extension_protocol_options: httpOptions({
      explicit_http_config: {
        http2_protocol_options: {
          initial_stream_window_size: 1_048_576,
          initial_connection_window_size: 16_777_216,
        },
      },
    }),
    load_assignment: loadAssignment("ext_proc", [options.extProcAddress]),
  };
}

function circuitBreakers(): JsonObject {
  return {
    thresholds: [
      {
        max_connections: CIRCUIT_MAX,
        max_pending_requests: CIRCUIT_MAX,
        max_requests: CIRCUIT_MAX,
      },
    ],
  };
}

function httpOptions(protocol: JsonObject): JsonObject {
  return {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": `${EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions`,
      ...protocol,
    },
  };
}

function loadAssignment(clusterName: string, addresses: readonly string[]): JsonObject {
  const endpoints = addresses.map((address) => ({ endpoint: { address: socketAddress(address) } }));
  return { cluster_name: clusterName, endpoints: [{ lb_endpoints: endpoints }] };
}

function socketAddress(address: string): JsonObject {
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  return { socket_address: { address: host, port_value: Number(address.slice(colon + 1)) } };
}
