/** The real relay as a child process. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "./free-port.ts";
import { KvatlasProcess, type ProcessOptions, writeConfig } from "./kvatlas-process.ts";

export class RelayProcess extends KvatlasProcess {
  /** `config` names the NATS servers. */
  static async start({ folder, endpoints, config }: ProcessOptions): Promise<RelayProcess> {
    const place = join(folder, "relay");
    mkdirSync(place, { recursive: true });
    const adminListen = `127.0.0.1:${await freePort()}`;
    const configFile = writeConfig(place, endpoints, { observe: { adminListen }, ...config });
    const relay = new RelayProcess("relay", adminListen, configFile);
    await relay.restart();
    return relay;
  }
}
