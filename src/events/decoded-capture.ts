/** The messages of a capture as the sequencer takes them. Pure. */
import type { EngineName } from "../core/engine-name.ts";
import { createEventDecoder, type EventDecoder } from "./event-decoder.ts";
import type { EventMessage } from "./frames.ts";
import type { EngineMessage } from "./sequence.ts";
import { TrtllmDecoder } from "./trtllm-decoder.ts";

const OBJECT = 0x7b;

/** Reads one message after the other of one stream. */
export type CaptureReader = (message: EventMessage) => readonly EngineMessage[];

export function captureReader(engine: EngineName): CaptureReader {
  if (engine === "trtllm") return answerReader();
  const decoder = createEventDecoder(engine);
  return ({ seq, payload }) => {
    const decoded = decoder.decode(payload);
    return [{ seq, batch: decoded.ok ? decoded.value : null }];
  };
}

/** What each message of one stream says by itself: of TensorRT-LLM's, whole answers. */
export function captureDecoder(engine: EngineName): EventDecoder {
  if (engine !== "trtllm") return createEventDecoder(engine);
  const decoder = new TrtllmDecoder();
  return { decode: (payload) => decoder.decodeAnswer(payload) };
}

/** TensorRT-LLM numbers the events, not its answers; one that cannot be read has a number said before. */
function answerReader(): CaptureReader {
  const decoder = new TrtllmDecoder();
  let seq = 0;
  return ({ payload }) => {
    const isEvent = payload[0] === OBJECT;
    const answer = isEvent ? Buffer.concat([Buffer.from("["), payload, Buffer.from("]")]) : payload;
    const drained = decoder.drain(answer);
    if (!drained.ok) return [{ seq, batch: null }];
    seq = drained.value.at(-1)?.seq ?? seq;
    return drained.value;
  };
}
