/**
 * What other routers have sent to the endpoints, as they told last.
 *
 * Each line replaces all that was known of its router. Its pending work drains with the time since;
 * the rest stays until the next line. A router that falls silent fades away, so that one that died or
 * is partitioned off does not hold load for ever. Text from the wire is never trusted: a line that is
 * not of the form changes nothing.
 */
import type { EndpointId } from "../core/ids.ts";
import { type EndpointLoad, kvTokens, remainingSeconds } from "./endpoint-load.ts";
import { PeerPrompts, parsePrompts, type ToldPrompt } from "./peer-prompts.ts";

/** Routers beside this one; lines of more are refused. */
const PEERS_MAX = 64;
/** Characters of one line: 4096 endpoints at 80 each, and 64 prompts at 1024. */
export const LINE_CHARS_MAX = 393_216;
const PEER_NAME_CHARS_MAX = 64;
/** Silence after which a router's load begins to fade, and after which it is gone, ms. */
const FADE_FROM_MS = 10_000;
const FADE_TO_MS = 20_000;

/** One other router's requests at one endpoint. */
export interface PeerLoad {
  readonly atMs: number;
  readonly pendingSeconds: number;
  readonly waiting: number;
  readonly decoding: number;
  readonly contextTokens: number;
  readonly kvTokens: number;
  readonly pairedTokens: number;
  readonly pairedRequests: number;
  /** Work of its requests that had their first token there, of all time, seconds. */
  readonly servedSeconds: number;
}

/** form: not a line of ours; full: PEERS_MAX routers are known. */
export type PeerRefusal = "form" | "full";

export class PeerLoads {
  /** What routers tell of the prompts that they sent. */
  readonly prompts: PeerPrompts = new PeerPrompts();
  /** By router, by endpoint. */
  readonly #peers = new Map<string, ReadonlyMap<EndpointId, PeerLoad>>();
  readonly #heardMs = new Map<string, number>();
  /** Arrays that stay the same: whoever has one sees what is told later. */
  readonly #byEndpoint = new Map<EndpointId, PeerLoad[]>();
  /** Work that was served while it was heard of, seconds: a router that begins anew takes none back. */
  readonly #servedSeconds = new Map<EndpointId, number>();

