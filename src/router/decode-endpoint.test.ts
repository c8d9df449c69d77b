import { expect, it } from "vitest";
import { fleetViewOf, viewOf } from "../../test/harness/fleet-values.ts";
import { decodeEndpoint } from "./decode-endpoint.ts";

const decode = { role: "decode" } as const;
const anyone = (): boolean => true;

it("is the ready decode endpoint with the least context that is allowed", () => {
  const busy = viewOf("10.0.0.1:8000", { spec: decode, load: { pairedTokens: 9000 } });
  const free = viewOf("10.0.0.2:8000", { spec: decode, load: { pairedTokens: 100 } });
  const away = viewOf("10.0.0.3:8000", { spec: decode, isReady: false });
  const whole = viewOf("10.0.0.4:8000");
  const fleet = fleetViewOf(0, [busy, free, away, whole]);
  expect(decodeEndpoint(fleet, anyone)).toBe(free.spec.id);
  expect(decodeEndpoint(fleet, (id) => id !== free.spec.id)).toBe(busy.spec.id);
  expect(decodeEndpoint(fleetViewOf(0, [away, whole]), anyone)).toBeNull();
});

it("is no endpoint that refused or broke off lately, until that fades, or unless it is alone", () => {
  const busy = viewOf("10.0.0.1:8000", { spec: decode, load: { pairedTokens: 9000 } });
  const broken = viewOf("10.0.0.2:8000", { spec: decode });
  broken.faults.add(1000);
  const at = (nowMs: number) => decodeEndpoint(fleetViewOf(nowMs, [busy, broken]), anyone);
  expect(at(1000)).toBe(busy.spec.id);
  expect(at(5000)).toBe(busy.spec.id);
  expect(at(12_000)).toBe(broken.spec.id);
  expect(decodeEndpoint(fleetViewOf(1000, [broken]), anyone)).toBe(broken.spec.id);
});
