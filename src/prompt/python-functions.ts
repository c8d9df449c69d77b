/**
 * Operators, methods and filters of templates that the library takes for JavaScript's: each a function
 * that gives what Jinja gives, or throws TemplateGap. Pure.
 */
import {
  capitalize,
  indent,
  lengthOf,
  type StripSide,
  sliced,
  split,
  strip,
  title,
  titleWords,
} from "./python-text.ts";
import {
  boolValue,
  entriesOf,
  integerValue,
  isDict,
  isEqual,
  isIn,
  isNone,
  isUndefined,
  itemsOf,
  json,
  listValue,
  NONE,
  numberOf,
  pairValue,
  TemplateGap,
  textOf,
  textValue,
  UNDEFINED,
  type Value,
  written,
} from "./python-values.ts";

/** Arguments by place and by name. */
interface Given {
  at(place: number, name?: string): Value | null;
}

export type PythonFunction = (subject: Value, given: Given) => Value;

/** Operators, and what a template does without a name. */
export const OPERATORS: Readonly<Record<string, PythonFunction>> = {
  output: (value) => textValue(written(value)),
  "~": (left, given) => textValue(written(left) + written(given.at(0) ?? UNDEFINED)),
  "==": (left, given) => boolValue(isEqual(left, given.at(0) ?? UNDEFINED)),
  "!=": (left, given) => boolValue(!isEqual(left, given.at(0) ?? UNDEFINED)),
  in: (left, given) => boolValue(isIn(left, given.at(0) ?? UNDEFINED)),
  "not in": (left, given) => boolValue(!isIn(left, given.at(0) ?? UNDEFINED)),
  "%": (left, given) => {
    const [a, b] = [integerOf(left), integerOf(given.at(0))];
    if (a === null || b === null || b === 0) throw new TemplateGap("% of other than integers");
    return integerValue(((a % b) + b) % b);
  },
  iterate: (value) => listValue(iterated(value)),
  index: (value, given) => indexed(value, given.at(0) ?? UNDEFINED),
  slice: (value, given) => {
    const [start, stop, step] = [
      integerOf(given.at(0)),
      integerOf(given.at(1)),
      integerOf(given.at(2)) ?? 1,
    ];
    if (step === 0) throw new TemplateGap("a slice with step 0");
    const text = textOf(value);
    if (text !== null) return textValue(sliced([...text], { start, stop, step }).join(""));
    const items = itemsOf(value);
    if (items === null) throw new TemplateGap(`a slice of a ${value.type}`);
    return listValue(sliced(items, { start, stop, step }));
  },
};

export const METHODS: Readonly<Record<string, PythonFunction>> = {
  strip: stripping("both"),
  lstrip: stripping("left"),
  rstrip: stripping("right"),
  title: (value) => textValue(title(subjectText(value, "title()"))),
  capitalize: (value) => textValue(capitalize(subjectText(value, "capitalize()"))),
  split: (value, given) => {
    const separator = textOrGap(given.at(0, "sep"), "the separator of split()");
    if (separator === "") throw new TemplateGap("split() at nothing");
    const times = integerOf(given.at(1, "maxsplit")) ?? -1;
    return listValue(split(subjectText(value, "split()"), separator, times).map(textValue));
  },
  items: (value) => listValue([...dictOf(value)].map(([key, each]) => pairValue(key, each))),
  keys: (value) => listValue([...dictOf(value).keys()].map(textValue)),
  values: (value) => listValue([...dictOf(value).values()]),
  get: (value, given) => {
    const key = textOrGap(given.at(0), "the key of get()");
    const found = key === null ? undefined : dictOf(value).get(key);
    return found ?? given.at(1) ?? NONE;
  },
};

