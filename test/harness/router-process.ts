/** The real router as a child process. */
import { freePort } from "./free-port.ts";
import { KvatlasProcess, type ProcessOptions, writeConfig } from "./kvatlas-process.ts";

export class RouterProcess extends KvatlasProcess {
  readonly extProcAddress: string;

  private constructor(extProcAddress: string, adminAddress: string, configFile: string) {
    super("serve", adminAddress, configFile);
    this.extProcAddress = extProcAddress;
  }

  static async start({ folder, endpoints, config = {} }: ProcessOptions): Promise<RouterProcess> {
    const listen = `127.0.0.1:${await freePort()}`;
    const adminListen = `127.0.0.1:${await freePort()}`;
    const configFile = writeConfig(folder, endpoints, {
      fleet: { scrapeMs: 200 },
      index: { path: "store", flushMs: 50 },
      query: { listen: "127.0.0.1:0" },
      observe: { adminListen },
      ...config,
      extProc: {
        listen,
        healthListen: "127.0.0.1:0",
        // A decision late is one by load alone: what is tested is not how busy the machine is.
        deadlineMs: 15_000,
        drainNoticeMs: 0,
        ...config["extProc"],
      },
    });
    const router = new RouterProcess(listen, adminListen, configFile);
    await router.restart();
    return router;
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
