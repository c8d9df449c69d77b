/** What people read, held against the code: commands, examples, links, tables. */
import { execFileSync } from "node:child_process";
import {
  existsSync,
  globSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { loadConfig } from "../src/config/file-config.ts";
import { loadEndpoints } from "../src/config/file-endpoints-check.ts";
import { configSchema } from "../src/config/schema.ts";
import { LOSS_REASONS } from "../src/events/keyed-batch.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MODULES = readdirSync(join(ROOT, "src"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);
const README_LINES_MAX = 60;

const pages = [
  ...["README.md", "CONTRIBUTING.md", "SECURITY.md"],
  ...globSync(["docs/**/*.md", "src/**/README.md"], { cwd: ROOT }).sort(),
];
const packageJson = z
  .object({
    scripts: z.record(z.string(), z.string()),
    dependencies: z.record(z.string(), z.string()),
    devDependencies: z.record(z.string(), z.string()),
  })
  .parse(JSON.parse(read("package.json")));

describe("examples", () => {
  it.each(pages.filter((page) => /^ *```yaml$/m.test(read(page))))("of %s are accepted", (page) => {
    const folder = mkdtempSync(join(tmpdir(), "kvatlas-readme-"));
    try {
      const names = yamlBlocks(page).map(({ name, text }) => {
        writeFileSync(join(folder, name), text);
        return name;
      });
      expect(names).toEqual(["kvatlas.yaml", "endpoints.yaml"]);
      const config = loadConfig(join(folder, "kvatlas.yaml"));
      expect(loadEndpoints(config).length).toBeGreaterThan(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("commands", () => {
  it.each(pages)("of npm in %s exist", (page) => {
    const named = [...codeOf(page).matchAll(/\bnpm (?:run (?:-s )?)?([a-z][a-z:-]*)/g)];
    const unknown = named
      .map(([, name = ""]) => name)
      .filter((name) => !["install", "ci"].includes(name) && !(name in packageJson.scripts));
    expect(unknown).toEqual([]);
  });

  it("of kvatlas exist, with their options", { timeout: 60_000 }, () => {
    const named = new Map<string, Set<string>>();
    for (const page of pages) {
      for (const { command, options } of kvatlasCommands(codeOf(page))) {
        const known = named.get(command) ?? new Set();
        for (const option of options) known.add(option);
        named.set(command, known);
      }
    }
    const commands = [
      "compare",
      "config check",
      "events apply",
      "events decode",
      "events record",
      "index query",
      "index stats",
      "pods",
      "prompt",
      "relay",
      "serve",
      "simulate",
      "tokenize",
      "tour",
      "why",
    ];
    expect([...named.keys()].sort()).toEqual(commands);
    for (const [command, options] of named) {
      const args = ["bin/kvatlas.js", ...command.split(" "), "--help"];
      const help = execFileSync(process.execPath, args, { cwd: ROOT, encoding: "utf8" });
      expect(help).toContain(`Usage: kvatlas ${command} `);
      for (const option of options) expect(help, command).toContain(option);
    }
  });

  it("of the quickstart are two, each on one line", () => {
    const quickstart = sectionOf("README.md", "Quickstart");
    const blocks = [...quickstart.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, text]) => text);
    expect(blocks).toEqual(["npm install && npm start\n", "npm install && npm test\n"]);
  });
});

describe("links", () => {
  it.each(pages)("of %s lead somewhere", (page) => {
    const links = [...withoutFences(page).matchAll(/\]\(([^)\s]+)\)/g)].map(
      ([, link = ""]) => link,
    );
    const broken = links.filter((link) => !/^https?:/.test(link) && !isTarget(page, link));
    expect(broken).toEqual([]);
  });
});

describe("docs/architecture.md", () => {
  it("has the import table of .dependency-cruiser.cjs", () => {
    const rule = z.object({ name: z.string(), to: z.object({ pathNot: z.string().optional() }) });
    const config = z.object({ forbidden: z.array(rule) });
    const { forbidden } = config.parse(
      createRequire(import.meta.url)("../.dependency-cruiser.cjs"),
    );
    const rules = forbidden.flatMap(({ name, to }) => {
      const module = /^(.+)-imports-only-its-row$/.exec(name)?.[1];
      const allowed = /\((.+)\)/.exec(to.pathNot ?? "")?.[1]?.split("|") ?? [];
      return module === undefined ? [] : [[module, allowed.filter((each) => each !== module)]];
    });
    const rows = tableRows(sectionOf("docs/architecture.md", "Code map")).map(
      ([module = "", , imports = ""]) => [
        /\[(\w+)\]/.exec(module)?.[1],
        imports === "-" ? [] : imports.split(", "),
      ],
    );
    expect(rows).toEqual(rules);
    expect(rows.map(([module]) => module).sort()).toEqual([...MODULES].sort());
  });

  it("names every reason of DEGRADED, and every decision", () => {
    const page = read("docs/architecture.md");
    for (const reason of degradedReasons()) expect(page).toContain(`\`${reason}\``);
    const decisions = globSync("docs/decisions/*.md", { cwd: ROOT });
    for (const decision of decisions) expect(page).toContain(decision.replace("docs/", ""));
  });
});

