/**
 * Random conversations of a gateway with a session, orderly or not, held against a model of what the
 * protocol owes: an answer to each whole request and each response message, the bytes that came, one
 * end for each route, and one close.
 */
import type { Random } from "../../src/core/random.ts";
import { BodyBudget } from "../../src/extproc/body-budget.ts";
import type { ProcessingRequest__Output } from "../../src/extproc/gen/envoy/service/ext_proc/v3/ProcessingRequest.ts";
import { extProcCodec, loadExtProcPackage } from "../../src/extproc/grpc-definition.ts";
import { CHUNK_BYTES_MAX } from "../../src/extproc/responses.ts";
import type { Session } from "../../src/extproc/session.ts";
import type { SessionInput, SessionOutput } from "../../src/extproc/session-io.ts";
import {
  bodyMessage,
  headersMessage,
  type Mode,
  newSession,
  requestTrailers,
  responseBody,
  responseHeaders,
  responseTrailers,
  routeToA,
  shed,
} from "./ext-proc-messages.ts";
import { mutatePayload } from "./mutate.ts";

const { definition } = loadExtProcPackage();
const { decode } = extProcCodec(definition);
const { requestSerialize } = definition.Process;

const BODY_BYTES_MAX = 200_000;
const MODES: readonly Mode[] = ["FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED", "NONE"];

/** How a conversation ended; throws where the session owes something, or sends other bytes. */
export function checkSession(random: Random): string {
  const budget = new BodyBudget(10_000_000);
  const session = newSession({ bodyBytesMax: BODY_BYTES_MAX, bodyBudget: budget });
  const talk = new Conversation(session, random);
  for (const message of conversation(random)) talk.say(message);
  const outcome = talk.end();
  session.dispose();
  if (budget.bytes !== 0) throw new Error(`${budget.bytes} bytes of the budget are not given back`);
  return outcome;
}

class Conversation {
  readonly #session: Session;
  readonly #random: Random;
  /** Of the request, in the order of its messages. */
  readonly #given: Buffer[] = [];
  readonly #returned: Buffer[] = [];
  #isHeadersSeen = false;
  /** The gateway answered by itself, and wants no destination. */
  #isGivenUp = false;
  #isPicked = false;
  #isAnswered = false;
  #isClosed = false;
  #closeOutcome = "open";
  #routes = 0;
  #ends = 0;
  #returnedEnds = 0;

  constructor(session: Session, random: Random) {
    this.#session = session;
    this.#random = random;
  }

  say(message: ProcessingRequest__Output): void {
    if (this.#isClosed) return;
    const isResponse = message.request?.startsWith("response_") ?? false;
    if (message.request === "request_headers") this.#isHeadersSeen = true;
    if (message.request === "request_body" && this.#isHeadersSeen && !this.#isPicked) {
      this.#given.push(message.request_body?.body ?? Buffer.alloc(0));
    }
    const outputs = this.#session.receive({ kind: "message", message });
    if (isResponse) this.#checkEcho(message, outputs);
    this.#take(outputs);
    const isWhole = message.request_headers?.end_of_stream === true;
    if (isResponse && !this.#isAnswered) this.#isGivenUp = true;
    const isDue = this.#isHeadersSeen && !this.#isGivenUp && (isWhole || isEnd(message));
    this.#must(!isDue || this.#isPicked || this.#isAnswered, "a whole request has no answer");
  }

  end(): string {
    if (!this.#isClosed && below(2, this.#random) === 0) this.#receive({ kind: "half-closed" });
    this.#receive({ kind: "cancelled" });
    this.#must(this.#isClosed, "the stream is not closed");
    this.#must(this.#ends === this.#routes, `${this.#routes} routes, ${this.#ends} ends`);
    if (this.#returned.length > 0) {
      this.#must(Buffer.concat(this.#returned).equals(Buffer.concat(this.#given)), "other bytes");
      this.#must(this.#returnedEnds <= 1, "more than one end of stream");
    }
    return this.#closeOutcome;
  }

  #receive(input: SessionInput): void {
    this.#take(this.#session.receive(input));
  }

  #take(outputs: readonly SessionOutput[]): void {
    for (const output of outputs) {
      this.#must(!this.#isClosed, `${output.kind} after the close`);
      if (output.kind === "pick") this.#settle();
      else if (output.kind === "pick-by-load") {
        this.#routes += 1;
        this.#receive({ kind: "picked", by: "load", outcome: routeToA });
      } else if (output.kind === "ended") this.#ends += 1;
      else if (output.kind === "close") {
        this.#isClosed = true;
        this.#isAnswered = true;
        this.#closeOutcome = output.outcome;
      } else if (output.kind === "send") this.#takeAnswer(output.response);
    }
  }

  /** The picker answers, late, never or not at all. */
  #settle(): void {
    this.#must(!this.#isPicked, "a second pick");
    this.#isPicked = true;
    const choice = below(8, this.#random);
    if (choice === 0) this.#receive({ kind: "deadline" });
    else if (choice === 1) this.#receive({ kind: "pick-failed" });
    else if (choice === 2) this.#receive({ kind: "picked", by: "pick", outcome: shed });
    else {
      this.#routes += 1;
      this.#receive({ kind: "picked", by: "pick", outcome: routeToA });
    }
    this.#must(this.#isAnswered, "a decided request has no answer");
  }

  #takeAnswer(response: Extract<SessionOutput, { kind: "send" }>["response"]): void {
    const isRouted = response.dynamic_metadata !== undefined;
    if (isRouted || response.immediate_response !== undefined) this.#isAnswered = true;
    const chunk = response.request_body?.response?.body_mutation?.streamed_response;
    if (chunk === undefined || chunk === null) return;
    const body = Buffer.from(chunk.body ?? "");
    this.#must(body.length <= CHUNK_BYTES_MAX, "a chunk is too long");
    this.#must(this.#isAnswered, "the body comes before the headers");
    this.#returned.push(body);
    if (chunk.end_of_stream === true) this.#returnedEnds += 1;
  }

