/** The log of a thread of the router: lines go to the one log of the process. */
import type { MessagePort } from "node:worker_threads";
import type { Log, LogFields } from "../core/log.ts";
import type { LogLine } from "./thread-life.ts";

/** Below its level nothing crosses. */
export function threadLog(port: MessagePort, level: LogLine["level"]): Log {
  const levels = ["debug", "info", "warn", "error"] as const;
  const say =
    (at: LogLine["level"]) =>
    (fields: LogFields, message: string): void => {
      if (levels.indexOf(at) < levels.indexOf(level)) return;
      port.postMessage({ kind: "log", level: at, fields, message } satisfies LogLine);
    };
  return { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") };
}
