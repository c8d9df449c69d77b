/** What the edge itself refuses, before or without a decision. */
import type { Refusal } from "./picker.ts";

export const SUBSET_EMPTY: Refusal = {
  kind: "refuse",
  status: 503,
  reason: "subset-empty",
  message: "the gateway's subset hint allows no endpoint",
};

export const BODY_BUDGET_SPENT: Refusal = {
  kind: "refuse",
  status: 503,
  reason: "body-budget",
  message: "too many request bodies wait for a decision",
};

export const HEADERS_MISSING: Refusal = {
  kind: "refuse",
  status: 400,
  reason: "protocol-order",
  message: "the gateway sent a request body or trailers before the request headers",
};

export function bodyTooLarge(bytes: number, bytesMax: number): Refusal {
  const message = `request body has ${bytes} bytes or more, limit ${bytesMax}`;
  return { kind: "refuse", status: 413, reason: "body-too-large", message };
}