describe("docs/operations.md", () => {
  const page = read("docs/operations.md");

  it("explains every reason of DEGRADED and no other", () => {
    const rows = tableRows(sectionOf("docs/operations.md", "Degraded holders"));
    expect(rows.map(([reason = ""]) => reason.replaceAll("`", "")).sort()).toEqual(
      degradedReasons().sort(),
    );
  });

  it.each([
    ["src/extproc/picker.ts", "RefusalReason"],
    ["src/extproc/session-io.ts", "CountedReason"],
    ["src/extproc/session-io.ts", "StreamOutcome"],
    ["src/events/frames.ts", "FrameRefusal"],
    ["src/events/nats-snapshots.ts", "SnapshotWrite"],
    ["src/events/nats-snapshots.ts", "SnapshotLoad"],
    ["src/events/event-payload.ts", "DecodeRefusal"],
    ["src/events/http-trtllm-poll.ts", "PollFailure"],
    ["src/prompt/prompt-fields.ts", "BodyRefusal"],
    ["src/prompt/prompt-tokenizer.ts", "TokenizeRefusal"],
    ["src/prompt/prompt-reader.ts", "NoTokensReason"],
    ["src/prompt/prompt-reader.ts", "TokenSource"],
    ["src/fleet/scrape-report.ts", "ScrapeFailure"],
    ["src/fleet/endpoint-view.ts", "ReadyReason"],
    ["src/fleet/ledger.ts", "LedgerDrop"],
    ["src/fleet/audit.ts", "AuditOutcome"],
    ["src/fleet/audit.ts", "AuditState"],
    ["src/router/known-state.ts", "FallbackReason"],
    ["src/fleet/findings.ts", "FindingName"],
    ["src/prompt/parity.ts", "MismatchCause"],
    ["src/prompt/parity.ts", "ParityState"],
    ["src/query/prompt-query.ts", "QueryRefusal"],
    ["src/query/grpc-query-server.ts", "CallRefusal"],
    ["src/indexer/store-problem.ts", "StoreProblem"],
    ["src/indexer/file-store-guard.ts", "AsideReason"],
  ])("explains every member of %s %s", (file, type) => {
    const members = membersOf(file, type);
    expect(members.length).toBeGreaterThan(0);
    for (const member of members) expect(page).toContain(`\`${member}\``);
  });

  it("explains every label value that the code writes out", () => {
    const labels =
      /(?:\{ (?:reason|outcome|operation|component): |#(?:refuse|count)\w*\((?:relay, )?)"([a-z-]+)"/g;
    const sources = sourceFiles().filter((file) => !/^src\/(lab|extproc\/session)/.test(file));
    const values = sources.flatMap((file) => [...read(file).matchAll(labels)].map(([, v]) => v));
    expect(values.length).toBeGreaterThan(0);
    for (const value of values) expect(page).toContain(`\`${value}\``);
  });

  it("explains every reason for which an event or a prompt is refused", () => {
    const counted =
      /^src\/(prompt\/|events\/(frames|event-payload|json-values|[a-z]+-decoder|keyed-batch-codec)\.ts)/;
    const sources = sourceFiles().filter((file) => counted.test(file));
    const refusals = sources.flatMap((file) => [...read(file).matchAll(/refused\("([a-z-]+)"/g)]);
    // The applier's literals with a hyphen are reasons, of which some are chosen in an expression.
    const applied = read("src/events/applier.ts").matchAll(/"([a-z]+(?:-[a-z]+)+)"/g);
    const reasons = [...refusals, ...applied].map(([, reason]) => reason);
    expect(reasons).toContain("fenced-epoch");
    for (const reason of reasons) expect(page).toContain(`\`${reason}\``);
  });

  it("names every limit with its value and file", () => {
    const rows = tableRows(sectionOf("docs/operations.md", "Limits")).map(([name, value, file]) =>
      [
        name?.replaceAll("`", ""),
        value?.replaceAll(",", ""),
        /\((.+)\)/.exec(file ?? "")?.[1],
      ].join(" "),
    );
    const limits = sourceFiles().flatMap((file) => {
      const found = read(file).matchAll(/^(export )?const ([A-Z][A-Z0-9_]*_MAX) = ([\d_]+);/gm);
      return [...found]
        .filter(([, isExported]) => isExported !== undefined || !file.startsWith("src/lab/"))
        .map(([, , name, value = ""]) => `${name} ${value.replaceAll("_", "")} ../${file}`);
    });
    expect(rows.sort()).toEqual(limits.sort());
  });

  it("names the default addresses", () => {
    const { extProc, query, observe } = configSchema.parse({ model: "m" });
    const { listen, healthListen } = extProc;
    for (const address of [listen, healthListen, query.listen, observe.adminListen]) {
      expect(page).toContain(`\`${address}\``);
    }
  });
});

describe("docs/decisions/0001-dependencies.md", () => {
  it("has a line for each dependency and no other", () => {
    const rows = (title: string): string[] =>
      tableRows(sectionOf("docs/decisions/0001-dependencies.md", title)).map(([name = ""]) =>
        name.replaceAll("`", ""),
      );
    expect(rows("Runtime")).toEqual(Object.keys(packageJson.dependencies));
    expect(rows("Development")).toEqual(Object.keys(packageJson.devDependencies));
  });
});

describe("the README of a module", () => {
  it.each(MODULES)("%s is short and names every file", (module) => {
    const text = read(`src/${module}/README.md`);
    expect(text.trimEnd().split("\n").length).toBeLessThanOrEqual(README_LINES_MAX);
    const files = globSync(`src/${module}/*.ts`, { cwd: ROOT })
      .map((path) => path.slice(path.lastIndexOf("/") + 1))
      .filter((file) => !file.endsWith(".test.ts"));
    expect(files.filter((file) => !text.includes(`\`${file}\``))).toEqual([]);
    const named = [...text.matchAll(/`([a-z-]+(?:\.contract)?\.ts)`/g)].map(([, file]) => file);
    expect(named.filter((file) => !existsSync(join(ROOT, "src", module, file ?? "")))).toEqual([]);
  });
});

/** The reasons that the applier gives by itself, and the losses that come with a batch. */
function degradedReasons(): string[] {
  const sources = read("src/events/applier.ts") + read("src/indexer/restorer.ts");
  const own = [...sources.matchAll(/state: "DEGRADED", reason: "([a-z-]+)"|return "([a-z-]+)";/g)];
  const stated = own.map(([, state, returned]) => state ?? returned ?? "");
  return [...new Set([...stated, ...LOSS_REASONS])];
}

/** The string members of a union type, as written in its file. */
function membersOf(file: string, type: string): string[] {
  const body = new RegExp(`type ${type} =([\\s\\S]*?);\\n`).exec(read(file))?.[1] ?? "";
  return [...body.matchAll(/"([a-z-]+)"/g)].map(([, member = ""]) => member);
}

function sourceFiles(): string[] {
  return globSync("src/**/*.ts", { cwd: ROOT })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => !path.endsWith(".test.ts") && !/^src\/\w+\/gen\//.test(path));
}

/** Fenced blocks marked yaml; their first line is a comment with the file's name. */
function yamlBlocks(page: string): { name: string; text: string }[] {
  return [...read(page).matchAll(/^( *)```yaml\n([\s\S]*?)^ *```$/gm)].map(
    ([, indent = "", block = ""]) => {
      const text = block.replaceAll(new RegExp(`^${indent}`, "gm"), "");
      return { name: /^# ([\w.-]+)\n/.exec(text)?.[1] ?? "unnamed", text };
    },
  );
}

/** `kvatlas X` as it is typed, and the scripts that run it. */
function kvatlasCommands(code: string): { command: string; options: string[] }[] {
  const lines = code
    .replaceAll(/npm run -s kvatlas -- /g, "kvatlas ")
    .replaceAll(/npm start(?: --)?/g, "kvatlas tour");
  const found = lines.matchAll(
    /(?<![\w./-])kvatlas ((?:config|events|index) [a-z]+|[a-z]+)((?: [^\n`]*)?)/g,
  );
  return [...found].map(([, command = "", rest = ""]) => ({
    command,
    options: [...rest.matchAll(/ (--[a-z-]+)/g)].map(([, option = ""]) => option),
  }));
}

/** Code spans, and fenced blocks that are marked as shell, one a line. */
function codeOf(page: string): string {
  const blocks = [...read(page).matchAll(/^ *```sh\n([\s\S]*?)^ *```$/gm)].map(([, text]) => text);
  const spans = [...withoutFences(page).matchAll(/`([^`\n]+)`/g)].map(([, text]) => text);
  return [...blocks, ...spans].join("\n");
}

function withoutFences(page: string): string {
  return read(page).replaceAll(/^ *```[\s\S]*?^ *```$/gm, "");
}

/** From a heading of level 2 to the next. */
function sectionOf(page: string, title: string): string {
  const section = read(page)
    .split(/^(?=## )/m)
    .find((part) => part.startsWith(`## ${title}\n`));
  if (section === undefined) throw new Error(`${page} has no section "${title}"`);
  return section;
}

/** Cells of the first table, without its head. */
function tableRows(text: string): string[][] {
  const [table = ""] = /(?:^\|.*\|\n)+/m.exec(text) ?? [];
  const [, , ...rows] = table.trimEnd().split("\n");
  return rows.map((row) =>
    row
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

/** A file or folder of the repository, and a heading in it where the link names one. */
function isTarget(page: string, link: string): boolean {
  const [path = "", anchor] = link.split("#");
  const target = path === "" ? page : join(dirname(page), path);
  if (!existsSync(join(ROOT, target))) return false;
  if (anchor === undefined) return true;
  const headings = [...read(target).matchAll(/^#+ (.+)$/gm)].map(([, text = ""]) => slug(text));
  return headings.includes(anchor);
}

/** A heading's anchor as GitHub makes it. */
function slug(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, "")
    .replaceAll(" ", "-");
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}
