/** Runs the router as users do: a process of its own, `serve --config kvatlas.yaml`. */
import { createWriteStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { isObject } from "../engine/json-object.ts";
import { type RunningChild, startChild } from "../process-child.ts";
import { type EngineAddresses, endpointsYaml, routerYaml } from "./router-files.ts";

const READY_MS = 20_000;
const REQUEST_LIMIT_MS = 1000;

export interface RouterOptions {
  /** Files of the router are put here. */
  readonly folder: string;
  /** The JavaScript file of the command line. */
  readonly cliEntry: string;
  readonly engines: readonly EngineAddresses[];
  /** Null: direct mode. */
  readonly natsAddress: string | null;
  readonly clock: Clock;
}

export interface RunningRouter extends RunningChild {
  readonly extProcAddress: string;
  readonly adminAddress: string;
  /** File that takes its log. */
  readonly logFile: string;
}

/** Resolves when /readyz says so. */
export async function startRouterProcess(options: RouterOptions): Promise<RunningRouter> {
  const { folder } = options;
  const configFile = join(folder, "kvatlas.yaml");
  const logFile = join(folder, "kvatlas.log");
  await writeFile(configFile, routerYaml(options.natsAddress));
  await writeFile(join(folder, "endpoints.yaml"), endpointsYaml(options.engines));
  const log = createWriteStream(logFile);
  let addresses: Addresses | null = null;
  const child = await startChild({
    name: "kvatlas serve",
    command: process.execPath,
    args: [options.cliEntry, "serve", "--config", configFile],
    clock: options.clock,
    readyMs: READY_MS,
    // Never the sign of readiness, so it is called for every line of the log.
    isReadyLine: (line) => {
      log.write(`${line}\n`);
      addresses ??= servingAddresses(line);
      return false;
    },
    isReady: async () => addresses !== null && (await isRouterReady(addresses.adminAddress)),
  });
  void child.exited.then(() => log.end());
  // Readiness was reported by an address.
  const { extProcAddress, adminAddress } = addresses ?? { extProcAddress: "", adminAddress: "" };
  return {
    extProcAddress,
    adminAddress,
    logFile,
    pid: child.pid,
    exited: child.exited,
    outputTail: () => child.outputTail(),
    stop: () => child.stop(),
    kill: () => child.kill(),
  };
}

interface Addresses {
  readonly extProcAddress: string;
  readonly adminAddress: string;
}

/** From the log line that says where the router serves; null for every other line. */
function servingAddresses(line: string): Addresses | null {
  if (!line.includes('"serving"')) return null;
  const fields: unknown = JSON.parse(line);
  if (!isObject(fields)) return null;
  const { ext_proc: extProcAddress, admin: adminAddress } = fields;
  if (typeof extProcAddress !== "string" || typeof adminAddress !== "string") return null;
  return { extProcAddress, adminAddress };
}

async function isRouterReady(adminAddress: string): Promise<boolean> {
  const signal = AbortSignal.timeout(REQUEST_LIMIT_MS);
  return (await fetch(`http://${adminAddress}/readyz`, { signal })).ok;
}
