/** The real relay as a child process, on fixed files and ports, so that it can be killed. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type RunningChild, startChild } from "../../src/lab/process-child.ts";
import { freePort } from "./free-port.ts";
import type { RouterOptions } from "./router-process.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

export class RelayProcess {
  readonly adminAddress: string;
  readonly #configFile: string;
  #child: RunningChild | null = null;

  private constructor(adminAddress: string, configFile: string) {
    this.adminAddress = adminAddress;
    this.#configFile = configFile;
  }

  /** `config` names the NATS servers. */
  static async start({ folder, endpoints, config = {} }: RouterOptions): Promise<RelayProcess> {
    const place = join(folder, "relay");
    mkdirSync(place, { recursive: true });
    const adminListen = `127.0.0.1:${await freePort()}`;
    const configFile = join(place, "kvatlas.yaml");
    // JSON is YAML.
    writeFileSync(join(place, "endpoints.yaml"), JSON.stringify({ endpoints }));
    writeFileSync(
      configFile,
      JSON.stringify({ model: "lab-8b", observe: { adminListen }, ...config }),
    );
    const relay = new RelayProcess(adminListen, configFile);
    await relay.restart();
    return relay;
  }

  async restart(): Promise<void> {
    this.#child = await startChild({
      name: "relay",
      command: process.execPath,
      args: [MAIN, "relay", "--config", this.#configFile],
      clock: nodeClock,
      isReady: async () => (await fetch(`http://${this.adminAddress}/readyz`)).status === 200,
    });
  }

  async killHard(): Promise<void> {
    await this.#child?.kill();
  }

  async stop(): Promise<void> {
    await this.#child?.stop();
  }
}