  #checkEcho(message: ProcessingRequest__Output, outputs: readonly SessionOutput[]): void {
    const answers = outputs.flatMap((each) => (each.kind === "send" ? [each.response] : []));
    if (message.request === "response_headers") {
      this.#must(
        answers.some((each) => each.response_headers),
        "response headers unanswered",
      );
    } else if (message.request === "response_trailers") {
      this.#must(
        answers.some((each) => each.response_trailers),
        "response trailers unanswered",
      );
    } else {
      const chunks = answers.flatMap((each) => {
        const { body_mutation: mutation } = each.response_body?.response ?? {};
        return mutation?.streamed_response ? [mutation.streamed_response] : [];
      });
      const { body, end_of_stream: isLast = false } = message.response_body ?? {};
      const isAcknowledged = answers.some((each) => each.response_body && chunks.length === 0);
      const isNothing = (body?.length ?? 0) === 0 && !isLast;
      const parts = chunks.map((chunk) => Buffer.from(chunk.body ?? ""));
      const isSame = Buffer.concat(parts).equals(body ?? Buffer.alloc(0));
      const isLastSame = (chunks.at(-1)?.end_of_stream ?? false) === isLast;
      this.#must(isAcknowledged || isNothing || (isSame && isLastSame), "another response body");
    }
  }

  #must(isSo: boolean, problem: string): void {
    if (!isSo) throw new Error(problem);
  }
}

function isEnd({ request, request_body: body }: ProcessingRequest__Output): boolean {
  return (
    request === "request_trailers" || (request === "request_body" && body?.end_of_stream === true)
  );
}

/** An orderly conversation, changed by a few random edits; half of the messages pass as bytes. */
function conversation(random: Random): ProcessingRequest__Output[] {
  const messages = orderly(random);
  for (let edits = below(4, random); edits > 0; edits -= 1) {
    const at = below(messages.length + 1, random);
    const edit = below(4, random);
    const [one] = messages.slice(at, at + 1);
    if (edit === 0) messages.splice(at, 1);
    else if (edit === 1 && one !== undefined) messages.splice(at, 0, one);
    else if (edit === 2 && one !== undefined) {
      messages.splice(at, 1);
      messages.splice(below(messages.length + 1, random), 0, one);
    } else if (one !== undefined) messages[at] = decode(mutated(one, random));
  }
  return messages;
}

function mutated(message: ProcessingRequest__Output, random: Random): Buffer {
  return Buffer.from(mutatePayload(requestSerialize(message), random));
}

function orderly(random: Random): ProcessingRequest__Output[] {
  const [request, response] = [choose(MODES, random), choose(MODES, random)];
  const modes = below(4, random) === 0 ? {} : { request, response };
  const isBodyless = below(5, random) === 0;
  const messages = [headersMessage({ "x-request-id": "r" }, { ...modes, isEnd: isBodyless })];
  const hasTrailers = below(5, random) === 0;
  if (!isBodyless) {
    const chunks = below(4, random);
    for (let chunk = 0; chunk < chunks; chunk += 1) {
      messages.push(bodyMessage(bytesOf(random), false));
    }
    messages.push(hasTrailers ? requestTrailers : bodyMessage(undefined, true));
  }
  messages.push(responseHeaders({ served: "10.0.0.1:8000" }));
  for (let chunks = below(3, random); chunks > 0; chunks -= 1) {
    messages.push(responseBody(bytesOf(random).toString("latin1"), false));
  }
  messages.push(below(3, random) === 0 ? responseTrailers : responseBody("", true));
  return messages;
}

/** Mostly short, sometimes more than a chunk, rarely more than a body may have. */
function bytesOf(random: Random): Buffer {
  const kind = below(40, random);
  const most = kind === 0 ? BODY_BYTES_MAX : kind < 3 ? 2 * CHUNK_BYTES_MAX : 64;
  return Buffer.alloc(below(most, random), 32 + below(90, random));
}

function choose<Choice>(all: readonly Choice[], random: Random): Choice {
  const chosen = all[below(all.length, random)];
  if (chosen === undefined) throw new Error("nothing to choose from");
  return chosen;
}

function below(limit: number, random: Random): number {
  return Math.floor(random.next() * limit);
}
