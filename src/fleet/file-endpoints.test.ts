import { mkdtemp, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { specOf } from "../../test/harness/fleet-values.ts";
import type { Clock } from "../core/clock.ts";
import { type EndpointId, endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { type Meter, silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import { ENDPOINTS_BYTES_MAX } from "./endpoints-file.ts";
import { type EndpointsParse, FileEndpoints } from "./file-endpoints.ts";

let folder = "";
let file = "";

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "kvatlas-endpoints-"));
  file = path.join(folder, "endpoints.yaml");
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

/** One address a line; "bad" is refused. */
function parse(text: string): EndpointsParse {
  if (text === "bad") return { ok: false, problems: ["endpoints.yaml:1:1: got bad"] };
  const ids = text.split("\n").map(endpointId);
  return { ok: true, specs: ids.map((id) => specOf(id)) };
}

interface Watched {
  readonly endpoints: FileEndpoints;
  readonly applied: EndpointId[][];
  readonly outcomes: unknown[];
  readonly logged: unknown[];
  /** Lets the next poll's time come. */
  readonly timers: (() => void)[];
}

function watched(): Watched {
  const applied: EndpointId[][] = [];
  const outcomes: unknown[] = [];
  const logged: unknown[] = [];
  const timers: (() => void)[] = [];
  const clock: Clock = {
    ...nodeClock,
    after: (_delayMs, callback) => {
      timers.push(callback);
      return () => {};
    },
  };
  const meter: Meter = {
    ...silentMeter,
    count: (_name, labels) => outcomes.push(labels?.["outcome"]),
  };
  const endpoints = new FileEndpoints(
    {
      clock,
      log: { ...silentLog, error: (fields) => logged.push(fields) },
      meter,
      parse,
      onSpecs: (specs) => applied.push(specs.map((spec) => spec.id)),
    },
    file,
  );
  return { endpoints, applied, outcomes, logged, timers };
}

describe("FileEndpoints", () => {
  it("hands over the endpoints at start", async () => {
    await writeFile(file, "a:1\nb:2");
    const { endpoints, applied } = watched();
    await endpoints.start();
    await endpoints.stop();
    expect(applied).toEqual([["a:1", "b:2"]]);
  });

  it("does not start on a file that is absent or not accepted", async () => {
    await expect(watched().endpoints.start()).rejects.toMatchObject({
      code: "ERR_CONFIG_UNREADABLE",
      message: expect.stringContaining(file),
    });
    await writeFile(file, "bad");
    await expect(watched().endpoints.start()).rejects.toMatchObject({
      code: "ERR_CONFIG_INVALID",
      message: "endpoints.yaml:1:1: got bad",
    });
  });

  it("follows an editor that writes another file and renames it", async () => {
    await writeFile(file, "a:1");
    const { endpoints, applied, outcomes } = watched();
    await endpoints.start();
    await writeFile(`${file}.new`, "b:2");
    await rename(`${file}.new`, file);
    await endpoints.check();
    await endpoints.check();
    await endpoints.stop();
    expect(applied).toEqual([["a:1"], ["b:2"]]);
    expect(outcomes).toEqual(["applied"]);
  });

  it("follows the symlink swap of a Kubernetes ConfigMap", async () => {
    const versions = [path.join(folder, "v1"), path.join(folder, "v2")];
    await writeFile(versions[0] ?? "", "a:1");
    await writeFile(versions[1] ?? "", "b:2");
    await symlink(versions[0] ?? "", file);
    const { endpoints, applied } = watched();
    await endpoints.start();
    await symlink(versions[1] ?? "", `${file}.new`);
    await rename(`${file}.new`, file);
    await endpoints.check();
    await endpoints.stop();
    expect(applied).toEqual([["a:1"], ["b:2"]]);
  });

  it("keeps the former endpoints when a version is refused, counts it once, then recovers", async () => {
    await writeFile(file, "a:1");
    const { endpoints, applied, outcomes, logged } = watched();
    await endpoints.start();
    await writeFile(file, "bad");
    await endpoints.check();
    await endpoints.check();
    expect(applied).toEqual([["a:1"]]);
    expect(outcomes).toEqual(["invalid"]);
    expect(logged).toEqual([{ file, problems: ["endpoints.yaml:1:1: got bad"] }]);
    await rm(file);
    await endpoints.check();
    await writeFile(file, "c:3");
    await endpoints.check();
    await endpoints.stop();
    expect(applied).toEqual([["a:1"], ["c:3"]]);
    expect(outcomes).toEqual(["invalid", "unreadable", "applied"]);
  });

  it("refuses a file over the size limit without reading it", async () => {
    await writeFile(file, "a:1");
    const { endpoints, outcomes } = watched();
    await endpoints.start();
    await truncate(file, ENDPOINTS_BYTES_MAX + 1);
    await endpoints.check();
    await endpoints.stop();
    expect(outcomes).toEqual(["invalid"]);
  });

  it("looks at the file each time its interval is over", async () => {
    await writeFile(file, "a:1");
    const { endpoints, applied, timers } = watched();
    await endpoints.start();
    await writeFile(file, "b:22");
    timers.shift()?.();
    await expect.poll(() => applied).toEqual([["a:1"], ["b:22"]]);
    await endpoints.stop();
  });
});
