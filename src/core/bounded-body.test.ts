import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { readBounded } from "./bounded-body.ts";

const bodyOf = (...chunks: string[]): Readable =>
  Readable.from(chunks.map((chunk) => Buffer.from(chunk)));

describe("readBounded", () => {
  it("gives a body of just the limit whole, in order", async () => {
    expect((await readBounded(bodyOf("ab", "cd"), 4))?.toString()).toBe("abcd");
    expect((await readBounded(bodyOf(), 4))?.length).toBe(0);
  });

  it("gives null over the limit, and ends the stream", async () => {
    const body = bodyOf("ab", "cd", "e");
    expect(await readBounded(body, 3)).toBeNull();
    expect(body.destroyed).toBe(true);
  });

  it("passes on the stream's error", async () => {
    const body = new Readable({ read: () => body.destroy(new Error("gone")) });
    await expect(readBounded(body, 3)).rejects.toThrow("gone");
  });
});
