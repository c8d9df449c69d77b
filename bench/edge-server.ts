/** An ext_proc server whose picker always takes the same endpoint: what is left is the transport. */
import { endpointId } from "../src/core/ids.ts";
import { silentLog } from "../src/core/log.ts";
import { silentMeter } from "../src/core/meter.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { seededRandom } from "../src/core/random.ts";
import { extProcConfigSchema } from "../src/extproc/config.ts";
import { startExtProcServer } from "../src/extproc/grpc-ext-proc.ts";
import type { PickOutcome } from "../src/extproc/picker.ts";
import { answerFigures } from "./edge-figures.ts";

const route: PickOutcome = { kind: "route", endpointId: endpointId("10.0.0.1:8000") };
const nothing = (): void => {};
const picker = {
  pick: (): Promise<PickOutcome> => Promise.resolve(route),
  pickByLoad: (): PickOutcome => route,
  ...{ responseStarted: nothing, firstByte: nothing, progressed: nothing, ended: nothing },
};
const any = "127.0.0.1:0";
const server = await startExtProcServer(
  extProcConfigSchema.parse({ listen: any, healthListen: any }),
  { picker, clock: nodeClock, random: seededRandom(1), log: silentLog, meter: silentMeter },
);
answerFigures({ isLagWatched: false, openStreams: () => server.openStreams });
process.send?.({ edge: server.address });
process.once("disconnect", () => void server.stop().finally(() => process.exit(0)));
