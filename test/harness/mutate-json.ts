/** JSON that stays JSON and is no longer what was meant: values of other kinds in any place. */
import type { Random } from "../../src/core/random.ts";

const CHANGES_MAX = 3;
const NASTY: readonly unknown[] = [
  ...[null, true, 0, -1, 1.5, 1e21, 4294967295, 4294967296, "", "\ud800", "\u0000", "prompt"],
  ...[[], [[]], [0], [1, "2"], [[1], 2], {}, { type: "text" }, { type: "tool_result" }],
  ...[{ type: "text", text: 7 }, { role: "assistant", content: [null] }, { __proto__: null }],
  JSON.parse('{"__proto__":{"messages":[]}}'),
];

/** The body with up to CHANGES_MAX values replaced by nasty ones, or doubled. */
export function mutateJson(body: Uint8Array, random: Random): Uint8Array {
  let value: unknown = JSON.parse(Buffer.from(body).toString("utf8"));
  const changes = 1 + Math.floor(random.next() * CHANGES_MAX);
  for (let change = 0; change < changes; change += 1) value = replaced(value, random);
  const indent = random.next() < 0.2 ? 1 : 0;
  return Buffer.from(JSON.stringify(value, null, indent));
}

/** Goes down at random; what it ends at is replaced. */
function replaced(value: unknown, random: Random): unknown {
  const isLeaf = typeof value !== "object" || value === null || random.next() < 0.15;
  if (isLeaf) return NASTY[Math.floor(random.next() * NASTY.length)];
  const keys = Object.keys(value);
  const at = Math.floor(random.next() * keys.length);
  if (Array.isArray(value)) {
    const removed = random.next() < 0.5 ? 1 : 0;
    return value.toSpliced(at, removed, replaced(value[at], random));
  }
  const entries = Object.entries(value).map(([key, each], i) => [
    key,
    i === at ? replaced(each, random) : each,
  ]);
  return Object.fromEntries(entries);
}
