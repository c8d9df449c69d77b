/** Rules of the code that no other tool checks; each says what to use in place of what it bans. */
import { existsSync, globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const LINES_MAX = 400;

interface Ban {
  readonly name: string;
  readonly pattern: RegExp;
  /** Files in which the banned thing is at home. */
  readonly home: RegExp;
  readonly instead: string;
}

const NODE_CLOCK = /^src\/core\/node-clock\.ts$/;
const NOWHERE = /^$/;

/** For src/, tests included: what runs in simulated time must not know real time. */
const BANS: readonly Ban[] = [
  { name: "Date.now", pattern: /\bDate\.now\b/, home: NODE_CLOCK, instead: "Clock.wallMs" },
  { name: "new Date()", pattern: /\bnew Date\(\s*\)/, home: NODE_CLOCK, instead: "Clock.wallMs" },
  {
    name: "performance.now",
    pattern: /\bperformance\.now\b|\bprocess\.hrtime\b/,
    home: NODE_CLOCK,
    instead: "Clock.nowMs",
  },
  {
    name: "timers",
    pattern: /\b(setTimeout|setInterval)\s*\(|"(node:)?timers(\/promises)?"/,
    home: NODE_CLOCK,
    instead: "Clock.after, or sleep of core/clock.ts",
  },
  {
    name: "setImmediate",
    pattern: /\bsetImmediate\s*\(/,
    // A test may give real sockets a turn of the event loop: that is no time of its own choice.
    home: /\.test\.ts$/,
    instead: "Clock.after, or sleep of core/clock.ts",
  },
  {
    name: "Math.random",
    pattern: /\bMath\.random\b/,
    home: NOWHERE,
    instead: "Random of core/random.ts",
  },
  {
    name: "process.env",
    pattern: /\bprocess\.env\b/,
    home: /^src\/cli\//,
    instead: "a value handed in from src/cli/",
  },
  {
    name: "console",
    pattern: /\bconsole\.\w+/,
    home: NOWHERE,
    instead: "Log of core/log.ts, or process.stdout in src/cli/",
  },
];

const IMPORT_WITHOUT_EXTENSION =
  /(?:\bfrom\s+|\bimport\s+|\bimport\()"(\.{1,2}\/(?:(?!\.(?:ts|json)")[^"])*)"/;
const MACHINE_PATH = /(?<![\w.])\/(?:home|Users|root|work)\/[\w.-]+/;

describe("tidy", () => {
  const sources = filesOf("src/**/*.ts");
  const code = [...sources, ...filesOf("{test,scripts,bench}/**/*.ts")];
  const texts = [
    ...code,
    ...filesOf("{docs,deploy,src,bench}/**/*.{md,yaml,json,sh}"),
    ...["README.md", ".ci/run"].filter((path) => existsSync(`${ROOT}/${path}`)),
  ];

  it.each(BANS)("$name is not used outside its home", ({ pattern, home, instead }) => {
    const found = sources.filter((path) => !home.test(path)).flatMap((path) => hits(path, pattern));
    expect(found, `use ${instead}`).toEqual([]);
  });

  it(`no file has more than ${LINES_MAX} lines`, () => {
    const long = code.filter((path) => linesOf(path).length > LINES_MAX);
    expect(long, `split by duty: at most ${LINES_MAX} lines`).toEqual([]);
  });

  it("relative imports end in .ts", () => {
    const found = code.flatMap((path) => hits(path, IMPORT_WITHOUT_EXTENSION));
    expect(found, "Node runs the files as they are: write the ending").toEqual([]);
  });

  it("no file names a path of one machine", () => {
    const found = texts.flatMap((path) => hits(path, MACHINE_PATH));
    expect(found, "use a path relative to the repository or to import.meta.url").toEqual([]);
  });

  it("finds what it bans", () => {
    const samples = [
      "const t = Date.now();",
      "const d = new Date();",
      "performance.now()",
      "setTimeout(f, 1);",
      "setImmediate(f);",
      'import { setTimeout as wait } from "node:timers/promises";',
      "Math.random()",
      "process.env.HOME",
      "console.log(1)",
    ];
    for (const sample of samples) {
      expect(BANS.filter(({ pattern }) => pattern.test(sample)).length, sample).toBe(1);
    }
    expect('import { a } from "./a"').toMatch(IMPORT_WITHOUT_EXTENSION);
    expect('import("../a.js")').toMatch(IMPORT_WITHOUT_EXTENSION);
    expect('import { a } from "./a.ts"').not.toMatch(IMPORT_WITHOUT_EXTENSION);
    expect(`see /${"home"}/someone`).toMatch(MACHINE_PATH);
    expect("new Date(ms); clock.after(1, f)").not.toMatch(BANS[1]?.pattern ?? /^/);
  });
});

/** Paths relative to the repository; generated code and vendored files are exempt. */
function filesOf(pattern: string): string[] {
  return globSync(pattern, { cwd: ROOT })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => !/^(src\/[a-z]+\/gen|test\/golden)\//.test(path))
    .sort();
}

function linesOf(path: string): string[] {
  return readFileSync(`${ROOT}/${path}`, "utf8").split("\n");
}

/** "path:line: text" of each match outside of comments. */
function hits(path: string, pattern: RegExp): string[] {
  return linesOf(path).flatMap((line, index) => {
    const isComment = /^\s*(\/\/|\/\*|\*)/.test(line) && path.endsWith(".ts");
    const isSample = path === "test/tidy.test.ts";
    return !isComment && !isSample && pattern.test(line)
      ? [`${path}:${index + 1}: ${line.trim()}`]
      : [];
  });
}
