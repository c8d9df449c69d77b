/**
 * What is wrong in a YAML file, each with its place, its value and what is expected. Pure.
 *
 * Made from the issues that zod finds in the parsed document, and from YAML's own errors.
 */
import { type Document, isMap, isNode, isScalar, type LineCounter } from "yaml";
import type { z } from "zod";
import { acceptedText, knownKeys, nodeAt, type SchemaNode } from "./schema-text.ts";

/** Longest value that is shown in full. */
const VALUE_CHARS_MAX = 80;
/** Longest key that is compared with the known keys. */
const KEY_CHARS_MAX = 64;
/** zod's own messages, which the schema tells better; a rule with its own message keeps it. */
const DEFAULT_MESSAGE = /^(Invalid|Too|Unrecognized|Must) /;

export interface Problem {
  readonly file: string;
  /** "events.nats.servers[0]"; empty for the whole file. */
  readonly path: string;
  /** From 1; null where the problem has no place in the file. */
  readonly line: number | null;
  readonly column: number | null;
  /** JSON, shortened; "nothing" for a missing value. */
  readonly value: string;
  readonly expected: string;
  /** The known key next to an unknown one. */
  readonly hint: string | null;
}

/** "kvatlas.yaml:3:9: fleet.scrapeMs: got 5, expected number from 50 to 60000". */
export function problemLine(problem: Problem): string {
  const { file, line, column, path, value, expected, hint } = problem;
  const place = line === null || column === null ? file : `${file}:${line}:${column}`;
  const subject = path === "" ? "" : `${path}: `;
  const suffix = hint === null ? "" : ` (${hint})`;
  return `${place}: ${subject}got ${value}, expected ${expected}${suffix}`;
}

export interface YamlSource {
  readonly file: string;
  readonly document: Document;
  readonly lines: LineCounter;
  /** The document as plain values. */
  readonly value: unknown;
}

/** At most one problem a path, in the order of the file. */
export function problemsOf(
  issues: readonly z.core.$ZodIssue[],
  source: YamlSource,
  root: SchemaNode,
): Problem[] {
  const byPath = new Map<string, Problem>();
  for (const issue of issues) {
    const problems =
      issue.code === "unrecognized_keys"
        ? issue.keys.map((key) => unknownKey([...issue.path, key], source, root))
        : [wrongValue(issue, source, root)];
    for (const problem of problems) {
      if (!byPath.has(problem.path)) byPath.set(problem.path, problem);
    }
  }
  return [...byPath.values()].sort(
    (a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0),
  );
}

function unknownKey(path: PropertyKey[], source: YamlSource, root: SchemaNode): Problem {
  const key = String(path.at(-1));
  const parent = nodeAt(root, path.slice(0, -1));
  const keys = parent === null ? [] : knownKeys(parent);
  const nearest = nearestOf(key, keys);
  return {
    file: source.file,
    path: pathText(path),
    ...placeOf(path, source, "key"),
    value: `the unknown key ${valueText(key)}`,
    expected: keys.length === 0 ? "no key" : `one of the keys ${keys.join(", ")}`,
    hint: nearest === null ? null : `did you mean "${nearest}"?`,
  };
}

function wrongValue(issue: z.core.$ZodIssue, source: YamlSource, root: SchemaNode): Problem {
  const value = valueAt(source.value, issue.path);
  const node = nodeAt(root, issue.path);
  const isToldBySchema = node !== null && DEFAULT_MESSAGE.test(issue.message);
  return {
    file: source.file,
    path: pathText(issue.path),
    ...placeOf(issue.path, source, "value"),
    value: valueText(value),
    expected: isToldBySchema ? acceptedText(node) : issue.message.replace(/^expected /, ""),
    hint: null,
  };
}

/** The place of the key or value at `path`, or of its nearest ancestor that is in the file. */
function placeOf(
  path: readonly PropertyKey[],
  { document, lines }: YamlSource,
  part: "key" | "value",
): { readonly line: number | null; readonly column: number | null } {
  for (let length = path.length; length >= 0; length -= 1) {
    const offset = offsetAt(document, path.slice(0, length), part);
    if (offset === null) continue;
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  }
  return { line: null, column: null };
}

function offsetAt(
  document: Document,
  path: readonly PropertyKey[],
  part: "key" | "value",
): number | null {
  if (path.length > 0 && part === "key") {
    const parent = nodeIn(document, path.slice(0, -1));
    if (!isMap(parent)) return null;
    const key = String(path.at(-1));
    const pair = parent.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
    return isNode(pair?.key) ? (pair.key.range?.[0] ?? null) : null;
  }
  const node = nodeIn(document, path);
  return isNode(node) ? (node.range?.[0] ?? null) : null;
}

function nodeIn(document: Document, path: readonly PropertyKey[]): unknown {
  return path.length === 0 ? document.contents : document.getIn(path, true);
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const step of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, step))
      return undefined;
    value = Reflect.get(value, step);
  }
  return value;
}

/** "endpoints[0].kvEvents.ranks" */
export function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((step) => (typeof step === "number" ? `[${step}]` : `.${shortened(String(step))}`))
    .join("")
    .replace(/^\./, "");
}

function valueText(value: unknown): string {
  if (value === undefined) return "nothing";
  // JSON would show what is not finite as null.
  const json = typeof value === "number" ? undefined : JSON.stringify(value);
  return shortened(json ?? String(value));
}

/** Cut, and free of line breaks: a message stays one line whatever the file holds. */
export function shortened(text: string): string {
  const line = text.replace(/\s+/g, " ");
  return line.length <= VALUE_CHARS_MAX ? line : `${line.slice(0, VALUE_CHARS_MAX - 3)}...`;
}

/** The candidate with the fewest edits, if these are few for the length of the key. */
export function nearestOf(key: string, candidates: readonly string[]): string | null {
  let nearest: string | null = null;
  // Two edits are one swap of neighbours; a third of the characters is another word.
  let editsMin = Math.min(key.length, Math.max(2, Math.floor(key.length / 3)) + 1);
  for (const candidate of candidates) {
    const isShort = key.length <= KEY_CHARS_MAX && candidate.length <= KEY_CHARS_MAX;
    const edits = isShort ? editsBetween(key.toLowerCase(), candidate.toLowerCase()) : editsMin;
    if (edits >= editsMin) continue;
    editsMin = edits;
    nearest = candidate;
  }
  return nearest;
}

/** Levenshtein distance, one row at a time. */
function editsBetween(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [i, fromChar] of [...from].entries()) {
    const next = [i + 1];
    for (const [j, toChar] of [...to].entries()) {
      const replaced = (row[j] ?? 0) + (fromChar === toChar ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
