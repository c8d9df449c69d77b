import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { captureLine } from "../events/capture.ts";
import { LINE_CHARS_MAX, readCapture } from "./file-capture.ts";

const folder = mkdtempSync(join(tmpdir(), "kvatlas-capture-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Sequences of the messages, or what ended them. */
async function read(...parts: readonly (string | Buffer)[]): Promise<(number | string)[]> {
  const file = join(folder, "capture.jsonl");
  writeFileSync(file, Buffer.concat(parts.map((part) => Buffer.from(part))));
  const told: (number | string)[] = [];
  for await (const message of readCapture(file)) {
    told.push(message.ok ? message.value.seq : message.detail.slice(file.length));
  }
  return told;
}

const line = (seq: number, bytes = 3): string =>
  captureLine({ topic: "é", seq, payload: Buffer.alloc(bytes, 0x90) });

it("reads lines however they end, and wherever the file's pieces do", async () => {
  expect(await read()).toEqual([]);
  expect(await read(`\ufeff${line(0)}\r\n\n  \n${line(1)}`)).toEqual([0, 1]);
  const long = Array.from({ length: 50 }, (_, seq) => `${line(seq, 4000 + 37 * seq)}\n`);
  expect(await read(...long)).toEqual(long.map((_, seq) => seq));
});

it("ends with the first line that is none, and names it", async () => {
  expect(await read(`${line(0)}\n\n${line(1).slice(0, 20)}\n${line(2)}\n`)).toEqual([
    ...[0, ":3: not JSON"],
  ]);
  const overlong = Buffer.alloc(LINE_CHARS_MAX + 1, "0");
  expect(await read(`${line(0)}\n`, overlong, `\n${line(1)}\n`)).toEqual([
    ...[0, `:2: a line of over ${LINE_CHARS_MAX} characters`],
  ]);
});

it("says which file cannot be read", async () => {
  const all = (async (): Promise<void> => {
    for await (const _ of readCapture(join(folder, "none.jsonl"))) expect.fail();
  })();
  await expect(all).rejects.toMatchObject({ code: "ERR_CAPTURE_INVALID" });
});
