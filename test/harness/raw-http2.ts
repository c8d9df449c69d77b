/** A peer of an HTTP/2 server that says exactly the frames it is told to, also those no library would send. */
import net from "node:net";

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const FRAME_HEADER_BYTES = 9;
const DATA_BYTES_MAX = 16_384;

export const FRAME_TYPE = { data: 0, headers: 1, reset: 3, settings: 4, windowUpdate: 8 } as const;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export interface RawHttp2 {
  /** Everything the server sent so far. */
  readonly frames: readonly Frame[];
  send(...frames: readonly Buffer[]): void;
  close(): void;
}

/** `windowBytes`: what the server may send on each stream unasked. */
export function connectRaw(address: string, windowBytes = 65_535): Promise<RawHttp2> {
  const [host = "", port] = address.split(":");
  const frames: Frame[] = [];
  let rest = Buffer.alloc(0);
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(port), host, () => {
      socket.write(Buffer.concat([PREFACE, initialWindow(windowBytes)]));
      resolve({
        frames,
        send: (...sent) => socket.write(Buffer.concat(sent)),
        close: () => socket.destroy(),
      });
    });
    socket.on("error", reject);
    socket.on("data", (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= FRAME_HEADER_BYTES) {
        const end = FRAME_HEADER_BYTES + rest.readUIntBE(0, 3);
        if (rest.length < end) return;
        const [type = 0, flags = 0] = rest.subarray(3, 5);
        const payload = rest.subarray(FRAME_HEADER_BYTES, end);
        frames.push({ type, flags, streamId: rest.readUInt32BE(5), payload });
        rest = rest.subarray(end);
      }
    });
  });
}

function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(streamId, 5);
  bytes.set(payload, FRAME_HEADER_BYTES);
  return bytes;
}

/** The beginning of a gRPC call; `more` adds headers or replaces them. */
export function headersFrame(streamId: number, path: string, more: object = {}): Buffer {
  const headers = {
    ...{ ":method": "POST", ":scheme": "http", ":path": path, ":authority": "test" },
    ...{ "content-type": "application/grpc", te: "trailers", ...more },
  };
  // Literals without Huffman coding and without the table.
  const fields = Object.entries(headers).map(([name, value]) =>
    Buffer.from(
      `\0${String.fromCharCode(name.length)}${name}${String.fromCharCode(value.length)}${value}`,
      "latin1",
    ),
  );
  return frame(FRAME_TYPE.headers, 4, streamId, Buffer.concat(fields));
}

/** In as many frames as it takes. */
export function dataFrames(streamId: number, bytes: Uint8Array, isEnd = false): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += DATA_BYTES_MAX) {
    const flags = isEnd && at + DATA_BYTES_MAX >= bytes.length ? 1 : 0;
    frames.push(frame(FRAME_TYPE.data, flags, streamId, bytes.subarray(at, at + DATA_BYTES_MAX)));
  }
  return Buffer.concat(frames);
}

export function resetFrame(streamId: number, code: number): Buffer {
  return frame(FRAME_TYPE.reset, 0, streamId, uint32(code));
}

/** Lets the server send so many bytes more; stream 0 is the connection. */
export function windowFrame(streamId: number, bytes: number): Buffer {
  return frame(FRAME_TYPE.windowUpdate, 0, streamId, uint32(bytes));
}

function initialWindow(bytes: number): Buffer {
  return frame(FRAME_TYPE.settings, 0, 0, Buffer.concat([Buffer.from([0, 4]), uint32(bytes)]));
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
