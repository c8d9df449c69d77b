/** Engines -> relay process -> NATS -> routers: restarts, lost logs, and replicas that start later. */
import { connect } from "@nats-io/transport-node";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Holder } from "../../src/core/ids.ts";
import { eventSubject } from "../../src/events/nats-stream.ts";
import type { HolderCursor, Residency } from "../../src/indexer/residency.ts";
import { requireBinary } from "../harness/binaries.ts";
import { type FleetRouter, holderOf, RelayedFleet, SPACE } from "../harness/relayed-fleet.ts";
import { waitUntil } from "../harness/wait-until.ts";

const nats = await requireBinary("nats-server");
const WAIT_MS = 30_000;
const CATCHING_UP = { state: "DEGRADED", reason: "catching-up" } as const;
let fleet: RelayedFleet;

beforeEach(async () => {
  fleet = await RelayedFleet.start(nats.path);
});
afterEach(() => fleet.stop());

/** Contents may be equal before the last message of the log is read, which tells nothing of them. */
const caughtUp = ({ path }: FleetRouter): Promise<void> =>
  waitUntil("caught up", () => path.detail().includes("caught up"), WAIT_MS);

const snapshots = ({ meter }: FleetRouter, operation: string, outcome: string): number =>
  meter.total("kvatlas_snapshots_total", { operation, outcome });

async function snapshotWritten(router: FleetRouter): Promise<void> {
  const before = snapshots(router, "write", "written");
  const isWritten = (): boolean => snapshots(router, "write", "written") > before;
  await waitUntil("a snapshot is written", isWritten, WAIT_MS);
}

/** What a router knows, with something else said of each engine. */
function withCursors(
  { residency }: FleetRouter,
  otherwise: (cursor: HolderCursor) => Partial<HolderCursor>,
): Residency {
  for (const holder of residency.holders()) {
    const cursor = residency.cursorOf(holder);
    if (cursor === null) throw new Error("nothing is known");
    residency.setCursor(holder, { ...cursor, ...otherwise(cursor) });
  }
  return residency;
}

