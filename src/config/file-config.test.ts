import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { CONFIG_BYTES_MAX, loadConfig } from "./file-config.ts";

const folder = mkdtempSync(path.join(tmpdir(), "kvatlas-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(text: string): string {
  const file = path.join(folder, "kvatlas.yaml");
  writeFileSync(file, text);
  return file;
}

describe("loadConfig", () => {
  it("needs nothing but the model, and resolves paths against the file's folder", () => {
    const config = loadConfig(fileOf("model: llama\n"));
    expect(config).toMatchObject({
      pool: "default",
      model: "llama",
      fleet: { endpointsFile: path.join(folder, "endpoints.yaml"), scrapeMs: 1000 },
      events: { transport: "direct", nats: { servers: ["127.0.0.1:4222"] } },
      index: { path: path.join(folder, "kvatlas-data") },
      router: { policy: "cost", popularity: { isOn: true } },
      extProc: { listen: "127.0.0.1:9002" },
      observe: { adminListen: "127.0.0.1:9090", logLevel: "info" },
    });
  });

  it("keeps absolute paths and the null of an index in memory", () => {
    const config = loadConfig(
      fileOf("model: m\nindex: { path: null }\nfleet: { endpointsFile: /etc/kvatlas/e.yaml }\n"),
    );
    expect(config.index.path).toBeNull();
    expect(config.fleet.endpointsFile).toBe("/etc/kvatlas/e.yaml");
  });

  it("is frozen in depth", () => {
    const config = loadConfig(fileOf("model: m\n"));
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.events.nats.servers)).toBe(true);
    expect(Object.isFrozen(config.router.popularity)).toBe(true);
  });

  it("refuses what is wrong with a code and a line for each problem", () => {
    const file = fileOf("modle: m\nobserve: { adminListen: nowhere }\n");
    expect(() => loadConfig(file)).toThrow(
      expect.objectContaining({
        code: "ERR_CONFIG_INVALID",
        message: expect.stringContaining(
          `${file}:2:25: observe.adminListen: got "nowhere", expected host:port`,
        ),
      }),
    );
  });

  it("refuses a tokenizer in this process without its files", () => {
    const file = fileOf("model: m\nprompt: { tokenize: local }\n");
    const told = `${file}:2:9: prompt.tokenizerPath: got nothing, expected a folder`;
    expect(() => loadConfig(file)).toThrow(told);
  });

  it("refuses a file that is absent or too large", () => {
    expect(() => loadConfig(path.join(folder, "absent.yaml"))).toThrow(
      expect.objectContaining({ code: "ERR_CONFIG_UNREADABLE" }),
    );
    expect(() => loadConfig(fileOf("#".repeat(CONFIG_BYTES_MAX + 1)))).toThrow(
      expect.objectContaining({ code: "ERR_CONFIG_INVALID" }),
    );
  });
});
