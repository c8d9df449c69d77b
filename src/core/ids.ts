/** Branded ids: a bare string or bigint never crosses a module border. */
import { assert } from "./assert.ts";

declare const brand: unique symbol;
type Brand<Base, Name extends string> = Base & { readonly [brand]: Name };

/** Serving address "ip:port" (IPv6 in brackets), the identity that gateways use. */
export type EndpointId = Brand<string, "EndpointId">;
/** Our own chained hash of a block, unsigned 64 bits: the only key compared across endpoints. */
export type BlockKey = Brand<bigint, "BlockKey">;
/** The engine's own hash of a block, low 64 bits: a handle, meaningful at one holder only. */
export type EngineKey = Brand<bigint, "EngineKey">;

/** Longest accepted address: a bracketed IPv6 with zone and port, or a DNS name with port. */
const ADDRESS_CHARS_MAX = 262;

/** Whether `text` has the form host:port with a port from 1 to 65535, without zeros before it. */
export function isEndpointAddress(text: string): boolean {
  const match = /^(\[[0-9a-fA-F:.%\w]+\]|[A-Za-z0-9._-]+):([1-9]\d{0,4})$/.exec(text);
  if (match === null || text.length > ADDRESS_CHARS_MAX) return false;
  return Number(match[2]) <= 65_535;
}

/** As an endpoint's address, and with port 0, which takes a free one. */
export function isListenAddress(text: string): boolean {
  return isEndpointAddress(text.replace(/:0$/, ":1"));
}

export function endpointId(address: string): EndpointId {
  assert(isEndpointAddress(address), "endpoint address must be host:port", { address });
  return address as EndpointId;
}

export function blockKey(value: bigint): BlockKey {
  return BigInt.asUintN(64, value) as BlockKey;
}

/** Signed hashes become their two's complement. */
export function engineKey(value: bigint): EngineKey {
  return BigInt.asUintN(64, value) as EngineKey;
}

/** One KV cache: a data-parallel rank of an endpoint. Rank 0 where the engine has no ranks. */
export interface Holder {
  readonly endpointId: EndpointId;
  readonly rank: number;
}

/** Highest data-parallel rank accepted from the wire. */
export const RANK_MAX = 1023;

/** "ip:port#rank": a map key and label for a holder. */
export function holderName(holder: Holder): string {
  return `${holder.endpointId}#${holder.rank}`;
}
