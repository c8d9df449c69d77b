/**
 * What a schema accepts, in words, for error messages and docs/configuration.md.
 *
 * Works on JSON Schema, which zod makes from its schemas; keywords that zod does not make for the
 * schemas of kvatlas are left out. Pure.
 */
import { z } from "zod";

/** The part of JSON Schema that is used. */
export interface SchemaNode {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly pattern?: string;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly anyOf?: readonly SchemaNode[];
  readonly items?: SchemaNode;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  /** Of a mapping whose keys are names: what each of them holds. */
  readonly additionalProperties?: SchemaNode | boolean;
}

export function schemaNode(schema: z.ZodType): SchemaNode {
  return z.toJSONSchema(schema, { io: "input" }) as SchemaNode;
}

/** The node at a path of a value; null where the schema knows no such place. */
export function nodeAt(node: SchemaNode, path: readonly PropertyKey[]): SchemaNode | null {
  const [step, ...rest] = path;
  if (step === undefined) return node;
  for (const option of node.anyOf ?? [node]) {
    const next = typeof step === "number" ? option.items : ownProperty(option, String(step));
    if (next !== undefined) return nodeAt(next, rest);
  }
  return null;
}

/** Keys that a mapping at this node may have. */
export function knownKeys(node: SchemaNode): string[] {
  return (node.anyOf ?? [node]).flatMap((option) => Object.keys(option.properties ?? {}));
}

/** "integer from 1 to 5", "one of "a", "b"", "string or null"; a mapping is just "mapping". */
export function acceptedText(node: SchemaNode): string {
  if (node.anyOf !== undefined) return node.anyOf.map(acceptedText).join(" or ");
  if (node.const !== undefined) return JSON.stringify(node.const);
  if (node.enum !== undefined) {
    return `one of ${node.enum.map((value) => JSON.stringify(value)).join(", ")}`;
  }
  // A nullable string of one schema: ["string", "null"].
  if (Array.isArray(node.type)) {
    return node.type.map((type: string) => acceptedText({ ...node, type })).join(" or ");
  }
  switch (node.type) {
    case "integer":
    case "number":
      return [node.type, ...rangeText(node)].join(" ");
    case "string":
      return stringText(node);
    case "boolean":
      return "true or false";
    case "array": {
      const most = node.maxItems === undefined ? "" : ` of at most ${node.maxItems}`;
      return `list${most}: ${acceptedText(node.items ?? {})}`;
    }
    case "object":
      return "mapping";
    case "null":
      return "null";
    default:
      return "any value";
  }
}

function stringText({ pattern, minLength, maxLength }: SchemaNode): string {
  if (pattern !== undefined) return `string matching /${pattern}/`;
  const kind = minLength === undefined ? "string" : "non-empty string";
  return maxLength === undefined ? kind : `${kind} of at most ${maxLength} characters`;
}

/** Bounds that zod adds to every integer say nothing to a reader. */
function rangeText(node: SchemaNode): string[] {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = node;
  const from = minimum === Number.MIN_SAFE_INTEGER ? undefined : minimum;
  const to = maximum === Number.MAX_SAFE_INTEGER ? undefined : maximum;
  if (from !== undefined && to !== undefined) return [`from ${from} to ${to}`];
  const words: string[] = [];
  if (from !== undefined) words.push(`of at least ${from}`);
  if (exclusiveMinimum !== undefined) words.push(`over ${exclusiveMinimum}`);
  if (to !== undefined) words.push(`of at most ${to}`);
  if (exclusiveMaximum !== undefined) words.push(`under ${exclusiveMaximum}`);
  return words;
}

function ownProperty(node: SchemaNode, key: string): SchemaNode | undefined {
  const properties = node.properties ?? {};
  if (Object.hasOwn(properties, key)) return properties[key];
  const ofNames = node.additionalProperties;
  return typeof ofNames === "object" ? ofNames : undefined;
}
