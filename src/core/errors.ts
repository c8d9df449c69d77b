/**
 * Operating errors: a code from a closed set, what happened with value and limit, and the cause.
 *
 * docs/errors.md lists every code; a test holds the page against this file.
 */

export const ERROR_CODES = {
  ERR_CONFIG_INVALID: "A configuration file has a key or value that is not accepted.",
  ERR_CONFIG_UNREADABLE: "A configuration file cannot be read or is not YAML.",
  ERR_BINARY_MISSING: "A program that the command needs is neither configured nor on the PATH.",
  ERR_PORT_IN_USE: "A listening address is taken by another process.",
  ERR_PROCESS_FAILED: "A child process ended before it was ready.",
  ERR_TRACE_INVALID: "A trace file has a line that is not of the Mooncake form.",
  ERR_CAPTURE_INVALID:
    "A capture of KV events cannot be read or written, or has a line that is no message.",
  ERR_QUERY_INVALID:
    "The prompt of a query cannot be read, has what is no token or key, or was refused.",
  ERR_TOKENIZER_UNREADABLE: "A model's tokenizer files cannot be read, or not be understood.",
  ERR_PROMPT_INVALID: "A request body, or how it is to be read, is not accepted.",
  ERR_DECISION_UNKNOWN: "The router keeps no decision of the request.",
  ERR_ADMIN_UNREACHABLE: "No router answers at the admin address.",
  ERR_SIMULATE_INPUT:
    "A line of the simulate protocol is not JSON, or an init that cannot be used.",
  ERR_TIMEOUT: "Something outside did not become ready within its time limit.",
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export class KvError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options: { readonly cause?: unknown } = {}) {
    super(message, options);
    this.name = "KvError";
    this.code = code;
  }
}

/** The message of anything that can be thrown. */
export function messageOf(reason: unknown): string {
  return reason instanceof Error ? reason.message : String(reason);
}
