/** The modules that serve, in the direction of the imports. */
const serving = [
  "core",
  "tiers",
  "keys",
  "indexer",
  "events",
  "fleet",
  "prompt",
  "router",
  "flow",
  "extproc",
  "query",
  "observe",
  "config",
];

// The import table of docs/architecture.md as rules: each module may import only those named.
const modules = {
  core: [],
  tiers: ["core"],
  keys: ["core"],
  indexer: ["core", "tiers", "keys"],
  events: ["core", "tiers", "keys", "indexer"],
  fleet: ["core", "tiers"],
  prompt: ["core", "keys"],
  router: ["core", "tiers", "indexer", "fleet"],
  flow: ["core", "fleet"],
  extproc: ["core", "prompt", "router", "flow"],
  query: ["core", "tiers", "keys", "router", "extproc"],
  observe: ["core"],
  config: [
    "core",
    "tiers",
    "events",
    "fleet",
    "prompt",
    "router",
    "flow",
    "extproc",
    "query",
    "observe",
    "indexer",
  ],
  lab: serving,
  app: [...serving, "lab"],
  cli: [...serving, "lab", "app"],
};

const direction = Object.entries(modules).map(([name, allowed]) => ({
  name: `${name}-imports-only-its-row`,
  severity: "error",
  from: { path: `^src/${name}/` },
  to: { path: "^src/", pathNot: `^src/(${[name, ...allowed].join("|")})/` },
}));

/** A library that touches the outside may be imported only by the files that carry its name. */
const adapters = [
  ["lmdb", "^src/indexer/lmdb-"],
  ["zeromq", "^src/(events|lab)/(engine/)?zmq-"],
  ["@nats-io", "^src/(events|fleet)/nats-"],
  ["@grpc", "^src/(core/grpc-proto|(extproc|query)/(grpc-|gen/)|lab/grpc-)"],
  ["grpc-health-check", "^src/(extproc|query)/grpc-"],
  ["prom-client", "^src/observe/prom-"],
  ["pino", "^src/observe/pino-"],
].map(([library, home]) => ({
  name: `${library}-only-in-its-adapter`,
  severity: "error",
  from: { path: "^src/", pathNot: [home, "\\.test\\.ts$"] },
  to: { path: `node_modules/${library}(/|$)` },
}));

module.exports = {
  forbidden: [
    {
      name: "no-cycles",
      severity: "error",
      from: { pathNot: "^src/(extproc|query)/gen/" },
      to: { circular: true },
    },
    {
      name: "no-orphan-dev-dependency",
      severity: "error",
      from: { path: "^src/", pathNot: "\\.(test|contract)\\.ts$" },
      to: { dependencyTypes: ["npm-dev"] },
    },
    ...direction,
    ...adapters,
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "require", "node", "default", "types"],
    },
  },
};
