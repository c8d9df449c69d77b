import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { resolveBinary } from "./process-binaries.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kvatlas-binaries-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function writeProgram(name: string, script: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

describe("resolveBinary", () => {
  it("takes the program that the variable names", async () => {
    const path = writeProgram("my-nats", "echo nats-server: v9.8.7");
    const found = await resolveBinary("nats-server", {
      env: { NATS_SERVER_BIN: path, PATH: "/bin" },
      folder: "/none",
    });
    expect(found).toEqual({ isFound: true, path, source: "NATS_SERVER_BIN", version: "9.8.7" });
  });

  it("tries nothing else when the named program does not run", async () => {
    writeProgram("envoy", "echo envoy 1.2.3");
    const env = { ENVOY_BIN: "/none/envoy", PATH: folder };
    const found = await resolveBinary("envoy", { env, folder: "/none" });
    expect(found.isFound === false && found.reason).toMatch(/^ENVOY_BIN: .*does not run/);
  });

  it("passes over a program on the PATH that does not run, to the cache", async () => {
    const broken = mkdtempSync(join(folder, "broken-"));
    writeFileSync(join(broken, "nats-server"), "#!/bin/sh\nexit 127\n");
    chmodSync(join(broken, "nats-server"), 0o755);
    const path = writeProgram("nats-server", "echo v2.15.1");
    const found = await resolveBinary("nats-server", { env: { PATH: broken }, folder });
    expect(found).toMatchObject({ isFound: true, path, source: folder });
  });

  it("says where it looked", async () => {
    const found = await resolveBinary("envoy", { env: { PATH: "" }, folder: "/none" });
    expect(found).toEqual({ isFound: false, reason: "not in ENVOY_BIN, PATH or /none" });
  });
});
