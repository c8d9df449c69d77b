import { describe, expect, it } from "vitest";
import { bindRange, rankAddress } from "./port-range.ts";

/** A machine on which some ports are taken; the system's choice walks upwards. */
class Ports {
  readonly open = new Set<number>();
  readonly #taken: ReadonlySet<number>;
  #nextFree = 100;

  constructor(taken: readonly number[]) {
    this.#taken = new Set(taken);
  }

  readonly bind = async (wanted: number): Promise<{ address: string; stop(): Promise<void> }> => {
    const port = wanted === 0 ? this.#nextFree++ : wanted;
    if (this.#taken.has(port) || this.open.has(port)) throw new Error(`port ${port} is taken`);
    this.open.add(port);
    const stop = async (): Promise<void> => void this.open.delete(port);
    return { address: `tcp://127.0.0.1:${port}`, stop };
  };
}

describe("bindRange", () => {
  it("finds consecutive free ports, and gives back those that it tried", async () => {
    const ports = new Ports([102, 104]);
    const bound = await bindRange({ port: 0, count: 3 }, ports.bind);
    expect(bound.map(({ address }) => address)).toEqual(
      [105, 106, 107].map((port) => `tcp://127.0.0.1:${port}`),
    );
    expect([...ports.open]).toEqual([105, 106, 107]);
    expect(rankAddress("tcp://127.0.0.1:105", 2)).toBe(bound[2]?.address);
  });

  it("keeps to a stated port", async () => {
    const ports = new Ports([202]);
    await expect(bindRange({ port: 201, count: 2 }, ports.bind)).rejects.toThrow("202 is taken");
    expect(ports.open.size).toBe(0);
    expect(await bindRange({ port: 203, count: 2 }, ports.bind)).toHaveLength(2);
  });
});
