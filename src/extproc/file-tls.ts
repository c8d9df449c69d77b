/**
 * Certificate, key and the authority of clients from files, read again when one of them changes: a
 * certificate that is renewed in its file is served without a restart.
 */
import { readFile, stat } from "node:fs/promises";
import { createSecureContext } from "node:tls";
import { type Clock, sleep } from "../core/clock.ts";
import { KvError, messageOf } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Meter } from "../core/meter.ts";
import type { TlsConfig } from "./config.ts";

const POLL_MS = 2000;

/** PEM. */
export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Null: clients show no certificate. */
  readonly clientCa: Buffer | null;
}

/** Rejects with KvError ERR_CONFIG_INVALID where a file is missing or does not fit the others. */
export async function readTls(config: TlsConfig): Promise<TlsMaterial> {
  try {
    return await materialOf(config);
  } catch (cause) {
    throw new KvError("ERR_CONFIG_INVALID", `extProc.tls: ${messageOf(cause)}`, { cause });
  }
}

async function materialOf({ certFile, keyFile, clientCaFile }: TlsConfig): Promise<TlsMaterial> {
  const cert = await readFile(certFile);
  const key = await readFile(keyFile);
  const clientCa = clientCaFile === null ? null : await readFile(clientCaFile);
  // Throws where they are no PEM or do not belong together, as while one of two is replaced.
  createSecureContext({ cert, key, ...(clientCa === null ? {} : { ca: clientCa }) });
  return { cert, key, clientCa };
}

export interface FileTlsDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
}

export class FileTls {
  readonly #config: TlsConfig;
  readonly #deps: FileTlsDeps;
  #identity = "";

  constructor(config: TlsConfig, deps: FileTlsDeps) {
    this.#config = config;
    this.#deps = deps;
  }

  /** As `readTls`; what changes from now on is followed. */
  async read(): Promise<TlsMaterial> {
    this.#identity = await this.#currentIdentity();
    return readTls(this.#config);
  }

  /** Calls back with what is in the files whenever they have changed and fit; until the signal. */
  async follow(onChange: (material: TlsMaterial) => void, signal: AbortSignal): Promise<void> {
    const { clock, log, meter } = this.#deps;
    while (!signal.aborted) {
      await sleep(clock, POLL_MS, signal);
      if (signal.aborted) return;
      try {
        const identity = await this.#currentIdentity();
        if (identity === this.#identity) continue;
        // Remembered before it is read, so that files that do not fit are told of once.
        this.#identity = identity;
        onChange(await materialOf(this.#config));
        meter.count("kvatlas_extproc_tls_reloads_total", { outcome: "taken" });
        log.info({ cert_file: this.#config.certFile }, "certificate read again");
      } catch (error) {
        meter.count("kvatlas_extproc_tls_reloads_total", { outcome: "refused" });
        log.error({ error: messageOf(error) }, "changed certificate refused, the former one stays");
      }
    }
  }

  /** Changes with each way of writing a file. */
  async #currentIdentity(): Promise<string> {
    const { certFile, keyFile, clientCaFile } = this.#config;
    const files = [certFile, keyFile, ...(clientCaFile === null ? [] : [clientCaFile])];
    const identities = files.map(async (file) => {
      try {
        const { dev, ino, size, mtimeNs } = await stat(file, { bigint: true });
        return `${dev}:${ino}:${size}:${mtimeNs}`;
      } catch {
        return "absent";
      }
    });
    return (await Promise.all(identities)).join(" ");
  }
}
