import { describe, expect, it } from "vitest";
import { configSchema } from "./schema.ts";
import { type SchemaNode, schemaNode } from "./schema-text.ts";

/** Paths of the keys that lack a property. */
function keysWithout(node: SchemaNode, property: "default" | "description", prefix = ""): string[] {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    if (child.properties !== undefined) return keysWithout(child, property, `${prefix}${key}.`);
    return child[property] === undefined ? [`${prefix}${key}`] : [];
  });
}

describe("configSchema", () => {
  it("describes every key", () => {
    expect(keysWithout(schemaNode(configSchema), "description")).toEqual([]);
  });

  it("has a default for every key but the model and the form of the file", () => {
    expect(keysWithout(schemaNode(configSchema), "default")).toEqual(["apiVersion", "model"]);
  });
});
