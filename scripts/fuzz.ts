/**
 * `npm run fuzz -- [--cases N | --seconds N] [--seed N]`: changed payloads through every decoder,
 * changed request bodies through the reader of prompts, and changed conversations of a gateway through
 * the session of an ext_proc stream.
 *
 * A case is one payload of an engine, captured or made after its schema, changed at random and given
 * to the decoder of every engine (one of a thousand is of up to 16 MB, made to take memory), one request body, changed and read, and one conversation, changed in
 * its order and its bytes. Prints the refusals by reason and the largest allocation of one message; ends
 * with 1 when something throws, when a scan says something else than the general decoder, when a body
 * is read in another way than JSON.parse does, when a stream
 * is not answered or not ended as it should, when a byte of a body changes, or when a decoder takes more
 * than ALLOCATION_BYTES_MAX.
 */
import { isDeepStrictEqual, parseArgs } from "node:util";
import { getHeapStatistics } from "node:v8";
import { ENGINE_NAMES, type EngineName } from "../src/core/engine-name.ts";
import { messageOf } from "../src/core/errors.ts";
import { nodeClock } from "../src/core/node-clock.ts";
import { type Random, seededRandom } from "../src/core/random.ts";
import { createEventDecoder, type EventDecoder } from "../src/events/event-decoder.ts";
import { decodeAnySglangBatch } from "../src/events/sglang-decoder.ts";
import { decodeAnyVllmBatch } from "../src/events/vllm-decoder.ts";
import { checkBody } from "../test/harness/body-check.ts";
import { type BodySample, bodySamples } from "../test/harness/body-samples.ts";
import { eventSamples } from "../test/harness/event-samples.ts";
import { largePayload } from "../test/harness/large-payload.ts";
import { madeBatch } from "../test/harness/made-batch.ts";
import { mutatePayload } from "../test/harness/mutate.ts";
import { mutateJson } from "../test/harness/mutate-json.ts";
import { checkSession } from "../test/harness/session-check.ts";

const ALLOCATION_BYTES_MAX = 16_777_216;
/** Cases with one decoder before it is made anew, so that what it remembers stays a stream's. */
const STREAM_CASES = 1000;
/** Cases to one of a large payload. */
const LARGE_CASES = 1000;

/** What engines' decoders have to say that scan the common forms. */
const GENERAL: Partial<Record<EngineName, EventDecoder["decode"]>> = {
  vllm: decodeAnyVllmBatch,
  sglang: decodeAnySglangBatch,
};

const { values } = parseArgs({
  options: {
    cases: { type: "string" },
    seconds: { type: "string" },
    seed: { type: "string", default: "1" },
  },
});
const seconds = values.seconds === undefined ? Number.POSITIVE_INFINITY : Number(values.seconds);
const casesDefault = values.seconds === undefined ? 200_000 : Number.POSITIVE_INFINITY;
const casesMax = values.cases === undefined ? casesDefault : Number(values.cases);
const seed = Number(values.seed);
if (!(seconds > 0) || !(casesMax > 0) || !Number.isInteger(seed)) {
  process.stderr.write("--cases and --seconds must be positive, --seed an integer\n");
  process.exit(2);
}

const random = seededRandom(seed);
const samples = Object.values(eventSamples());
const payloads = samples.flat();
const bodies = bodySamples();
const outcomes = new Map<string, number>();
const startMs = nodeClock.nowMs();
let decoders = newDecoders();
let cases = 0;
let allocationMax = 0;
let allocationMaxBy = "none";

while (cases < casesMax && nodeClock.nowMs() - startMs < seconds * 1000) {
  if (cases % STREAM_CASES === 0) decoders = newDecoders();
  const isLarge = cases % LARGE_CASES === 0;
  const payload = isLarge
    ? largePayload(random)
    : mutatePayload(choose(choose(samples, random), random), random);
  for (const each of decoders) readEvents(each, payload);
  readBody(choose(bodies, random));
  converse();
  cases += 1;
}

const elapsed = (nodeClock.nowMs() - startMs) / 1000;
process.stdout.write(
  `cases: ${cases} of ${payloads.length} payloads and ${bodies.length} bodies in ${elapsed.toFixed(1)} s\n`,
);
for (const [outcome, times] of [...outcomes].sort()) {
  process.stdout.write(`${outcome.padEnd(36)} ${times}\n`);
}
process.stdout.write(`largest allocation: ${allocationMax} bytes (${allocationMaxBy})\n`);
if (allocationMax > ALLOCATION_BYTES_MAX) {
  process.stderr.write(`largest allocation is over ${ALLOCATION_BYTES_MAX} bytes\n`);
  process.exitCode = 1;
}

function newDecoders() {
  return ENGINE_NAMES.map((engine) => ({ engine, decoder: createEventDecoder(engine) }));
}

function readEvents(
  { engine, decoder }: { readonly engine: EngineName; readonly decoder: EventDecoder },
  payload: Uint8Array,
): void {
  const before = memoryBytes();
  try {
    const decoded = decoder.decode(payload);
    const made = decoded.ok ? { ...decoded, value: madeBatch(decoded.value) } : decoded;
    // A collection in between makes it negative: that message is not measured.
    const allocated = memoryBytes() - before;
    if (allocated > allocationMax) {
      allocationMax = allocated;
      allocationMaxBy = `${engine}, ${payload.length} bytes`;
    }
    count(`${engine} ${decoded.ok ? "decoded" : decoded.reason}`);
    const general = GENERAL[engine]?.(payload) ?? decoded;
    // The general decoder may take more memory, which it then says.
    const isTooLarge = !general.ok && general.reason === "oversized";
    if (!isTooLarge && !isDeepStrictEqual(made, general)) {
      throw new Error("the scan says something else");
    }
    for (const event of decoded.ok ? decoded.value.events : []) {
      if (event.type === "skipped") count(`${engine} event ${event.reason}`);
    }
  } catch (error) {
    fail(engine, payload, error);
  }
}

function readBody(sample: BodySample): void {
  const mutate = random.next() < 0.5 ? mutateJson : mutatePayload;
  const body = mutate(sample.body, random);
  try {
    count(`${sample.path} ${checkBody({ ...sample, body })}`);
  } catch (error) {
    fail(sample.path, body, error);
  }
}

function converse(): void {
  const conversationSeed = Math.floor(random.next() * 2 ** 32);
  try {
    count(`ext_proc ${checkSession(seededRandom(conversationSeed))}`);
  } catch (error) {
    fail("ext_proc", Buffer.from(`seed ${conversationSeed}`), error);
  }
}

function fail(reader: string, bytes: Uint8Array, error: unknown): never {
  const hex = Buffer.from(bytes).toString("hex");
  process.stderr.write(`${reader} threw at case ${cases}: ${messageOf(error)}\n${hex}\n`);
  process.exit(1);
}

function choose<Choice>(all: readonly Choice[], from: Random): Choice {
  const chosen = all[Math.floor(from.next() * all.length)];
  if (chosen === undefined) throw new Error("nothing to choose from");
  return chosen;
}

function count(outcome: string): void {
  outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
}

/** Heap in use and memory outside of it (array buffers). */
function memoryBytes(): number {
  const { used_heap_size: heap, external_memory: outside } = getHeapStatistics();
  return heap + outside;
}