describe.skipIf(nats.isMissing)(`relay and routers${nats.note}`, { timeout: 60_000 }, () => {
  it("a relay that was killed goes on: routers stay EXACT and equal", async () => {
    const [first, second] = [await fleet.startRouter(), await fleet.startRouter()];
    await fleet.complete(1, 20);
    await fleet.equalsTruth(first);
    const epochs = fleet.engines.map((each) => first.residency.cursorOf(holderOf(each))?.epoch);
    await fleet.relay.killHard();
    await fleet.complete(21, 40);
    await fleet.relay.restart();
    await fleet.complete(41, 60);
    await Promise.all([fleet.equalsTruth(first), fleet.equalsTruth(second)]);
    fleet.expectExact(first);
    await fleet.sameContents(second, first);
    expect(fleet.engines.map((each) => first.residency.cursorOf(holderOf(each))?.epoch)).toEqual(
      epochs,
    );
  });

  it("relay killed and log empty: the engines' replay makes all known again", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 20);
    await fleet.equalsTruth(router);
    await fleet.relay.killHard();
    await fleet.server.kill();
    await fleet.server.startEmpty();
    await fleet.complete(21, 40);
    await fleet.relay.restart();
    await fleet.isExact(router);
  });

  it.each(["gap", "late-subscription"])(
    "a %s that only the log has is told again",
    async (what) => {
      const router = await fleet.startRouter();
      await fleet.complete(1, 10);
      await fleet.equalsTruth(router);
      await fleet.complete(11, 20);
      await fleet.equalsTruth(router);
      const epochs = fleet.engines.map(
        (each) => router.residency.cursorOf(holderOf(each))?.epoch ?? 0,
      );
      await router.path.stop();
      const manager = await fleet.server.manager();
      // Nobody knows any more what these said: no router, no snapshot, and the relay has passed it on.
      await manager.streams.purge("KVATLAS_SNAPSHOTS");
      // A busy relay puts more into a message: the log may have fewer than five.
      const { last_seq } = (await manager.streams.info("KVATLAS")).state;
      if (what === "gap") await manager.streams.deleteMessage("KVATLAS", Math.min(5, last_seq));
      else await manager.streams.purge("KVATLAS", { seq: 9 });
      const later = await fleet.startRouter();
      await fleet.complete(21, 24);
      await fleet.equalsTruth(later);
      fleet.expectExact(later);
      const isTold = fleet.engines.map((engine, at) => {
        const epoch = later.residency.cursorOf(holderOf(engine))?.epoch ?? 0;
        return epoch > (epochs[at] ?? 0);
      });
      expect(isTold).toContain(true);
      expect(later.meter.total("kvatlas_events_gaps_total") > 0).toBe(what === "gap");
    },
  );

  it("a holder whose last word the log has lost is asked for, though its engine is silent", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 10);
    await fleet.isExact(router);
    await router.path.stop();
    const residency = withCursors(router, () => CATCHING_UP);
    await fleet.isExact(await fleet.startRouter({ residency }));
  });

  it("a relay whose clock was set back is heard again: it begins behind what routers know", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 10);
    await fleet.isExact(router);
    await router.path.stop();
    const residency = withCursors(router, ({ epoch }) => ({ epoch: 2 * epoch }));
    const later = await fleet.startRouter({ residency });
    await fleet.complete(11, 20);
    await fleet.isExact(later);
    await fleet.complete(21, 24);
    await fleet.isExact(later);
    expect(
      later.meter.total("kvatlas_events_refused_total", { reason: "fenced-epoch" }),
    ).toBeGreaterThan(0);
  });

  it("a router whose predictions fail has the relay learn the engine anew", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 20);
    await fleet.equalsTruth(router);
    const [engine] = fleet.engines;
    if (engine === undefined) throw new Error("no engine");
    const epoch = (): number => router.residency.cursorOf(holderOf(engine))?.epoch ?? 0;
    const before = epoch();
    expect(router.path.ingest.resync(holderOf(engine))).toBe(true);
    // The other router asks for the same: by then it is out of date.
    expect(router.path.ingest.resync(holderOf(engine))).toBe(true);
    await waitUntil("another epoch", () => epoch() > before, WAIT_MS);
    await fleet.isExact(router);
    expect(epoch()).toBe(before + 1);
  });

  it("a replica that starts later has a snapshot and the tail, and says how long it took", async () => {
    const first = await fleet.startRouter();
    await fleet.complete(1, 30);
    await fleet.equalsTruth(first);
    await snapshotWritten(first);
    const manager = await fleet.server.manager();
    const { state } = await manager.streams.info("KVATLAS");
    // Retention has reached everything that the snapshot covers.
    await manager.streams.purge("KVATLAS", { seq: state.last_seq + 1 });
    await fleet.complete(31, 34);
    const later = await fleet.startRouter();
    await fleet.equalsTruth(later);
    await caughtUp(later);
    fleet.expectExact(later);
    await fleet.sameContents(later, first);
    expect(later.path.detail()).toMatch(
      /^NATS connected; caught up from a snapshot of \d+ rows and the log in \d+\.\d{3} s$/,
    );
    expect(snapshots(later, "load", "restored")).toBe(1);
  });

  it("a router that was away longer than the log retains recovers by snapshot", async () => {
    const [first, away] = [await fleet.startRouter(), await fleet.startRouter()];
    await fleet.complete(1, 20);
    await fleet.equalsTruth(away);
    await away.path.stop();
    await fleet.complete(21, 60);
    await fleet.equalsTruth(first);
    await snapshotWritten(first);
    const manager = await fleet.server.manager();
    const { state } = await manager.streams.info("KVATLAS");
    await manager.streams.purge("KVATLAS", { seq: state.last_seq });
    const back = await fleet.startRouter({ residency: away.residency });
    await fleet.equalsTruth(back);
    await caughtUp(back);
    // The snapshot may have been begun before the last message; then the engines are asked.
    await fleet.isExact(back);
    await fleet.sameContents(back, first);
  });

  it("a router that has read the log before it knows its endpoints keeps what it restored", async () => {
    const first = await fleet.startRouter();
    await fleet.complete(1, 20);
    await fleet.isExact(first);
    await first.path.stop();
    const back = await fleet.startRouter({ residency: first.residency, isFleetKnown: false });
    await caughtUp(back);
    fleet.learnFleet(back);
    await fleet.isExact(back);
  });

  it("a relay that lost the log's beginning takes its handles from the snapshot", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 20);
    await fleet.equalsTruth(router);
    await snapshotWritten(router);
    await fleet.relay.killHard();
    const manager = await fleet.server.manager();
    await manager.streams.purge("KVATLAS");
    await fleet.relay.restart();
    // Goes on under blocks that only the snapshot tells of.
    await fleet.complete(19, 20);
    await fleet.complete(41, 44);
    await fleet.equalsTruth(router);
    fleet.expectExact(router);
  });

  it("reads nothing of another key seed, and refuses a snapshot with parts missing", async () => {
    const first = await fleet.startRouter();
    await fleet.complete(1, 10);
    await fleet.equalsTruth(first);
    await snapshotWritten(first);
    const other = await fleet.startRouter({ config: { index: { keySeed: 7 } } });
    await waitUntil(
      "it has read its log",
      () => other.path.detail().includes("caught up"),
      WAIT_MS,
    );
    expect(other.residency.holders()).toEqual([]);
    await other.path.stop();
    await fleet.relay.stop();
    await first.path.stop();
    const manager = await fleet.server.manager();
    const last = { last_by_subj: `kvatlas.snapshot.${SPACE}.head` };
    const head = await manager.streams.getMessage("KVATLAS_SNAPSHOTS", last);
    const filter = `kvatlas.snapshot.${SPACE}.${head?.json<{ id: string }>().id}.*`;
    await manager.streams.purge("KVATLAS_SNAPSHOTS", { filter, keep: 1 });
    const later = await fleet.startRouter();
    await waitUntil("incomplete", () => snapshots(later, "load", "incomplete") === 1, WAIT_MS);
    // The log has all of it.
    await fleet.equalsTruth(later);
  });

  it("a message that is damaged in the log is asked for, though its engine is silent", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 10);
    await fleet.isExact(router);
    const [engine, other] = fleet.engines.map(holderOf);
    if (engine === undefined || other === undefined) throw new Error("no engines");
    const client = (await fleet.server.manager()).jetstream();
    await client.publish(eventSubject("default:lab-8b:0", engine.endpointId), new Uint8Array(9));
    const cursorOf = (holder: Holder) => router.residency.cursorOf(holder);
    const isDoubted = (): boolean => cursorOf(engine)?.reason === "log-truncated";
    await waitUntil("nobody knows what it said", isDoubted, WAIT_MS);
    expect(cursorOf(other)?.state).toBe("EXACT");
    await fleet.isExact(router);
  });

  it("an endpoint that has left stays gone, though its relay still publishes", async () => {
    const [router, other] = [await fleet.startRouter(), await fleet.startRouter()];
    await fleet.complete(1, 10);
    await fleet.isExact(router);
    const [stays, leaves] = fleet.engines.map(holderOf);
    if (stays === undefined || leaves === undefined) throw new Error("no engines");
    const source = { holder: stays, model: "lab-8b", address: "", topic: "", replayAddress: null };
    router.path.ingest.reconcile([source]);
    await fleet.complete(11, 20);
    await fleet.isExact(other);
    const seq = (): number => router.residency.logCursor?.seq ?? 0;
    await waitUntil("all is read", () => seq() === other.residency.logCursor?.seq, WAIT_MS);
    expect(router.residency.holders()).toEqual([stays]);
    expect(router.residency.cursorOf(stays)?.state).toBe("EXACT");
    // Listed again, it is asked for.
    fleet.learnFleet(router);
    await fleet.complete(21, 24);
    await fleet.isExact(router);
  });

  it("garbage and repeats in the streams change nothing", async () => {
    const router = await fleet.startRouter();
    await fleet.complete(1, 10);
    await fleet.equalsTruth(router);
    const manager = await fleet.server.manager();
    const client = manager.jetstream();
    const subject = `kvatlas.kv.${SPACE}.${fleet.engines[0]?.address.replaceAll(".", "%2E").replace(":", "%3A")}`;
    const first = await manager.streams.getMessage("KVATLAS", { seq: 1 });
    await client.publish(subject, new Uint8Array([0x93, 1, 2]));
    await client.publish(first?.subject ?? "", first?.data ?? new Uint8Array());
    await client.publish(`kvatlas.snapshot.${SPACE}.head`, "{}");
    const connection = await connect({ servers: [fleet.server.address] });
    const ask = { how: "heal", endpoint: fleet.engines[0]?.address, rank: 0, epoch: 1 };
    const others = [{ rank: 9 }, { epoch: 0 }, { epoch: 77 }, { endpoint: "10.0.0.1:1" }];
    for (const other of others) {
      connection.publish(`kvatlas.ask.${SPACE}`, JSON.stringify({ ...ask, ...other }));
    }
    connection.publish(`kvatlas.ask.${SPACE}`, "{");
    await connection.drain();
    await fleet.complete(11, 20);
    const later = await fleet.startRouter();
    await Promise.all([fleet.equalsTruth(router), fleet.equalsTruth(later)]);
    fleet.expectExact(router);
    await fleet.sameContents(later, router);
    const reason = "malformed-log-message";
    expect(router.meter.total("kvatlas_events_refused_total", { reason })).toBe(1);
    const metrics = await (await fetch(`http://${fleet.relay.adminAddress}/metrics`)).text();
    // An ask that is none, and one about no life; those about others are nobody's.
    const counted = new RegExp(`^kvatlas_events_refused_total.*${reason}.* (\\d+)$`, "m").exec(
      metrics,
    );
    expect(counted?.[1]).toBe("2");
  });
});
