/**
 * Rewrites a parsed template so that what the library does in JavaScript's way is done by functions of
 * ours, which the template then finds among its variables. Changes the tree in place.
 *
 * The names of those functions have a space in them, so that no template has one like it.
 */
import { isFields } from "./prompt-fields.ts";
import { FILTERS, METHODS, OPERATORS, TESTS } from "./python-functions.ts";

type Node = Record<string, unknown>;

/** Variable that holds what is undefined. */
export const UNDEFINED_NAME = "the undefined";
/** Function that throws a gap of the name it is given. */
export const GAP_NAME = "the gap";

/** Blocks of loops by the name of the function that renders one in a scope of its own. */
export type ScopedBlocks = Map<string, Node>;

/** Nodes of a block that write nothing by themselves, or text as it is. */
const STATEMENTS = [
  ...["If", "For", "Break", "Continue", "Set", "Macro", "Comment", "CallStatement"],
  ...["FilterStatement", "StringLiteral", "Program"],
];
const BLOCKS = ["body", "alternate", "defaultBlock"];
/** Attributes that are methods in Python; the library takes a dict's entry, or has another of the name. */
const ATTRIBUTES = [...["items", "keys", "values", "get", "copy", "pop", "update"], "length"];
/** Filters that the library has, but not as Jinja. */
const GAP_FILTERS = ["float", "bool"];

export function functionName(
  kind: "operator" | "method" | "filter" | "test",
  name: string,
): string {
  return `${kind} ${name}`;
}

export function rewriteTemplate(program: object): ScopedBlocks {
  const scoped: ScopedBlocks = new Map();
  rewriteFields(program as Node, scoped);
  return scoped;
}

function rewritten(node: unknown, scoped: ScopedBlocks): unknown {
  if (Array.isArray(node)) return node.map((each) => rewritten(each, scoped));
  if (node instanceof Map) {
    return new Map(
      [...node].map(([key, value]) => [rewritten(key, scoped), rewritten(value, scoped)]),
    );
  }
  if (!isNode(node)) return node;
  rewriteFields(node, scoped);
  return replacement(node);
}

function rewriteFields(node: Node, scoped: ScopedBlocks): void {
  if (node["type"] === "For") rewriteLoop(node);
  if (node["type"] === "CallExpression") rewriteMethod(node);
  for (const [name, value] of Object.entries(node)) {
    // What is assigned to, or bound by a loop or macro, is no value.
    if (name === "assignee" || name === "loopvar" || name === "operator") continue;
    const changed = rewritten(value, scoped);
    node[name] = BLOCKS.includes(name) && Array.isArray(changed) ? changed.map(output) : changed;
  }
  if (node["type"] === "For" && hasSet(node["body"])) {
    const name = `scope ${scoped.size}`;
    scoped.set(name, { type: "Program", body: node["body"] });
    node["body"] = [call(name, [])];
  }
}

/** Python iterates over nothing that is undefined, and over more than lists. */
function rewriteLoop(node: Node): void {
  const { iterable } = node;
  guardWritten(node["body"], { isWritten: false });
  if (isNode(iterable) && iterable["type"] === "SelectExpression") {
    iterable["lhs"] = operator("iterate", [iterable["lhs"]]);
  } else node["iterable"] = operator("iterate", [iterable]);
}

/** `object.method(...)` of which there is a function of ours. */
function rewriteMethod(node: Node): void {
  const { callee, args } = node;
  if (!isNode(callee) || callee["type"] !== "MemberExpression" || !Array.isArray(args)) return;
  const name = callee["computed"] === true ? "" : nameOf(callee["property"]);
  if (!Object.hasOwn(METHODS, name)) return;
  node["args"] = [callee["object"], ...args];
  node["callee"] = identifier(functionName("method", name));
}

/** With a break or continue the library forgets what its turn of the loop has written so far. */
function guardWritten(nodes: unknown, state: { isWritten: boolean }): void {
  if (!Array.isArray(nodes)) return;
  for (const [at, node] of nodes.entries()) {
    const type = isNode(node) ? String(node["type"]) : "";
    if (type === "Break" || type === "Continue") {
      if (state.isWritten) nodes[at] = gap(`text before a ${type.toLowerCase()} in a loop`);
    } else if (type === "If" && isNode(node)) {
      const branches = [node["body"], node["alternate"]].map((branch) => {
        const own = { ...state };
        guardWritten(branch, own);
        return own;
      });
      state.isWritten = branches.some(({ isWritten }) => isWritten);
    } else if (!["Set", "Macro", "Comment"].includes(type)) {
      state.isWritten ||= type !== "StringLiteral" || (isNode(node) && node["value"] !== "");
    }
  }
}

