import { describe, expect, it } from "vitest";
import { type LogLevel, pinoLog } from "./pino-log.ts";

function linesOf(level: LogLevel, write: (log: ReturnType<typeof pinoLog>) => void): unknown[] {
  const lines: unknown[] = [];
  write(pinoLog({ level, to: { write: (line) => lines.push(JSON.parse(line)) } }));
  return lines;
}

describe("pinoLog", () => {
  it("writes one JSON line an event, with level as a word and time in ISO 8601", () => {
    const lines = linesOf("info", (log) => log.warn({ endpoint: "h:1" }, "endpoint unreachable"));
    expect(lines).toEqual([
      {
        level: "warn",
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
        endpoint: "h:1",
        msg: "endpoint unreachable",
      },
    ]);
  });

  it("leaves out what is below its level", () => {
    const lines = linesOf("warn", (log) => {
      log.debug({}, "a");
      log.info({}, "b");
      log.error({}, "c");
    });
    expect(lines).toMatchObject([{ level: "error", msg: "c" }]);
  });

  it("hides prompt text and credentials that a caller passes by mistake", () => {
    const [line] = linesOf("info", (log) =>
      log.info({ prompt: "secret", request: { messages: ["secret"], id: 1 } }, "m"),
    );
    expect(JSON.stringify(line)).not.toContain("secret");
    expect(line).toMatchObject({ request: { id: 1 } });
  });
});
