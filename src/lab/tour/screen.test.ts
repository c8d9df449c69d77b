import { describe, expect, it } from "vitest";
import { createScreen, type Screen } from "./screen.ts";

function screenOf(isInteractive: boolean): { readonly screen: Screen; readonly out: string[] } {
  const out: string[] = [];
  const write = (text: string): void => void out.push(text);
  return { screen: createScreen({ write, isInteractive, columns: () => 10 }), out };
}

describe("screen", () => {
  it("draws a live block over the one before, cut to the width, until something is said", () => {
    const { screen, out } = screenOf(true);
    const state = { block: ["one", "a line that is too long"], line: "" };
    screen.live(state);
    screen.live(state);
    screen.say("done");
    screen.live(state);
    const block = "one\x1b[K\na line th\x1b[K\n";
    expect(out).toEqual([block, `\x1b[2A${block}`, "done\n", block]);
  });

  it("writes every fifth state as a line, without cursor control, elsewhere", () => {
    const { screen, out } = screenOf(false);
    for (let second = 1; second <= 11; second++) screen.live({ block: [], line: `${second} s` });
    screen.say("done");
    expect(out).toEqual(["5 s\n", "10 s\n", "done\n"]);
  });
});
