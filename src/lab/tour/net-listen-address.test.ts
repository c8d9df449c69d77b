import { createServer } from "node:net";
import { expect, it } from "vitest";
import { chooseListenAddress } from "./net-listen-address.ts";

it("takes a free port when the wanted one is in use, and says why", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const bound = server.address();
  const wanted = `127.0.0.1:${typeof bound === "object" ? bound?.port : 0}`;
  expect(await chooseListenAddress(wanted)).toEqual({
    address: "127.0.0.1:0",
    refusal: expect.stringContaining("EADDRINUSE"),
  });
  await new Promise((resolve) => server.close(resolve));
  expect(await chooseListenAddress(wanted)).toEqual({ address: wanted, refusal: null });
});