  /** Takes a line; null when it was taken. */
  receive(line: string, nowMs: number): PeerRefusal | null {
    const parsed = parseLine(line, nowMs);
    if (parsed === null) return "form";
    this.expire(nowMs);
    if (!this.#peers.has(parsed.peer) && this.#peers.size >= PEERS_MAX) return "full";
    this.#countServed(this.#peers.get(parsed.peer), parsed.loads);
    this.#peers.set(parsed.peer, parsed.loads);
    this.#heardMs.set(parsed.peer, nowMs);
    this.prompts.believe(parsed.prompts, nowMs);
    this.#gather();
    return null;
  }

  /** Forgets routers that are silent for longer than FADE_TO_MS. */
  expire(nowMs: number): void {
    const silent = [...this.#heardMs].filter(([, heardMs]) => nowMs - heardMs >= FADE_TO_MS);
    if (silent.length === 0) return;
    for (const [peer] of silent) {
      this.#peers.delete(peer);
      this.#heardMs.delete(peer);
    }
    this.#gather();
  }

  /** Routers that are heard. */
  get size(): number {
    return this.#peers.size;
  }

  /** A live array of what each router has there. */
  at(endpointId: EndpointId): readonly PeerLoad[] {
    let loads = this.#byEndpoint.get(endpointId);
    if (loads === undefined) {
      loads = [];
      this.#byEndpoint.set(endpointId, loads);
      this.#gather();
    }
    return loads;
  }

  /** Work that other routers' requests had done there, as they told; only grows. */
  servedSeconds(endpointId: EndpointId): number {
    return this.#servedSeconds.get(endpointId) ?? 0;
  }

  /** Keeps arrays of these endpoints only. */
  keep(endpointIds: ReadonlySet<EndpointId>): void {
    for (const endpointId of this.#byEndpoint.keys()) {
      if (!endpointIds.has(endpointId)) this.#byEndpoint.delete(endpointId);
    }
    for (const endpointId of this.#servedSeconds.keys()) {
      if (!endpointIds.has(endpointId)) this.#servedSeconds.delete(endpointId);
    }
  }

  #countServed(
    before: ReadonlyMap<EndpointId, PeerLoad> | undefined,
    now: ReadonlyMap<EndpointId, PeerLoad>,
  ): void {
    for (const [endpointId, { servedSeconds }] of now) {
      const known = before?.get(endpointId)?.servedSeconds ?? servedSeconds;
      const more = Math.max(0, servedSeconds - known);
      if (this.#byEndpoint.has(endpointId) && more > 0)
        this.#servedSeconds.set(endpointId, this.servedSeconds(endpointId) + more);
    }
  }

  #gather(): void {
    for (const [endpointId, loads] of this.#byEndpoint) {
      loads.length = 0;
      for (const told of this.#peers.values()) {
        const load = told.get(endpointId);
        if (load !== undefined) loads.push(load);
      }
    }
  }
}

/** 1 for a router that is heard, falling to 0 while it is silent. */
export function peerWeight({ atMs }: PeerLoad, nowMs: number): number {
  const share = (FADE_TO_MS - (nowMs - atMs)) / (FADE_TO_MS - FADE_FROM_MS);
  return Math.min(1, Math.max(0, share));
}

/** Waiting work at one endpoint, seconds of a nominal one. */
export interface Backlog {
  readonly ownSeconds: number;
  readonly peerSeconds: number;
}

/**
 * What is left of the waiting work of all routers. An endpoint serves one request after the other,
 * whoever sent it: each router's part shrinks by its share of what was served since it was known.
 */
export function backlogAt(load: EndpointLoad, peers: readonly PeerLoad[], nowMs: number): Backlog {
  if (peers.length === 0) return { ownSeconds: remainingSeconds(load, nowMs), peerSeconds: 0 };
  let known = load.waiting === 0 ? 0 : load.pendingSeconds;
  for (const peer of peers) known += peerWeight(peer, nowMs) * peer.pendingSeconds;
  const left = (pendingSeconds: number, sinceMs: number): number => {
    const served = (load.speed * Math.max(0, nowMs - sinceMs)) / 1000;
    return pendingSeconds > 0 ? pendingSeconds * Math.max(0, 1 - served / known) : 0;
  };
  let peerSeconds = 0;
  for (const peer of peers) {
    peerSeconds += peerWeight(peer, nowMs) * left(peer.pendingSeconds, peer.atMs);
  }
  const ownSeconds = load.waiting === 0 ? 0 : left(load.pendingSeconds, load.headSinceMs);
  return { ownSeconds, peerSeconds };
}

/** All of it together. */
export function secondsAhead(
  load: EndpointLoad,
  peers: readonly PeerLoad[],
  nowMs: number,
): number {
  if (peers.length === 0) return remainingSeconds(load, nowMs);
  const { ownSeconds, peerSeconds } = backlogAt(load, peers, nowMs);
  return ownSeconds + peerSeconds;
}

/** This router's own load as a line for the others: `peer;endpoint,...|endpoint,...;prompts`. */
export function shareLine(
  { peer, prompts = "" }: { readonly peer: string; readonly prompts?: string },
  loads: Iterable<readonly [EndpointId, EndpointLoad]>,
  nowMs: number,
): string {
  const records: string[] = [];
  for (const [endpointId, load] of loads) {
    if (load.requests === 0 && load.pairedRequests === 0) continue;
    const pending = Math.round(1000 * remainingSeconds(load, nowMs)) / 1000;
    const { waiting, decoding, contextTokens, pairedTokens, pairedRequests } = load;
    const served = Math.round(1000 * load.servedSeconds) / 1000;
    const tokens = [contextTokens, kvTokens(load), pairedTokens].map(Math.round);
    const [context, used, paired] = tokens;
    records.push(
      [endpointId, pending, waiting, decoding, context, used, paired, pairedRequests, served].join(
        ",",
      ),
    );
  }
  return `${peer};${records.join("|")};${prompts}`;
}

interface ParsedLine {
  readonly peer: string;
  readonly loads: ReadonlyMap<EndpointId, PeerLoad>;
  readonly prompts: readonly ToldPrompt[];
}

function parseLine(line: string, nowMs: number): ParsedLine | null {
  if (line.length > LINE_CHARS_MAX) return null;
  const parts = line.split(";", 4);
  const [peer = "", loadText = "", promptText = ""] = parts;
  if (parts.length !== 3 || peer === "" || peer.length > PEER_NAME_CHARS_MAX) return null;
  const prompts = parsePrompts(promptText);
  if (prompts === null) return null;
  const loads = new Map<EndpointId, PeerLoad>();
  for (const record of loadText.split("|")) {
    if (record === "") continue;
    const [id = "", ...texts] = record.split(",");
    const numbers = texts.map(Number);
    const isForm = texts.length === 8 && numbers.every((number) => number >= 0 && number < 1e12);
    if (!isForm) return null;
    const [pendingSeconds = 0, waiting = 0, decoding = 0, contextTokens = 0] = numbers;
    const [, , , , used = 0, pairedTokens = 0, pairedRequests = 0, servedSeconds = 0] = numbers;
    loads.set(id as EndpointId, {
      ...{ atMs: nowMs, pendingSeconds, waiting, decoding, contextTokens, kvTokens: used },
      ...{ pairedTokens, pairedRequests, servedSeconds },
    });
  }
  return { peer, loads, prompts };
}
