/** Certificates for tests, made by openssl. */
import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import tls from "node:tls";

export const isOpensslMissing = spawnSync("openssl", ["version"]).status !== 0;

export interface Authority {
  readonly caFile: string;
  readonly issue: (subject: string) => { certFile: string; keyFile: string };
}

/** An authority in `folder`; `issue` writes NAME.crt and NAME.key, of a server at 127.0.0.1. */
export function certificateAuthority(folder: string, name: string): Authority {
  const caFile = join(folder, `${name}.crt`);
  const caKeyFile = join(folder, `${name}.key`);
  openssl([
    ...NEW_KEY,
    "-x509",
    "-days",
    "2",
    "-subj",
    `/CN=${name}`,
    "-keyout",
    caKeyFile,
    "-out",
    caFile,
  ]);
  return {
    caFile,
    issue: (subject: string): { certFile: string; keyFile: string } => {
      const [certFile, keyFile] = [join(folder, `${subject}.crt`), join(folder, `${subject}.key`)];
      const requestFile = join(folder, `${subject}.csr`);
      const extensionsFile = join(folder, `${subject}.ext`);
      writeFileSync(extensionsFile, "subjectAltName=IP:127.0.0.1\n");
      openssl([...NEW_KEY, "-subj", `/CN=${subject}`, "-keyout", keyFile, "-out", requestFile]);
      const signed = ["-CA", caFile, "-CAkey", caKeyFile, "-CAcreateserial", "-days", "2"];
      openssl([
        ...["x509", "-req", "-in", requestFile, "-out", certFile],
        ...[...signed, "-extfile", extensionsFile],
      ]);
      return { certFile, keyFile };
    },
  };
}

/** Name in the certificate that a connection is shown. */
export function servedName(address: string): Promise<string> {
  const [host = "", port] = address.split(":");
  return new Promise((resolve, reject) => {
    const options = { host, port: Number(port), ALPNProtocols: ["h2"], rejectUnauthorized: false };
    const socket = tls.connect(options, () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

const NEW_KEY = ["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

function openssl(args: readonly string[]): void {
  execFileSync("openssl", args, { stdio: "pipe" });
}
