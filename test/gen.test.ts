/** The checked-in gRPC types are what the generator makes of proto/. */
import { execFileSync } from "node:child_process";
import { globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

const ROOT = new URL("../", import.meta.url).pathname;
const SCRIPTS: Record<string, string> = JSON.parse(
  readFileSync(join(ROOT, "package.json"), "utf8"),
).scripts;
const FOLDERS = globSync("src/*/gen", { cwd: ROOT });

function filesOf(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith(".ts"),
  );
  return new Map(files.sort().map((file) => [file, readFileSync(join(folder, file), "utf8")]));
}

it.each(FOLDERS)("%s is current; run `npm run gen:proto` after a change of proto/", (folder) => {
  const script = Object.values(SCRIPTS).find((each) => each.includes(`-O ${folder} `)) ?? "";
  const made = mkdtempSync(join(tmpdir(), "kvatlas-gen-"));
  try {
    const [command = "", ...args] = script.replace(folder, made).split(" ");
    execFileSync(join(ROOT, "node_modules/.bin", command), args, { cwd: ROOT });
    expect(filesOf(made)).toEqual(filesOf(join(ROOT, folder)));
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
});
