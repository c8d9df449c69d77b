/** The ext_proc service: served by the thread that decides, or by threads of its own. */
import type { Config } from "../config/schema.ts";
import {
  type ExtProcServer,
  startExtProcServer,
  startExtProcService,
} from "../extproc/grpc-ext-proc.ts";
import type { Picker } from "../extproc/picker.ts";
import type { ReadyCheck } from "../observe/http-admin.ts";
import { EdgeThreads, type EdgeThreadsDeps } from "./edge-threads.ts";

export interface EdgeDeps extends Omit<EdgeThreadsDeps, "onLost"> {
  /** For serving in this thread. */
  readonly picker: Picker;
}

export interface Edge {
  readonly server: ExtProcServer;
  /** Resolves when what its threads counted is in the meter. */
  report(): Promise<void>;
  readyCheck(): ReadyCheck;
}

/** Throws KvError where an address or the tokenizer cannot be had. */
export async function startEdge(config: Config, deps: EdgeDeps): Promise<Edge> {
  const { workers } = config.extProc;
  const name = "edge";
  if (workers === 0) {
    return {
      server: await startExtProcServer(config.extProc, deps),
      report: (): Promise<void> => Promise.resolve(),
      readyCheck: () => ({ name, isOk: true, detail: "served by the thread that decides" }),
    };
  }
  let threads: EdgeThreads | null = null;
  const onLost = (): void => server.health.setReady(false);
  const server: ExtProcServer = await startExtProcService(config.extProc, {
    ...deps,
    listen: async (tls) => {
      threads = await EdgeThreads.start(config, tls, { ...deps, onLost });
      return threads;
    },
  });
  const serving = (): number => threads?.serving ?? 0;
  return {
    server,
    report: async (): Promise<void> => threads?.report(),
    readyCheck: () => ({
      name,
      isOk: serving() > 0,
      detail: `${serving()} of ${workers} threads serve`,
    }),
  };
}
