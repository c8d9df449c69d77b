import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, expect, it } from "vitest";
import { requireBinary } from "../../test/harness/binaries.ts";
import { nodeClock } from "../core/node-clock.ts";
import { startNats } from "./process-nats.ts";

const nats = await requireBinary("nats-server");

describe.skipIf(nats.isMissing)(`startNats${nats.note}`, () => {
  it("keeps streams over a kill and a restart on the same port and folder", async () => {
    const storeFolder = mkdtempSync(join(tmpdir(), "kvatlas-nats-"));
    const options = { binary: nats.path, storeFolder, clock: nodeClock };
    const first = await startNats(options);
    const firstClient = await connect({ servers: first.address });
    const manager = await jetstreamManager(firstClient);
    await manager.streams.add({ name: "S", subjects: ["s"] });
    await jetstream(firstClient).publish("s", "hello");
    await firstClient.close();
    await first.kill();

    const second = await startNats({ ...options, port: first.port });
    expect(second.address).toBe(first.address);
    const client = await connect({ servers: second.address });
    const info = await (await jetstreamManager(client)).streams.info("S");
    expect(info.state.messages).toBe(1);
    await client.close();
    await second.stop();
    rmSync(storeFolder, { recursive: true, force: true });
  });
});
