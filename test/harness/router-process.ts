/** The real router as a child process, on fixed ports, so that it can be killed and started again. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { nodeClock } from "../../src/core/node-clock.ts";
import { type RunningChild, startChild } from "../../src/lab/process-child.ts";
import { freePort } from "./free-port.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

export interface RouterEndpoint {
  readonly name: string;
  readonly address: string;
  readonly kvEvents: { readonly address: string; readonly replay?: string };
}

export interface RouterOptions {
  /** Temporary folder of the test: configuration, endpoints, store. */
  readonly folder: string;
  readonly endpoints: readonly RouterEndpoint[];
  /** Parts of kvatlas.yaml that differ from the test's defaults. */
  readonly config?: Readonly<Record<string, object>>;
}

export class RouterProcess {
  readonly extProcAddress: string;
  readonly adminAddress: string;
  readonly #configFile: string;
  #child: RunningChild | null = null;

  private constructor(ports: { extProc: number; admin: number }, configFile: string) {
    this.extProcAddress = `127.0.0.1:${ports.extProc}`;
    this.adminAddress = `127.0.0.1:${ports.admin}`;
    this.#configFile = configFile;
  }

  static async start(options: RouterOptions): Promise<RouterProcess> {
    const { folder, endpoints, config = {} } = options;
    const ports = { extProc: await freePort(), admin: await freePort() };
    const configFile = join(folder, "kvatlas.yaml");
    // JSON is YAML.
    writeFileSync(join(folder, "endpoints.yaml"), JSON.stringify({ endpoints }));
    writeFileSync(
      configFile,
      JSON.stringify({
        model: "lab-8b",
        fleet: { scrapeMs: 200 },
        index: { path: "store", flushMs: 50 },
        observe: { adminListen: `127.0.0.1:${ports.admin}` },
        ...config,
        extProc: {
          listen: `127.0.0.1:${ports.extProc}`,
          healthListen: "127.0.0.1:0",
          deadlineMs: 2000,
          drainNoticeMs: 0,
          ...config["extProc"],
        },
      }),
    );
    const router = new RouterProcess(ports, configFile);
    await router.restart();
    return router;
  }

  /** Starts the process again on the same files and ports; ready means that /readyz says so. */
  async restart(): Promise<void> {
    this.#child = await startChild({
      name: "router",
      command: process.execPath,
      args: [MAIN, "serve", "--config", this.#configFile],
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

  outputTail(): string {
    return this.#child?.outputTail() ?? "";
  }

  /** Sum of a metric's series whose labels contain `labels`; 0 when there is none. */
  async metric(name: string, labels = ""): Promise<number> {
    const text = await (await fetch(`http://${this.adminAddress}/metrics`)).text();
    const lines = text.split("\n").filter((line) => /^[^#\s{]+/.exec(line)?.[0] === name);
    return lines
      .filter((line) => line.includes(labels))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
  }

  async ready(): Promise<{ status: number; text: string }> {
    const answer = await fetch(`http://${this.adminAddress}/readyz`);
    return { status: answer.status, text: await answer.text() };
  }
}
