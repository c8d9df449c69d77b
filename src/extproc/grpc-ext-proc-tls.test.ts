/** The ext_proc address behind TLS, with certificates of authorities made for the test. */
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import {
  certificateAuthority,
  isOpensslMissing,
  servedName,
} from "../../test/harness/certificates.ts";
import { recordingMeter } from "../../test/harness/recording-meter.ts";
import { waitUntil } from "../../test/harness/wait-until.ts";
import type { Clock } from "../core/clock.ts";
import { endpointId } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { extProcConfigSchema } from "./config.ts";
import { EXT_PROC_SERVICE, loadExtProcPackage } from "./grpc-definition.ts";
import { startExtProcServer } from "./grpc-ext-proc.ts";
import type { Picker, PickOutcome } from "./picker.ts";

const route: PickOutcome = { kind: "route", endpointId: endpointId("10.0.0.1:8000") };
const picker: Picker = {
  pick: () => Promise.resolve(route),
  pickByLoad: () => route,
  responseStarted: () => {},
  firstByte: () => {},
  progressed: () => {},
  ended: () => {},
};
/** Files are looked at a hundred times as often. */
const clock: Clock = {
  ...nodeClock,
  after: (ms, callback) => nodeClock.after(ms === 2000 ? 20 : ms, callback),
};

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "kvatlas-tls-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function start(files: { certFile: string; keyFile: string; clientCaFile?: string }) {
  const meter = recordingMeter();
  const any = "127.0.0.1:0";
  const server = await startExtProcServer(
    extProcConfigSchema.parse({ listen: any, healthListen: any, tls: files }),
    { picker, clock, random: seededRandom(1), log: silentLog, meter },
  );
  cleanups.push(() => server.stop());
  return { address: server.address, meter };
}

/** What the ext_proc service answers, or the status with which it does not. */
function ask(address: string, credentials: grpc.ChannelCredentials): Promise<string> {
  const { Process } = loadExtProcPackage().definition;
  const client = new grpc.Client(address, credentials);
  const stream = client.makeBidiStreamRequest(
    `/${EXT_PROC_SERVICE}/Process`,
    Process.requestSerialize,
    Process.responseDeserialize,
  );
  return new Promise<string>((resolve) => {
    stream.on("error", () => {});
    stream.on("status", ({ code }) => resolve(grpc.status[code] ?? ""));
    stream.on("data", ({ response }) => resolve(response ?? ""));
    stream.end({ request_headers: { headers: { headers: [] }, end_of_stream: true } });
  }).finally(() => client.close());
}

function credentialsOf(caFile: string, own?: { certFile: string; keyFile: string }) {
  const read = (file: string | undefined): Buffer | null =>
    file === undefined ? null : readFileSync(file);
  return grpc.credentials.createSsl(readFileSync(caFile), read(own?.keyFile), read(own?.certFile));
}

describe.skipIf(isOpensslMissing)(
  `ext_proc over TLS${isOpensslMissing ? " (skipped: openssl is missing)" : ""}`,
  () => {
    it("answers a client that trusts its certificate, and none in plain text", async () => {
      const authority = certificateAuthority(newFolder(), "authority");
      const { address } = await start(authority.issue("router"));
      expect(await ask(address, credentialsOf(authority.caFile))).toBe("request_headers");
      expect(await ask(address, grpc.credentials.createInsecure())).toBe("UNAVAILABLE");
    });

    it("turns away clients without a certificate of its authority", async () => {
      const authority = certificateAuthority(newFolder(), "authority");
      const other = certificateAuthority(newFolder(), "other");
      const { address } = await start({
        ...authority.issue("router"),
        clientCaFile: authority.caFile,
      });
      const { caFile } = authority;
      const known = credentialsOf(caFile, authority.issue("gateway"));
      expect(await ask(address, known)).toBe("request_headers");
      expect(await ask(address, credentialsOf(caFile))).toBe("UNAVAILABLE");
      expect(await ask(address, credentialsOf(caFile, other.issue("stranger")))).toBe(
        "UNAVAILABLE",
      );
    });

    it("serves a renewed certificate, and keeps the former one while the files do not fit", async () => {
      const authority = certificateAuthority(newFolder(), "authority");
      const { certFile, keyFile } = authority.issue("router");
      const renewed = authority.issue("renewed");
      const { address, meter } = await start({ certFile, keyFile });
      const reloads = (outcome: string): number =>
        meter.total("kvatlas_extproc_tls_reloads_total", { outcome });
      expect(await servedName(address)).toBe("router");

      writeFileSync(certFile, "no certificate");
      await waitUntil("the refusal", () => reloads("refused") === 1);
      expect(await servedName(address)).toBe("router");

      renameSync(renewed.keyFile, keyFile);
      renameSync(renewed.certFile, certFile);
      await waitUntil("the renewed certificate", () => reloads("taken") === 1);
      expect(await servedName(address)).toBe("renewed");
      expect(await ask(address, credentialsOf(authority.caFile))).toBe("request_headers");
    });

    it("refuses to start where key and certificate do not belong together", async () => {
      const authority = certificateAuthority(newFolder(), "authority");
      const { certFile } = authority.issue("router");
      const { keyFile } = authority.issue("other");
      await expect(start({ certFile, keyFile })).rejects.toMatchObject({
        code: "ERR_CONFIG_INVALID",
        message: expect.stringContaining("extProc.tls"),
      });
    });
  },
);