export const FILTERS: Readonly<Record<string, PythonFunction>> = {
  trim: (value, given) =>
    textValue(strip(written(value), textOrGap(given.at(0, "chars"), "the characters of trim"))),
  length: (value) => integerValue(counted(value)),
  count: (value) => integerValue(counted(value)),
  string: (value) => textValue(written(value)),
  title: (value) => textValue(titleWords(written(value))),
  capitalize: (value) => textValue(capitalize(written(value))),
  upper: (value) => textValue(written(value).toUpperCase()),
  lower: (value) => textValue(written(value).toLowerCase()),
  list: (value) => listValue(iterated(value)),
  join: (value, given) => {
    if (given.at(1, "attribute") !== null) throw new TemplateGap("filter join by attribute");
    return textValue(
      iterated(value)
        .map(written)
        .join(written(given.at(0, "d") ?? UNDEFINED)),
    );
  },
  unique: (value, given) => {
    if (given.at(0, "case_sensitive") !== null)
      throw new TemplateGap("filter unique with arguments");
    const seen: Value[] = [];
    const found = iterated(value).filter((each) => {
      const key = textValue(textOf(each)?.toLowerCase() ?? "");
      const known = textOf(each) === null ? each : key;
      if (seen.some((one) => isEqual(one, known))) return false;
      seen.push(known);
      return true;
    });
    return listValue(found);
  },
  int: (value) => {
    const text = textOf(value);
    if (text !== null && /^[+-]?\d{1,15}$/.test(text)) return integerValue(Number(text));
    const number = numberOf(value);
    if (number === null || Math.abs(number) > Number.MAX_SAFE_INTEGER) {
      throw new TemplateGap("filter int of other than numbers");
    }
    return integerValue(Math.trunc(number));
  },
  indent: (value, given) => {
    const width = given.at(0, "width");
    const before = width === null ? "    " : spaces(width);
    const [isFirst, isBlank] = [isTrue(given.at(1, "first")), isTrue(given.at(2, "blank"))];
    return textValue(indent(written(value), { before, isFirst, isBlank }));
  },
  items: (value) =>
    isUndefined(value)
      ? listValue([])
      : listValue([...dictOf(value)].map(([key, each]) => pairValue(key, each))),
  dictsort: (value, given) => {
    if (given.at(0, "case_sensitive") ?? given.at(1, "by") ?? given.at(2, "reverse")) {
      throw new TemplateGap("filter dictsort with arguments");
    }
    const folded = [...dictOf(value)].map((entry) => [entry[0].toLowerCase(), entry] as const);
    folded.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    return listValue(folded.map(([, [key, each]]) => pairValue(key, each)));
  },
  tojson: (value, given) => {
    const width = given.at(1, "indent");
    const listed = given.at(2, "separators");
    const separators = listed === null || isNone(listed) ? null : itemsOf(listed)?.map(written);
    const [between, behindKey] = separators ?? [];
    const indented = width === null || isNone(width) ? null : spaces(width);
    return textValue(
      json(value, {
        isAscii: isTrue(given.at(0, "ensure_ascii")),
        indent: indented,
        between: between ?? (indented === null ? ", " : ","),
        behindKey: behindKey ?? ": ",
        isSorted: isTrue(given.at(3, "sort_keys")),
      }),
    );
  },
};

/** Tests that the library answers otherwise. */
export const TESTS: Readonly<Record<string, PythonFunction>> = {
  iterable: (value) => boolValue(isSequence(value)),
  sequence: (value) => boolValue(isSequence(value)),
  number: (value) => boolValue(numberOf(value) !== null),
  lower: (value) => boolValue(isOfCase(written(value), (text) => text.toLowerCase())),
  upper: (value) => boolValue(isOfCase(written(value), (text) => text.toUpperCase())),
};

function stripping(side: StripSide): PythonFunction {
  return (value, given) => {
    const chars = textOrGap(given.at(0), "the characters of strip()");
    return textValue(strip(subjectText(value, "strip()"), chars, side));
  };
}

function subjectText(value: Value, name: string): string {
  const text = textOf(value);
  if (text === null) throw new TemplateGap(`${name} of a ${value.type}`);
  return text;
}

/** Null for what is not given, or None. */
function textOrGap(value: Value | null, name: string): string | null {
  if (value === null || isNone(value)) return null;
  const text = textOf(value);
  if (text === null) throw new TemplateGap(`${name}: a ${value.type}`);
  return text;
}

/** Null for what is not given, None or undefined. */
function integerOf(value: Value | null): number | null {
  if (value === null || isNone(value) || isUndefined(value)) return null;
  const number = numberOf(value);
  if (number !== null && Number.isInteger(number) && value.type !== "FloatValue") return number;
  throw new TemplateGap(`an integer is due, not a ${value.type}`);
}

function spaces(width: Value): string {
  return textOf(width) ?? " ".repeat(Math.max(0, integerOf(width) ?? 0));
}

function isTrue(value: Value | null): boolean {
  if (value !== null && typeof value.value !== "boolean" && !isNone(value)) {
    throw new TemplateGap(`a flag that is a ${value.type}`);
  }
  return value?.value === true;
}

function dictOf(value: Value): ReadonlyMap<string, Value> {
  const entries = isDict(value) ? entriesOf(value) : null;
  if (entries === null) throw new TemplateGap(`a dict is due, not a ${value.type}`);
  return entries;
}

function isSequence(value: Value): boolean {
  const isListed = itemsOf(value) !== null || textOf(value) !== null;
  return isListed || isDict(value) || isUndefined(value);
}

function iterated(value: Value): readonly Value[] {
  const items = itemsOf(value);
  if (items !== null) return items;
  const text = textOf(value);
  if (text !== null) return Array.from(text, textValue);
  if (isUndefined(value)) return [];
  return [...dictOf(value).keys()].map(textValue);
}

function counted(value: Value): number {
  const text = textOf(value);
  return text === null ? iterated(value).length : lengthOf(text);
}

function indexed(value: Value, key: Value): Value {
  const [entries, name] = [entriesOf(value), textOf(key)];
  if (entries !== null && name !== null) return entries.get(name) ?? UNDEFINED;
  const at = integerOf(key);
  if (at === null) throw new TemplateGap("an index that is nothing");
  const text = textOf(value);
  if (text !== null) {
    const point = [...text].at(at);
    return point === undefined ? UNDEFINED : textValue(point);
  }
  const items = itemsOf(value);
  if (items === null) throw new TemplateGap(`an index into a ${value.type}`);
  return items.at(at) ?? UNDEFINED;
}

/** As `str.islower` and `str.isupper`: some letter has a case, and none the other. */
function isOfCase(text: string, change: (text: string) => string): boolean {
  return change(text) === text && text.toLowerCase() !== text.toUpperCase();
}
