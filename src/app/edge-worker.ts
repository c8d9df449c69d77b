/** A thread that serves: streams, bodies and keys of its connections. Decided is elsewhere. */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { assert } from "../core/assert.ts";
import { KvError } from "../core/errors.ts";
import type { EndpointId } from "../core/ids.ts";
import { nodeClock } from "../core/node-clock.ts";
import { seededRandom } from "../core/random.ts";
import { BodyBudget } from "../extproc/body-budget.ts";
import { type EdgeListener, listenExtProc } from "../extproc/grpc-listener.ts";
import { TapeMeter } from "../observe/meter-tape.ts";
import { startTokenizer } from "../prompt/tokenizer-choice.ts";
import type { EdgeWorkerData, FromEdge, ToEdge } from "./edge-messages.ts";
import { createPicker, createPromptReader, promptShare } from "./kv-picker.ts";
import { RemoteDecider } from "./remote-decider.ts";
import { endWhenFailing } from "./thread-failing.ts";
import type { FromThread } from "./thread-life.ts";
import { threadLog } from "./thread-log.ts";

/** What was counted is told at least so often, ms. */
const TICK_MS = 100;

async function serve(port: MessagePort, data: EdgeWorkerData): Promise<void> {
  const { config, address, tls, slot } = data;
  const { workers, deadlineMs, bodiesBytesMax } = config.extProc;
  const say = (message: FromEdge | FromThread): void => port.postMessage(message);
  const meter = new TapeMeter();
  const ports = {
    ...{ clock: nodeClock, random: seededRandom(data.seed), meter },
    log: threadLog(port, config.observe.logLevel),
  };
  const decider = new RemoteDecider({
    ...{ ...ports, deadlineMs, say: (messages): void => say({ kind: "asking", messages }) },
  });
  decider.fleetTold(data.fleet);
  const tokenizing = await startTokenizer(promptShare(config), {
    ...{ ...ports, engines: (): readonly EndpointId[] => decider.fleet.ready },
  });
  const prompt = await createPromptReader(config, { meter, tokenizer: tokenizing.tokenizer });
  const listener = await listenExtProc(
    { ...config.extProc, listen: address },
    {
      ...{ ...ports, tls, threads: workers, picker: createPicker(config, { prompt, decider }) },
      bodyBudget: new BodyBudget(bodiesBytesMax, new Float64Array(data.bodyBytes), slot),
    },
  );
  const tellAll = (): void => {
    decider.flush();
    const tape = meter.take();
    if (tape !== null) say({ kind: "meter", tape });
  };
  endWhenFailing(port, async () => {
    await listener.close();
    tellAll();
  });
  let cancelTick = (): void => {};
  const tick = (): void => {
    tellAll();
    cancelTick = nodeClock.after(TICK_MS, tick);
  };
  const stop = async (): Promise<void> => {
    cancelTick();
    await listener.close();
    await tokenizing.stop();
    tellAll();
    process.exit(0);
  };
  port.on("message", (message: ToEdge) => {
    if (message.kind === "deciding") decider.take(message.messages);
    else if (message.kind === "fleet") decider.fleetTold(message.fleet);
    else if (message.kind === "stop") void stop();
    else void obey(message, { listener, tellAll, say });
  });
  tick();
  say({ kind: "open" });
}

interface Parts {
  readonly listener: EdgeListener;
  readonly tellAll: () => void;
  readonly say: (message: FromThread) => void;
}

async function obey(
  message: Extract<ToEdge, { kind: "ready" | "tls" | "tell" | "idle" }>,
  { listener, tellAll, say }: Parts,
): Promise<void> {
  switch (message.kind) {
    case "ready":
      listener.setReady(message.isReady);
      return;
    case "tls":
      listener.setTls(message.tls);
      return;
    case "tell":
      tellAll();
      say({ kind: "told", id: message.id });
      return;
    case "idle":
      say({ kind: "told", id: message.id, value: await listener.idle(message.waitMs) });
  }
}

assert(parentPort !== null, "edge-worker.ts is the code of a thread");
const port = parentPort;
// What rejects otherwise is uncaught, and ends the thread as a failure.
void serve(port, workerData).catch((error: unknown) => {
  if (!(error instanceof KvError)) throw error;
  const { code, message } = error;
  port.postMessage({ kind: "refused", code, message } satisfies FromEdge);
  process.exit(1);
});
