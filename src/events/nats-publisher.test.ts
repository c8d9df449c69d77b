import { describe, expect, it } from "vitest";
import { endpointId, type Holder } from "../core/ids.ts";
import { silentLog } from "../core/log.ts";
import { silentMeter } from "../core/meter.ts";
import { nodeClock } from "../core/node-clock.ts";
import type { KeyedBatch } from "./keyed-batch.ts";
import { decodeKeyedBatches } from "./keyed-batch-codec.ts";
import {
  IN_FLIGHT_MAX,
  type LogClient,
  NatsPublisher,
  PENDING_BYTES_MAX,
} from "./nats-publisher.ts";

const podA: Holder = { endpointId: endpointId("10.0.0.1:8000"), rank: 0 };
const podB: Holder = { endpointId: endpointId("10.0.0.2:8000"), rank: 0 };

const batchOf = (seq: number, holder = podA): KeyedBatch => ({
  ...{ holder, model: "m", epoch: 1, seq, engineMs: 0, events: [] },
});

interface Published {
  readonly subject: string;
  readonly msgID: string;
  readonly seqs: readonly number[];
}

function newPublisher(): { publisher: NatsPublisher; published: Published[]; client: LogClient } {
  const published: Published[] = [];
  const client: LogClient = {
    publish: async (subject, data, { msgID }) => {
      const decoded = decodeKeyedBatches(data);
      const seqs = decoded.ok ? decoded.value.map(({ seq }) => seq) : [];
      published.push({ subject, msgID, seqs });
    },
  };
  const signal = new AbortController().signal;
  const ports = { clock: nodeClock, log: silentLog, meter: silentMeter };
  return { publisher: new NatsPublisher({ ...ports, pool: "p", signal }), published, client };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("publisher", () => {
  it("puts what came in one turn into one message, and each endpoint into its own", async () => {
    const { publisher, published, client } = newPublisher();
    publisher.use(client);
    for (const seq of [0, 1, 2]) publisher.accept(batchOf(seq));
    publisher.accept(batchOf(0, podB));
    await turn();
    expect(published.map(({ seqs }) => seqs)).toEqual([[0, 1, 2], [0]]);
    expect(new Set(published.map(({ subject }) => subject)).size).toBe(2);
    expect(new Set(published.map(({ msgID }) => msgID)).size).toBe(2);
  });

  it("publishes what waited for the connection, once there is one", async () => {
    const { publisher, published, client } = newPublisher();
    publisher.accept(batchOf(0));
    await turn();
    publisher.use(client);
    await turn();
    expect(published.map(({ seqs }) => seqs)).toEqual([[0]]);
  });

  it("has few messages in flight, one of an endpoint at most, and each endpoint its turn", async () => {
    const underWay: { readonly subject: string; readonly acknowledge: () => void }[] = [];
    const { publisher } = newPublisher();
    const log: string[] = [];
    publisher.use({
      publish: (subject) =>
        new Promise((resolve) => {
          log.push(subject);
          underWay.push({ subject, acknowledge: () => resolve(null) });
        }),
    });
    const pods = Array.from({ length: 3 * IN_FLIGHT_MAX }, (_, n) => ({
      ...{ endpointId: endpointId(`10.0.1.${n}:8000`), rank: 0 },
    }));
    for (const seq of [0, 1]) {
      for (const pod of pods) publisher.accept(batchOf(seq, pod));
      await turn();
    }
    while (underWay.length > 0) {
      expect(underWay.length).toBe(IN_FLIGHT_MAX);
      expect(new Set(underWay.map(({ subject }) => subject)).size).toBe(IN_FLIGHT_MAX);
      for (const { acknowledge } of underWay.splice(0)) acknowledge();
      await turn();
    }
    // What had not been sent when the second batches came took them along.
    expect(new Set(log.slice(0, pods.length)).size).toBe(pods.length);
    expect(log.length).toBe(pods.length + IN_FLIGHT_MAX);
  });

  it("refuses batches beyond a number of bytes, until the server has taken some", async () => {
    const { publisher, published, client } = newPublisher();
    const handles = new BigUint64Array(PENDING_BYTES_MAX / 16 / 4);
    const large = (seq: number): KeyedBatch => ({
      ...batchOf(seq),
      events: [{ type: "stored", tier: "gpu", handles, keys: handles, blockSizeTokens: 16 }],
    });
    expect([0, 1, 2, 3].map((seq) => publisher.accept(large(seq)))).toEqual([
      ...[true, true, true],
      false,
    ]);
    publisher.use(client);
    await turn();
    expect(published.flatMap(({ seqs }) => seqs)).toEqual([0, 1, 2]);
    expect(publisher.accept(large(4))).toBe(true);
  });

  it("leaves nothing behind, at whatever moment a batch comes", async () => {
    for (let moments = 0; moments < 30; moments += 1) {
      const { publisher, published, client } = newPublisher();
      publisher.use(client);
      publisher.accept(batchOf(0));
      for (let moment = 0; moment < moments; moment += 1) await Promise.resolve();
      publisher.accept(batchOf(1));
      await turn();
      expect(
        published.flatMap(({ seqs }) => seqs),
        `after ${moments} moments`,
      ).toEqual([0, 1]);
    }
  });
});
