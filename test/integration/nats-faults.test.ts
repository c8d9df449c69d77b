/**
 * The event log under a real nats-server's faults: whatever happens to server, stream or network, routers
 * end with what the engines' own caches hold, and say EXACT.
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { sleep } from "../../src/core/clock.ts";
import { nodeClock } from "../../src/core/node-clock.ts";
import { LOG_MESSAGE_BYTES_MAX } from "../../src/events/keyed-batch-codec.ts";
import { eventSubject } from "../../src/events/nats-stream.ts";
import { requireBinary } from "../harness/binaries.ts";
import { freePort } from "../harness/free-port.ts";
import { holderOf, RelayedFleet } from "../harness/relayed-fleet.ts";
import { waitUntil } from "../harness/wait-until.ts";

const nats = await requireBinary("nats-server");
const WAIT_MS = 30_000;
/**
 * Longer than an acknowledgement is waited for (2 s) and than two of the consumer's heartbeats: what
 * a longer partition adds is more events.
 */
const PARTITION_MS = 6000;
const NEVER = new AbortController().signal;
let fleet: RelayedFleet;

beforeEach(async () => {
  fleet = await RelayedFleet.start(nats.path);
});
afterEach(() => fleet.stop());

/** Of the relay's own metrics. */
async function pendingBatches(): Promise<number> {
  const answer = await fetch(`http://${fleet.relay.adminAddress}/metrics`);
  return Number(/^kvatlas_nats_pending_batches (\d+)/m.exec(await answer.text())?.[1] ?? 0);
}

const nothingPending = (): Promise<void> =>
  waitUntil("the relay has published all", async () => (await pendingBatches()) === 0, WAIT_MS);

describe.skipIf(nats.isMissing)(`faults of NATS${nats.note}`, { timeout: 120_000 }, () => {
  it("the server is killed again and again while engines go on", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 20);
    await fleet.isExact(router);
    for (let round = 1; round <= 3; round += 1) {
      await fleet.complete(round * 100, round * 100 + 10);
      await fleet.server.kill();
      await fleet.complete(round * 100 + 11, round * 100 + 20);
      await fleet.server.start();
      await fleet.complete(round * 100 + 21, round * 100 + 30);
      await fleet.isExact(router);
    }
    await nothingPending();
  });

  it("the server is killed and comes back empty", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 20);
    await fleet.equalsTruth(router);
    await fleet.server.kill();
    await fleet.complete(21, 30);
    await fleet.server.startEmpty();
    await fleet.complete(31, 40);
    await fleet.isExact(router);
    const later = await fleet.startRouter();
    await fleet.isExact(later);
    expect(fleet.contentsOf(later)).toEqual(fleet.contentsOf(router));
  });

  it.each(["stall", "cut"] as const)("the relay's network has a partition: %s", async (how) => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 10);
    await fleet.equalsTruth(router);
    fleet.relayWay[how]();
    await fleet.complete(11, 60);
    await sleep(nodeClock, PARTITION_MS, NEVER);
    expect(await pendingBatches()).toBeGreaterThan(0);
    fleet.relayWay.heal();
    await fleet.complete(61, 64);
    await fleet.isExact(router);
    expect(router.meter.total("kvatlas_events_gaps_total")).toBe(0);
    await nothingPending();
  });

  it.each(["stall", "cut"] as const)("a router's network has a partition: %s", async (how) => {
    const way = await fleet.newWay();
    const [router, other] = [
      await fleet.startRouter({ address: way.address }),
      await fleet.startRouter(),
    ];
    await fleet.complete(1, 10);
    await fleet.equalsTruth(router);
    way[how]();
    await fleet.complete(11, 60);
    await fleet.isExact(other);
    await sleep(nodeClock, PARTITION_MS, NEVER);
    way.heal();
    await fleet.complete(61, 64);
    await Promise.all([fleet.isExact(router), fleet.isExact(other)]);
    expect(fleet.contentsOf(router)).toEqual(fleet.contentsOf(other));
  });

  it("the stream is deleted, and made again by whoever is first", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 20);
    await fleet.equalsTruth(router);
    await (await fleet.server.manager()).streams.delete("KVATLAS");
    await fleet.complete(21, 40);
    await fleet.isExact(router);
  });

  it("an operator makes the stream anew at once, and what is said meanwhile goes into it", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 20);
    await fleet.equalsTruth(router);
    const manager = await fleet.server.manager();
    const { config } = await manager.streams.info("KVATLAS");
    const saying = fleet.complete(21, 60);
    await manager.streams.delete("KVATLAS");
    await manager.streams.add(config);
    await saying;
    await fleet.isExact(router);
  });

  it("a slow consumer is cut off by the server, and catches up", async () => {
    const monitorPort = await freePort();
    await fleet.server.kill();
    await fleet.server.startWith(`http: 127.0.0.1:${monitorPort}\nwrite_deadline: "500ms"`);
    const way = await fleet.newWay();
    const router = await fleet.startRouter({ address: way.address });
    await fleet.complete(1, 10);
    await fleet.isExact(router);
    const before = way.connections;
    way.stall();
    // More than sockets take on its way: messages that are not ours, of the largest size.
    const client = (await fleet.server.manager()).jetstream();
    const [engine] = fleet.engines;
    if (engine === undefined) throw new Error("no engine");
    const subject = eventSubject("default:lab-8b:0", holderOf(engine).endpointId);
    for (let sent = 0; sent < 40; sent += 1) {
      await client.publish(subject, new Uint8Array(LOG_MESSAGE_BYTES_MAX));
    }
    await fleet.complete(11, 40);
    const slow = async (): Promise<number> => {
      const answer = await fetch(`http://127.0.0.1:${monitorPort}/varz`);
      return ((await answer.json()) as { slow_consumers: number }).slow_consumers;
    };
    await waitUntil("the server cut it off", async () => (await slow()) > 0, WAIT_MS);
    way.heal();
    await fleet.isExact(router);
    expect(way.connections).toBeGreaterThan(before);
    const reason = "malformed-log-message";
    expect(router.meter.total("kvatlas_events_refused_total", { reason })).toBe(40);
  });
});
