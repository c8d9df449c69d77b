/** JSON logs through pino: one event a line, level as a word, time in ISO 8601. */
import { type DestinationStream, destination, pino, stdTimeFunctions } from "pino";
import type { Log } from "../core/log.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

/**
 * No caller passes prompt text, token ids or credentials. Should one slip in at the first or
 * second level of the fields, it still does not reach the log.
 */
const SECRET_FIELDS = [
  "prompt",
  "messages",
  "text",
  "body",
  "tokenIds",
  "token_ids",
  "authorization",
] as const;

export interface PinoLogOptions {
  readonly level: LogLevel;
  /** Default stdout. */
  readonly to?: "stdout" | "stderr" | DestinationStream;
}

export function pinoLog({ level, to = "stdout" }: PinoLogOptions): Log {
  const options = {
    level,
    // Host name and process id are the log collector's to add.
    base: null,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string): object => ({ level: label }) },
    redact: {
      paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`]),
      censor: "[redacted]",
    },
  };
  // Synchronous: lines are few above debug, and none is lost when the process dies.
  if (to === "stdout" || to === "stderr") {
    return pino(options, destination({ fd: to === "stdout" ? 1 : 2, sync: true }));
  }
  return pino(options, to);
}