/** Whether a block of a loop sets variables, which in Jinja end with their turn. */
function hasSet(node: unknown): boolean {
  if (Array.isArray(node)) return node.some(hasSet);
  if (!isNode(node)) return false;
  if (node["type"] === "Set")
    return isNode(node["assignee"]) && node["assignee"]["type"] !== "MemberExpression";
  if (node["type"] !== "If") return false;
  return hasSet(node["body"]) || hasSet(node["alternate"]);
}

function replacement(node: Node): Node {
  switch (node["type"]) {
    case "BinaryExpression": {
      const { operator: token, left, right } = node;
      const name = isNode(token) ? String(token["value"]) : "";
      return Object.hasOwn(OPERATORS, name) ? operator(name, [left, right]) : node;
    }
    case "MemberExpression":
      return member(node);
    case "FilterExpression":
      return filter(node);
    case "FilterStatement":
      return gap("a filter block");
    case "TestExpression": {
      const name = nameOf(node["test"]);
      if (!Object.hasOwn(TESTS, name)) return node;
      const test = call(functionName("test", name), [node["operand"]]);
      const not = { type: "UnaryOperator", value: "not" };
      return node["negate"] === true
        ? { type: "UnaryExpression", operator: not, argument: test }
        : test;
    }
    case "Identifier":
      // The library finds these two by looking for them, and does not look into what stands here now.
      return ["varargs", "kwargs"].includes(nameOf(node)) ? gap("a macro's varargs") : node;
    default:
      return node;
  }
}

function member(node: Node): Node {
  const { object, property, computed } = node;
  if (computed === true && isNode(property)) {
    if (property["type"] === "StringLiteral") return node;
    if (property["type"] !== "SliceExpression") return operator("index", [object, property]);
    const bounds = ["start", "stop", "step"].map(
      (name) => property[name] ?? identifier(UNDEFINED_NAME),
    );
    return operator("slice", [object, ...bounds]);
  }
  const name = nameOf(property);
  // A loop's own is no list's.
  if (nameOf(object) === "loop") return node;
  return ATTRIBUTES.includes(name) ? gap(`attribute ${name}`) : node;
}

function filter(node: Node): Node {
  const { operand, filter: given } = node;
  const isCall = isNode(given) && given["type"] === "CallExpression";
  const name = nameOf(isCall ? given["callee"] : given);
  const args: readonly unknown[] = isCall && Array.isArray(given["args"]) ? given["args"] : [];
  if (Object.hasOwn(FILTERS, name)) return call(functionName("filter", name), [operand, ...args]);
  if (GAP_FILTERS.includes(name)) return gap(`filter ${name}`);
  const named = args.flatMap((each) =>
    isNode(each) && isNode(each["key"]) ? [nameOf(each["key"])] : [],
  );
  if (name === "default" && named.includes("default_value")) return gap("filter default by name");
  if (name === "selectattr" || name === "rejectattr") {
    const [attribute = "", test = ""] = args.map((each) =>
      isNode(each) ? String(each["value"]) : "",
    );
    // Of a missing attribute the library takes every test for failed.
    const isKnown = ["", "equalto", "eq", "==", "defined", "string", "mapping"].includes(test);
    if (!isKnown || attribute.includes(".")) return gap(`filter ${name} by ${test}`);
  }
  return node;
}

function output(node: unknown): unknown {
  return isNode(node) && !STATEMENTS.includes(String(node["type"])) && !isText(node)
    ? operator("output", [node])
    : node;
}

/** Whether it can be nothing but text, which is written as it is: the library adds to text only as text. */
function isText(node: unknown): boolean {
  if (!isNode(node)) return false;
  if (node["type"] === "StringLiteral") return true;
  const { type, operator: token, left, right } = node;
  const isSum = type === "BinaryExpression" && isNode(token) && token["value"] === "+";
  return isSum && (isText(left) || isText(right));
}

function operator(name: string, args: readonly unknown[]): Node {
  return call(functionName("operator", name), args);
}

function gap(name: string): Node {
  return call(GAP_NAME, [{ type: "StringLiteral", value: name }]);
}

function call(name: string, args: readonly unknown[]): Node {
  return { type: "CallExpression", callee: identifier(name), args };
}

function identifier(name: string): Node {
  return { type: "Identifier", value: name };
}

function nameOf(node: unknown): string {
  return isNode(node) && typeof node["value"] === "string" ? node["value"] : "";
}

function isNode(value: unknown): value is Node {
  return isFields(value) && !(value instanceof Map);
}
