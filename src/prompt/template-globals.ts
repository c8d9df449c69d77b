/** What every template finds among its variables: Jinja's constants and the functions of engines. */
import { Environment } from "@huggingface/jinja";
import { FILTERS, METHODS, OPERATORS, type PythonFunction, TESTS } from "./python-functions.ts";
import {
  callable,
  integerValue,
  listValue,
  numberOf,
  TemplateGap,
  textOf,
  textValue,
  tupleValue,
  UNDEFINED,
  type Value,
  written,
} from "./python-values.ts";
import { TUPLE_NAME } from "./template-parse.ts";
import { functionName, GAP_NAME, UNDEFINED_NAME } from "./template-rewrite.ts";

/** Numbers that `range` gives; Jinja's sandbox has the same bound. */
const RANGE_MAX = 100_000;

/** The template itself refuses the chat. */
export class TemplateRaised extends Error {}

/** `wallMs`: what templates that ask for the date are told. */
export function templateGlobals(wallMs: () => number): Environment {
  const globals = new Environment();
  const constants = { true: true, false: false, none: null };
  for (const [name, value] of Object.entries(constants)) {
    globals.set(name, value);
    globals.set(`${name[0]?.toUpperCase()}${name.slice(1)}`, value);
  }
  const functions: Readonly<Record<string, (args: readonly Value[]) => Value>> = {
    raise_exception: ([message]) => {
      throw new TemplateRaised(written(message ?? UNDEFINED));
    },
    strftime_now: ([format]) => textValue(dated(format ?? UNDEFINED, new Date(wallMs()))),
    range: (args) => listValue(range(args).map(integerValue)),
    [TUPLE_NAME]: tupleValue,
    [GAP_NAME]: ([name]) => {
      throw new TemplateGap(written(name ?? UNDEFINED));
    },
  };
  for (const [name, call] of Object.entries(functions)) globals.setVariable(name, callable(call));
  const kinds = { operator: OPERATORS, method: METHODS, filter: FILTERS, test: TESTS };
  for (const [kind, table] of Object.entries(kinds)) {
    for (const [name, call] of Object.entries(table)) {
      globals.setVariable(functionName(kind as keyof typeof kinds, name), bound(call));
    }
  }
  globals.setVariable(UNDEFINED_NAME, UNDEFINED);
  return globals;
}

function bound(call: PythonFunction): Value {
  return callable((args) => call(args[0] ?? UNDEFINED, new Arguments(args)));
}

class Arguments {
  readonly #args: readonly Value[];

  constructor(args: readonly Value[]) {
    this.#args = args;
  }

  at(place: number, name?: string): Value | null {
    const args = this.#args;
    const last = args[args.length - 1];
    const isNamed = last?.type === "KeywordArgumentsValue" && last.value instanceof Map;
    const count = isNamed ? args.length - 1 : args.length;
    const placed = place + 1 < count ? args[place + 1] : undefined;
    if (placed !== undefined || name === undefined || !isNamed) return placed ?? null;
    return (last.value as ReadonlyMap<string, Value>).get(name) ?? null;
  }
}

function range(args: readonly Value[]): number[] {
  const numbers = args.map(numberOf);
  const [first = null, second = null, step = 1] = numbers;
  const [from, to] = numbers.length > 1 ? [first, second] : [0, first];
  if (from === null || to === null || step === null || step === 0) throw new TemplateGap("a range");
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (count > RANGE_MAX) throw new TemplateGap("a range that is too long");
  return Array.from({ length: count }, (_, at) => from + at * step);
}

const DIRECTIVES: Readonly<Record<string, (date: Date) => string>> = {
  Y: (date) => String(date.getFullYear()),
  y: (date) => twoDigits(date.getFullYear() % 100),
  m: (date) => twoDigits(date.getMonth() + 1),
  d: (date) => twoDigits(date.getDate()),
  B: (date) => date.toLocaleString("en-US", { month: "long" }),
  b: (date) => date.toLocaleString("en-US", { month: "short" }),
  A: (date) => date.toLocaleString("en-US", { weekday: "long" }),
  a: (date) => date.toLocaleString("en-US", { weekday: "short" }),
  H: (date) => twoDigits(date.getHours()),
  M: (date) => twoDigits(date.getMinutes()),
  S: (date) => twoDigits(date.getSeconds()),
  "%": () => "%",
};

/** `datetime.strftime`, in the time zone of this process. */
function dated(format: Value, date: Date): string {
  const text = textOf(format);
  if (text === null) throw new TemplateGap("a date's format that is no text");
  return text.replaceAll(/%(.)/gsu, (_, name: string) => {
    const write = DIRECTIVES[name];
    if (write === undefined) throw new TemplateGap(`a date's directive %${name}`);
    return write(date);
  });
}

function twoDigits(value: number): string {
  return String(value).padStart(2, "0");
}
