/** YAML text of bounded size, checked against a schema: a value, or all its problems. Pure. */
import { type Document, LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { messageOf } from "../core/errors.ts";
import { type Problem, problemsOf, shortened } from "./problems.ts";
import { schemaNode } from "./schema-text.ts";

/** Uses of one anchor's content: more is an attempt to blow up the parsed value. */
const ALIASES_MAX = 100;
/** Problems of one file that are told, first places first. */
export const PROBLEMS_MAX = 50;

export type YamlRead<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly problems: readonly Problem[] };

export interface YamlText {
  /** Name of the file, for messages. */
  readonly file: string;
  readonly text: string;
  readonly bytesMax: number;
}

/** Never throws. */
export function readYaml<Schema extends z.ZodType>(
  { file, text, bytesMax }: YamlText,
  schema: Schema,
): YamlRead<z.output<Schema>> {
  const bytes = Buffer.byteLength(text);
  if (bytes > bytesMax) {
    return failed(fileProblem(file, `${bytes} bytes`, `at most ${bytesMax} bytes`));
  }
  const lines = new LineCounter();
  let document: Document;
  let value: unknown;
  try {
    document = parseDocument(text, {
      lineCounter: lines,
      // Messages carry their place in the form of all others.
      prettyErrors: false,
      strict: true,
      uniqueKeys: true,
      version: "1.2",
    });
    const syntax = syntaxProblems(file, document, lines);
    if (syntax.length > 0) return { ok: false, problems: syntax.slice(0, PROBLEMS_MAX) };
    value = document.toJS({ maxAliasCount: ALIASES_MAX });
  } catch (reason) {
    // Too many aliases, or nesting deeper than the stack.
    return failed(notYaml(file, messageOf(reason)));
  }
  const checked = schema.safeParse(value);
  if (checked.success) return { ok: true, value: checked.data };
  const source = { file, document, lines, value };
  const problems = problemsOf(checked.error.issues, source, schemaNode(schema));
  return { ok: false, problems: problems.slice(0, PROBLEMS_MAX) };
}

/** The first at each place: what else YAML says there follows from it. */
function syntaxProblems(file: string, document: Document, lines: LineCounter): Problem[] {
  const byOffset = new Map<number, Problem>();
  for (const { pos, message } of [...document.errors, ...document.warnings]) {
    const { line, col } = lines.linePos(pos[0]);
    if (!byOffset.has(pos[0])) {
      byOffset.set(pos[0], { ...notYaml(file, message), line, column: col });
    }
  }
  return [...byOffset.values()];
}

function notYaml(file: string, message: string): Problem {
  return { ...fileProblem(file, "other text", "valid YAML"), hint: shortened(message) };
}

function fileProblem(file: string, value: string, expected: string): Problem {
  return { file, path: "", line: null, column: null, value, expected, hint: null };
}

function failed(problem: Problem): { readonly ok: false; readonly problems: readonly Problem[] } {
  return { ok: false, problems: [problem] };
}
