/** A sequence number as a frame: unsigned 64-bit, big endian. */
export function seqFrame(seq: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(seq));
  return bytes;
}
