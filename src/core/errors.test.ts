import { describe, expect, it } from "vitest";
import { assert, assertNever } from "./assert.ts";
import { KvError, messageOf } from "./errors.ts";
import { ok, refused } from "./result.ts";

describe("KvError", () => {
  it("has a code, a message and its cause", () => {
    const cause = new Error("ENOENT");
    const error = new KvError("ERR_PORT_IN_USE", "cannot open x", { cause });
    expect(error).toMatchObject({ name: "KvError", code: "ERR_PORT_IN_USE", cause });
    expect(messageOf(error)).toBe("cannot open x");
    expect(messageOf("plain")).toBe("plain");
  });
});

describe("assert", () => {
  it("throws with the fields, and only when the condition does not hold", () => {
    assert(true, "never shown");
    expect(() => assert(false, "too many", { blocks: 3 })).toThrow(
      'assertion failed: too many {"blocks":3}',
    );
  });

  it("throws for a value outside of its union", () => {
    // What only bad input at run time can bring.
    expect(() => assertNever("x" as never)).toThrow('"x"');
  });
});

describe("Result", () => {
  it("is a value or a reason with its detail", () => {
    expect(ok(1)).toEqual({ ok: true, value: 1 });
    expect(refused("too-large", "9 bytes, limit 8")).toEqual({
      ok: false,
      reason: "too-large",
      detail: "9 bytes, limit 8",
    });
  });
});
