/**
 * A body read whole, within a limit; null when it is larger, and then the rest is not read.
 *
 * `body`: chunks of bytes, as of a Node or web stream; `bytesMax`: bytes. Errors of `body` come through.
 */
export async function readBounded(
  body: AsyncIterable<unknown>,
  bytesMax: number,
): Promise<Buffer | null> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    if (!(chunk instanceof Uint8Array)) continue;
    bytes += chunk.length;
    if (bytes > bytesMax) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
