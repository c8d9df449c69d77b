/** The checked-in gRPC types are what the generator makes of proto/. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

const ROOT = new URL("../", import.meta.url).pathname;
const CHECKED_IN = join(ROOT, "src/extproc/gen");

function filesOf(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith(".ts"),
  );
  return new Map(files.sort().map((file) => [file, readFileSync(join(folder, file), "utf8")]));
}

it("src/extproc/gen is current; run `npm run gen:proto` after a change of proto/", () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const made = mkdtempSync(join(tmpdir(), "kvatlas-gen-"));
  try {
    const [command, ...args] = scripts["gen:proto"].replace("src/extproc/gen", made).split(" ");
    execFileSync(join(ROOT, "node_modules/.bin", command), args, { cwd: ROOT });
    expect(filesOf(made)).toEqual(filesOf(CHECKED_IN));
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
});
