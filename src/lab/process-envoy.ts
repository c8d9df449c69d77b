/** Runs a real Envoy with a configuration of file-envoy-recipe.ts. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../core/clock.ts";
import { KvError } from "../core/errors.ts";
import type { EnvoyConfig } from "./file-envoy-recipe.ts";
import { type RunningChild, startChild } from "./process-child.ts";
import { runToEnd } from "./process-run.ts";

const REQUEST_LIMIT_MS = 2000;
const VALIDATE_LIMIT_MS = 20_000;

export interface EnvoyOptions {
  readonly binary: string;
  readonly config: EnvoyConfig;
  /** Worker threads. Default 1. */
  readonly concurrency?: number;
  readonly clock: Clock;
}

export interface RunningEnvoy extends RunningChild {
  readonly adminAddress: string;
  /** Of the recipe's listener; empty when the config has no such listener. */
  readonly listenAddress: string;
  /** Null when the config has no such listener. */
  readonly roundRobinAddress: string | null;
  /** Addresses by listener name, as bound. */
  readonly listeners: ReadonlyMap<string, string>;
}

/** Throws KvError when Envoy refuses the config or does not become ready. */
export async function startEnvoy(options: EnvoyOptions): Promise<RunningEnvoy> {
  const folder = await mkdtemp(join(tmpdir(), "kvatlas-envoy-"));
  const adminFile = join(folder, "admin-address");
  const removeFolder = (): Promise<void> => rm(folder, { recursive: true, force: true });
  let adminAddress = "";
  try {
    const child = await startChild({
      name: "envoy",
      command: options.binary,
      args: [
        ...["--config-yaml", JSON.stringify(options.config)],
        ...["--concurrency", String(options.concurrency ?? 1)],
        // Several instances on one machine must not share their restart domain sockets.
        "--use-dynamic-base-id",
        ...["--log-level", "warning", "--admin-address-path", adminFile],
      ],
      clock: options.clock,
      isReady: async () => {
        adminAddress = (await readFile(adminFile, "utf8")).trim();
        return (await getAdmin(adminAddress, "/ready")).ok;
      },
    });
    const listeners = await readListeners(adminAddress);
    const end = async (ended: Promise<void>): Promise<void> => {
      await ended;
      await removeFolder();
    };
    return {
      adminAddress,
      listenAddress: listeners.get("kvatlas") ?? "",
      roundRobinAddress: listeners.get("round_robin") ?? null,
      listeners,
      pid: child.pid,
      exited: child.exited,
      outputTail: () => child.outputTail(),
      stop: () => end(child.stop()),
      kill: () => end(child.kill()),
    };
  } catch (reason) {
    await removeFolder();
    throw reason;
  }
}

/** Null when Envoy accepts a configuration, else what it says. */
export async function validateEnvoyConfig(
  binary: string,
  config: EnvoyConfig,
): Promise<string | null> {
  const args = ["--mode", "validate", "--log-level", "error"];
  const { isSuccess, output } = await runToEnd(
    binary,
    [...args, "--config-yaml", JSON.stringify(config)],
    VALIDATE_LIMIT_MS,
  );
  return isSuccess ? null : output;
}

/** Addresses by listener name, as bound. */
async function readListeners(adminAddress: string): Promise<ReadonlyMap<string, string>> {
  const answer = await getAdmin(adminAddress, "/listeners");
  const lines = (await answer.text()).split("\n").filter((line) => line !== "");
  if (!answer.ok || lines.length === 0) {
    throw new KvError("ERR_PROCESS_FAILED", `envoy lists no listeners, status ${answer.status}`);
  }
  // "name::host:port"
  return new Map(
    lines.map((line) => {
      const colons = line.indexOf("::");
      return [line.slice(0, colons), line.slice(colons + 2)];
    }),
  );
}

function getAdmin(address: string, path: string): Promise<Response> {
  return fetch(`http://${address}${path}`, { signal: AbortSignal.timeout(REQUEST_LIMIT_MS) });
}
