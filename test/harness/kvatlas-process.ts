/** A command of the real kvatlas as a child process, on fixed files and ports, so that it can be killed. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type RunningChild, startChild } from "../../src/lab/process-child.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

export interface TestEndpoint {
  readonly name: string;
  readonly address: string;
  readonly role?: "both" | "prefill" | "decode";
  readonly accelerator?: string;
  readonly kvEvents?: { readonly address: string; readonly replay?: string };
}

export interface ProcessOptions {
  /** Temporary folder of the test: configuration, endpoints, store. */
  readonly folder: string;
  readonly endpoints: readonly TestEndpoint[];
  /** Parts of kvatlas.yaml that differ from the test's defaults. */
  readonly config?: Readonly<Record<string, object>>;
}

/** Writes kvatlas.yaml and its endpoint file into `folder`; gives the former's path. */
export function writeConfig(
  folder: string,
  endpoints: readonly TestEndpoint[],
  config: object,
): string {
  const configFile = join(folder, "kvatlas.yaml");
  // JSON is YAML.
  writeFileSync(join(folder, "endpoints.yaml"), JSON.stringify({ endpoints }));
  writeFileSync(configFile, JSON.stringify({ model: "lab-8b", ...config }));
  return configFile;
}

export class KvatlasProcess {
  readonly adminAddress: string;
  readonly #command: "serve" | "relay";
  readonly #configFile: string;
  #child: RunningChild | null = null;

  protected constructor(command: "serve" | "relay", adminAddress: string, configFile: string) {
    this.#command = command;
    this.adminAddress = adminAddress;
    this.#configFile = configFile;
  }

  /** Starts the process again on the same files and ports; ready means that /readyz says so. */
  async restart(): Promise<void> {
    this.#child = await startChild({
      name: this.#command,
      command: process.execPath,
      args: [MAIN, this.#command, "--config", this.#configFile],
      clock: nodeClock,
      isReady: async () => (await fetch(`http://${this.adminAddress}/readyz`)).status === 200,
    });
  }

  async killHard(): Promise<void> {
    await this.#child?.kill();
  }

  /** The process stands still, with its connections open, until it is killed. */
  freeze(): void {
    if (this.#child !== null) process.kill(this.#child.pid, "SIGSTOP");
  }

  async stop(): Promise<void> {
    await this.#child?.stop();
  }

  outputTail(): string {
    return this.#child?.outputTail() ?? "";
  }
}
