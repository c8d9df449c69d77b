/**
 * Values of a template as Python has them: how they are written, compared and looked into, where the
 * library's own ways are JavaScript's. Pure.
 */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { quoted } from "./python-text.ts";

/** A value while a template is rendered, as the library has it: its types come without declarations. */
export interface Value {
  readonly type: string;
  readonly value: unknown;
}

/** What a template asks for cannot be made here as the engine makes it. Names no data. */
export class TemplateGap extends Error {}

type ValueClass = new (value: unknown) => Value;

/** The library keeps its classes to itself, but makes values of them. */
function classOf(sample: unknown): ValueClass {
  return new Environment().set("sample", sample).constructor as ValueClass;
}

const Text = classOf("");
const Integer = classOf(0);
const Bool = classOf(true);
const List = classOf([]);
const Callable = classOf(() => null);
const Tuple = tupleClass();

function tupleClass(): ValueClass {
  const [pair] = parse(tokenize("{{ (1, 2) }}")).body;
  return new Interpreter(new Environment()).evaluate(pair, new Environment())
    .constructor as ValueClass;
}

export const UNDEFINED: Value = new Environment().set("sample", undefined);
export const NONE: Value = new Environment().set("sample", null);
export const textValue = (text: string): Value => new Text(text);
export const integerValue = (value: number): Value => new Integer(value);
export const boolValue = (value: boolean): Value => new Bool(value);
export const listValue = (items: readonly Value[]): Value => new List([...items]);
export const tupleValue = (items: readonly Value[]): Value => new Tuple([...items]);
export const callable = (call: (args: Value[], scope: Environment) => Value): Value =>
  new Callable(call);

/** Pairs of `dict.items()`, which are tuples; the library unpacks only lists. */
const PAIRS = new WeakSet<Value>();

export function pairValue(key: string, value: Value): Value {
  const pair = listValue([textValue(key), value]);
  PAIRS.add(pair);
  return pair;
}

export function textOf(value: Value): string | null {
  return typeof value.value === "string" ? value.value : null;
}

export function itemsOf(value: Value): readonly Value[] | null {
  return Array.isArray(value.value) ? value.value : null;
}

/** Of a dict or a namespace. */
export function entriesOf(value: Value): ReadonlyMap<string, Value> | null {
  return value.value instanceof Map ? value.value : null;
}

export function isDict(value: Value): boolean {
  return value.type === "ObjectValue";
}

export function isUndefined(value: Value): boolean {
  return value.type === "UndefinedValue";
}

/** None. The library's class for it holds undefined. */
export function isNone(value: Value): boolean {
  return value.type === "NullValue";
}

/** The number that a number or a bool is. */
export function numberOf(value: Value): number | null {
  const { value: raw } = value;
  if (typeof raw === "boolean") return raw ? 1 : 0;
  return typeof raw === "number" ? raw : null;
}

/** `str(value)`. */
export function written(value: Value): string {
  return textOf(value) ?? (isUndefined(value) ? "" : repr(value));
}

/** `repr(value)`. */
function repr(value: Value): string {
  const text = textOf(value);
  if (text !== null) return quoted(text);
  if (isNone(value)) return "None";
  if (typeof value.value === "boolean") return value.value ? "True" : "False";
  const number = writtenNumber(value);
  if (number !== null) return number;
  const items = itemsOf(value)?.map(repr);
  if (items !== undefined) {
    const isTuple = value.type === "TupleValue" || PAIRS.has(value);
    if (!isTuple) return `[${items.join(", ")}]`;
    return items.length === 1 ? `(${items[0]},)` : `(${items.join(", ")})`;
  }
  const entries = entriesOf(value);
  if (entries === null || !isDict(value)) throw new TemplateGap(`a ${value.type} as text`);
  return `{${[...entries].map(([key, each]) => `${quoted(key)}: ${repr(each)}`).join(", ")}}`;
}

function writtenNumber({ type, value }: Value): string | null {
  if (typeof value !== "number") return null;
  if (type === "IntegerValue" && Number.isSafeInteger(value)) return String(value);
  const size = Math.abs(value);
  if (type === "FloatValue" && size < 1e16 && (size >= 1e-4 || size === 0)) {
    if (Object.is(value, -0)) return "-0.0";
    return Number.isInteger(value) ? value.toFixed(1) : String(value);
  }
  throw new TemplateGap("a number of another form");
}

export interface JsonOptions {
  readonly isAscii: boolean;
  /** What each level begins with; null: all on one line. */
  readonly indent: string | null;
  readonly between: string;
  readonly behindKey: string;
  readonly isSorted: boolean;
}

/** `json.dumps(value)`. */
export function json(value: Value, options: JsonOptions, depth = 0): string {
  const { indent, between, behindKey } = options;
  const text = textOf(value);
  if (text !== null) return jsonText(text, options);
  if (isNone(value)) return "null";
  if (typeof value.value === "boolean") return String(value.value);
  const number = writtenNumber(value);
  if (number !== null) return number;
  const inner = indent === null ? "" : `\n${indent.repeat(depth + 1)}`;
  const outer = indent === null ? "" : `\n${indent.repeat(depth)}`;
  const listed = (parts: readonly string[]): string =>
    parts.length === 0 ? "" : inner + parts.join(between + inner) + outer;
  const items = itemsOf(value);
  if (items !== null) return `[${listed(items.map((each) => json(each, options, depth + 1)))}]`;
  const entries = entriesOf(value);
  if (entries === null || !isDict(value)) throw new TemplateGap(`a ${value.type} as JSON`);
  const ordered = options.isSorted ? [...entries].sort(byPoints) : [...entries];
  const parts = ordered.map(
    ([key, each]) => jsonText(key, options) + behindKey + json(each, options, depth + 1),
  );
  return `{${listed(parts)}}`;
}

function jsonText(text: string, { isAscii }: JsonOptions): string {
  const plain = JSON.stringify(text);
  if (!isAscii) return plain;
  return plain.replaceAll(
    /[\x7f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function byPoints([a]: readonly [string, Value], [b]: readonly [string, Value]): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** `a == b`. */
export function isEqual(a: Value, b: Value): boolean {
  if (a === b) return true;
  const [left, right] = [numberOf(a), numberOf(b)];
  if (left !== null || right !== null) return left === right;
  const items = itemsOf(a);
  if (items !== null) {
    const others = itemsOf(b);
    if (others === null || others.length !== items.length || a.type !== b.type) return false;
    return items.every((each, at) => isEqual(each, others[at] ?? UNDEFINED));
  }
  const entries = entriesOf(a);
  if (entries === null) return a.type === b.type && a.value === b.value;
  const others = entriesOf(b);
  if (others === null || others.size !== entries.size || !isDict(a) || !isDict(b)) return false;
  return [...entries].every(([key, each]) => {
    const other = others.get(key);
    return other !== undefined && isEqual(each, other);
  });
}

/** `item in container`. */
export function isIn(item: Value, container: Value): boolean {
  if (isUndefined(container)) return false;
  const items = itemsOf(container);
  if (items !== null) return items.some((each) => isEqual(each, item));
  const [text, part] = [textOf(container), textOf(item)];
  if (text !== null && part !== null) return text.includes(part);
  const entries = isDict(container) ? entriesOf(container) : null;
  if (entries !== null) return part !== null && entries.has(part);
  throw new TemplateGap(`"in" of a ${container.type}`);
}
