/** docs/conformance.md from what was observed. */
import { ENVOY_RECIPES, type EnvoyRecipe } from "../../src/lab/file-envoy-recipe.ts";
import { type Outcomes, REQUESTS } from "./fail-matrix.ts";
import { type Must, PRACTICE_MUSTS, PROTOCOL_MUSTS } from "./protocol-musts.ts";

export interface FailRow {
  /** What the router does. */
  readonly router: string;
  readonly outcomes: ReadonlyMap<EnvoyRecipe, Outcomes>;
  /** Why it is so, where it surprises. */
  readonly why?: string;
}

export function conformancePage(
  rows: readonly FailRow[],
  killed: ReadonlyMap<EnvoyRecipe, string>,
): string {
  const parts = [
    "# Conformance",
    "<!-- Made by `npm run docs:conformance` from a run against real Envoy; a test compares. -->",
    "## Failures of the router",
    "What a client gets through real Envoy with the recipes of [deploy/envoy/](../deploy/envoy), by " +
      "what kvatlas does. *choice*: by the endpoint that kvatlas chose; *rotation*: by the next one " +
      "in Envoy's rotation. Every 200 had its body intact, byte for byte. *full duplex* is " +
      "`kvatlas.yaml` and `kvatlas-fail-open.yaml`, *buffered* `kvatlas-buffered.yaml` and " +
      "`kvatlas-buffered-fail-open.yaml`. kvatlas is down or hangs as a process that was killed or " +
      "frozen; the other faults are those of a router made for it.",
    table(
      ["kvatlas", "request", ...ENVOY_RECIPES.map(recipeTitle)],
      rows.flatMap(({ router, outcomes }) => matrixRows(router, outcomes)),
    ),
    rows
      .filter(({ why }) => why !== undefined)
      .map(({ router, why }) => `- **${router}**: ${why}`)
      .join("\n"),
    "An answer that streams while kvatlas is killed arrives:",
    table(ENVOY_RECIPES.map(recipeTitle), [ENVOY_RECIPES.map((each) => killed.get(each) ?? "")]),
    "## The endpoint-picker protocol",
    "Each demand of version 1.0.0 on the picker, with the tests that show it.",
    mustTable(PROTOCOL_MUSTS),
    "What gateways rely on beyond its text:",
    mustTable(PRACTICE_MUSTS),
  ];
  return `${parts.join("\n\n")}\n`;
}

function recipeTitle(recipe: EnvoyRecipe): string {
  const body = recipe.includes("buffered") ? "buffered" : "full duplex";
  return `${body}, fail-${recipe.endsWith("open") ? "open" : "closed"}`;
}

/** Kinds of request that come out alike share a row. */
function matrixRows(router: string, outcomes: ReadonlyMap<EnvoyRecipe, Outcomes>): string[][] {
  const byCells = new Map<string, string[]>();
  for (const kind of Object.keys(REQUESTS) as (keyof typeof REQUESTS)[]) {
    const cells = ENVOY_RECIPES.map((recipe) => outcomes.get(recipe)?.[kind] ?? "");
    const key = cells.join(" | ");
    byCells.set(key, [...(byCells.get(key) ?? []), kind]);
  }
  return [...byCells].map(([cells, kinds], row) => [
    row === 0 ? router : "",
    kinds.join(", "),
    cells,
  ]);
}

function mustTable(musts: readonly Must[]): string {
  const rows = musts.map(({ demand, shownBy }) => [
    demand,
    shownBy.map(([file, title]) => `[${title}](../${file})`).join("; "),
  ]);
  return table(["Demand", "Shown by"], rows);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
