/**
 * Makes the pages of docs/ that say what the code says: metrics, configuration, errors. And the
 * Envoy recipes that are one recipe in other modes.
 *
 * `npm run docs` writes them; test/docs.test.ts fails while a page differs from what is made here.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { configSchema } from "../src/config/schema.ts";
import { acceptedText, type SchemaNode, schemaNode } from "../src/config/schema-text.ts";
import { ERROR_CODES } from "../src/core/errors.ts";
import { COUNTERS, GAUGES, HISTOGRAMS } from "../src/core/metric-catalog.ts";
import { endpointsFileSchema } from "../src/fleet/endpoints-file.ts";

const MADE_BY = "<!-- Made by `npm run docs`: edit the source named below, then run it again. -->";

/** Page, relative to the repository, -> its text. */
export function makeDocs(): ReadonlyMap<string, string> {
  return new Map([
    ["docs/metrics.md", metricsPage()],
    ["docs/configuration.md", configurationPage()],
    ["docs/errors.md", errorsPage()],
    ["deploy/envoy/kvatlas-fail-open.yaml", envoyRecipe(FAIL_OPEN)],
    ["deploy/envoy/kvatlas-buffered.yaml", envoyRecipe(BUFFERED)],
    ["deploy/envoy/kvatlas-buffered-fail-open.yaml", envoyRecipe({ ...BUFFERED, ...FAIL_OPEN })],
  ]);
}

/** What to replace in deploy/envoy/kvatlas.yaml. */
type Edits = Readonly<Record<string, string>>;

const FAIL_OPEN: Edits = {
  "requests fail without kvatlas": "requests pass in rotation without kvatlas",
  "failure_mode_allow: false": "failure_mode_allow: true",
};
const BUFFERED: Edits = {
  "bodies stream": "request bodies are buffered",
  "# What is read ahead of a slow reader.":
    "# The largest request body; extProc.bodyBytesMax of kvatlas. A larger one has the answer 413.",
  "per_connection_buffer_limit_bytes: 1048576\n      filter_chains":
    "per_connection_buffer_limit_bytes: 33554432\n      filter_chains",
  "request_body_mode: FULL_DUPLEX_STREAMED": "request_body_mode: BUFFERED",
  // Buffered as well, an answer would come at once at its end.
  "response_body_mode: FULL_DUPLEX_STREAMED": "response_body_mode: STREAMED",
};

function envoyRecipe(edits: Edits): string {
  const source = readFileSync(new URL("../deploy/envoy/kvatlas.yaml", import.meta.url), "utf8");
  return Object.entries(edits).reduce((text, [from, to]) => {
    if (text.split(from).length !== 2) throw new Error(`not exactly once in the recipe: ${from}`);
    return text.replace(from, to);
  }, source);
}

function metricsPage(): string {
  return page([
    "# Metrics",
    MADE_BY,
    "`GET /metrics` of the admin server (`observe.adminListen`), Prometheus text format. Declared in " +
      "`src/core/metric-catalog.ts`. Base units; labels are closed sets or endpoint addresses. " +
      "Metrics of the process itself (`process_*`, `nodejs_*`) are those of prom-client.",
    "## Counters",
    metricsTable(COUNTERS),
    "## Gauges",
    metricsTable(GAUGES),
    "## Histograms",
    metricsTable(HISTOGRAMS),
  ]);
}

type Catalog = Readonly<
  Record<string, { readonly help: string; readonly labels: readonly string[] }>
>;

function metricsTable(catalog: Catalog): string {
  const rows = Object.entries(catalog).map(([name, { help, labels }]) => [
    code(name),
    labels.map(code).join(", "),
    help,
  ]);
  return table(["Metric", "Labels", "Meaning"], rows);
}

function errorsPage(): string {
  const rows = Object.entries(ERROR_CODES).map(([name, meaning]) => [code(name), meaning]);
  return page([
    "# Errors",
    MADE_BY,
    "Every operating error has one of these codes, a message with the value and the limit, and its " +
      "cause. Declared in `src/core/errors.ts`.",
    table(["Code", "Meaning"], rows),
  ]);
}

function configurationPage(): string {
  return page([
    "# Configuration",
    MADE_BY,
    "`kvatlas serve --config kvatlas.yaml` reads two files. An unknown key, a value out of its range " +
      "or a duplicate key is an error with file, line, path, value and what is expected; `kvatlas " +
      "config check kvatlas.yaml` shows them without serving. Declared in `src/config/schema.ts` and " +
      "in each module's `config.ts`.",
    "## kvatlas.yaml",
    keysTable(schemaNode(configSchema)),
    "## endpoints.yaml",
    "Read again when it changes (it is looked at every second; editors that replace the file and " +
      "Kubernetes ConfigMaps are fine). A version with an error is refused as a whole, and the former " +
      "endpoints stay. Declared in `src/fleet/endpoints-file.ts`.",
    keysTable(schemaNode(endpointsFileSchema)),
    "The smallest useful pair:",
    "```yaml\n# kvatlas.yaml\nmodel: meta-llama/Llama-3.1-8B-Instruct\n```",
    "```yaml\n# endpoints.yaml\nendpoints:\n  - name: pod-1\n    address: 10.0.0.1:8000\n" +
      "    kvEvents: { address: tcp://10.0.0.1:5557 }\n```",
  ]);
}

function keysTable(root: SchemaNode): string {
  return table(["Key", "Accepted", "Default", "Meaning"], keyRows(root, ""));
}

/** A row for each key that has a value of its own, mappings and lists of mappings opened. */
function keyRows(node: SchemaNode, prefix: string): string[][] {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const path = prefix === "" ? key : `${prefix}.${key}`;
    const isRequired = node.required?.includes(key) === true;
    const inner = innerMapping(child);
    if (inner === null) return [keyRow(path, child, isRequired)];
    const rows = keyRows(inner.mapping, `${path}${inner.suffix}`);
    // A mapping whose keys all have defaults needs no row: leaving it out means the defaults.
    const isPlain = inner.suffix === "" && child.anyOf === undefined;
    return isPlain ? rows : [keyRow(path, child, isRequired), ...rows];
  });
}

function innerMapping(
  node: SchemaNode,
): { readonly mapping: SchemaNode; readonly suffix: string } | null {
  if (node.properties !== undefined) return { mapping: node, suffix: "" };
  if (node.items?.properties !== undefined) return { mapping: node.items, suffix: "[]" };
  const named = node.additionalProperties;
  if (typeof named === "object" && named.properties !== undefined) {
    return { mapping: named, suffix: ".NAME" };
  }
  const mapping = node.anyOf?.find((option) => option.properties !== undefined);
  return mapping === undefined ? null : { mapping, suffix: "" };
}

function keyRow(path: string, node: SchemaNode, isRequired: boolean): string[] {
  const standard = node.default === undefined ? "" : code(JSON.stringify(node.default));
  return [
    code(path),
    acceptedText(node),
    isRequired ? "required" : standard,
    node.description ?? "",
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function page(parts: readonly string[]): string {
  return `${parts.join("\n\n")}\n`;
}

function code(text: string): string {
  return `\`${text}\``;
}

if (import.meta.main) {
  for (const [path, text] of makeDocs()) {
    writeFileSync(new URL(`../${path}`, import.meta.url), text);
  }
}
