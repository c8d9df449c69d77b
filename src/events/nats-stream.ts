/** The JetStream stream that is the fleet's event log, and its subjects. */
import {
  DiscardPolicy,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
} from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import { type EndpointId, endpointId, isEndpointAddress } from "../core/ids.ts";
import { subjectToken, tokenText } from "../core/subject-token.ts";
import type { EventsConfig } from "./config.ts";

const HOUR_MS = 3_600_000;
/** Window in which a repeated message id is dropped by the server, ms. */
const DUPLICATE_WINDOW_MS = 120_000;

/** Subject of one endpoint's events. Tokens are escaped, so that no two endpoints share one. */
export function eventSubject(pool: string, endpoint: EndpointId): string {
  return `kvatlas.kv.${subjectToken(pool)}.${subjectToken(endpoint)}`;
}

/** Whose events a subject is of; null: no endpoint's. */
export function endpointOf(subject: string): EndpointId | null {
  const name = tokenText(subject.slice(subject.lastIndexOf(".") + 1));
  return name !== null && isEndpointAddress(name) ? endpointId(name) : null;
}

/** Subjects of all endpoints of a pool. */
export function poolSubjects(pool: string): string {
  return `kvatlas.kv.${subjectToken(pool)}.*`;
}

/** Creates the stream, or adds this pool's subjects to one that exists. */
export async function ensureStream(
  manager: JetStreamManager,
  options: { readonly config: EventsConfig["nats"]; readonly pool: string },
): Promise<void> {
  const { config, pool } = options;
  const subject = poolSubjects(pool);
  const limits = {
    max_bytes: config.bytesMax,
    max_age: nanos(config.ageHoursMax * HOUR_MS),
  };
  const existing = await manager.streams.info(config.stream).catch(() => null);
  if (existing !== null) {
    const subjects = [...new Set([...existing.config.subjects, subject])];
    await manager.streams.update(config.stream, { ...limits, subjects });
    return;
  }
  await manager.streams.add({
    name: config.stream,
    subjects: [subject],
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    discard: DiscardPolicy.Old,
    duplicate_window: nanos(DUPLICATE_WINDOW_MS),
    ...limits,
  });
}
