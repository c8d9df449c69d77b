/** Assertions for programmer errors; operating errors are values or KvError. On in production. */

/** Throws when a condition that the code itself guarantees does not hold. */
export function assert(
  condition: boolean,
  message: string,
  fields: Readonly<Record<string, unknown>> = {},
): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message} ${JSON.stringify(fields)}`);
}

/** Ends a `switch` over a closed union: the compiler refuses it while a member is unhandled. */
export function assertNever(value: never): never {
  throw new Error(`assertion failed: unhandled value ${JSON.stringify(value)}`);
}
