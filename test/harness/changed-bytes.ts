/** Payloads with some bytes changed, cut or put in: an arbitrary, so that what fails is shrunk. */
import fc from "fast-check";

export function changedBytes(
  payloads: readonly Uint8Array[],
  changesMax: number,
): fc.Arbitrary<Uint8Array> {
  const change = fc.record({
    at: fc.nat(),
    byte: fc.integer({ min: 0, max: 255 }),
    kind: fc.constantFrom("change", "insert", "cut"),
  });
  const changes = fc.array(change, { minLength: 1, maxLength: changesMax });
  return fc.tuple(fc.constantFrom(...payloads), changes).map(([payload, all]) => {
    const bytes = [...payload];
    for (const { at, byte, kind } of all) {
      const place = at % bytes.length;
      if (kind === "insert") bytes.splice(place, 0, byte);
      else if (kind === "cut") bytes.splice(place, 1);
      else bytes[place] = byte;
    }
    return Uint8Array.from(bytes);
  });
}
