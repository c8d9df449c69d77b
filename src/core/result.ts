/** The outcome of work on input that may be bad: a value, or a reason from a closed set. */

export type Result<Value, Reason extends string> =
  | { readonly ok: true; readonly value: Value }
  | {
      readonly ok: false;
      readonly reason: Reason;
      /** For people: field, value and limit. Never token ids or prompt text. */
      readonly detail: string;
    };

export function ok<Value>(value: Value): { readonly ok: true; readonly value: Value } {
  return { ok: true, value };
}

export function refused<Reason extends string>(
  reason: Reason,
  detail: string,
): { readonly ok: false; readonly reason: Reason; readonly detail: string } {
  return { ok: false, reason, detail };
}
