// Who is served by the bundle API of this machine.

import { request } from "node:http";
import { expect, onTestFinished, test } from "vitest";
import { startOpaServer } from "./opa-server.ts";

function statusFor(url: string, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request(`${url}/bundles/gateway/stable`, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    asked.on("error", reject).end();
  });
}

test("a bundle is served under this machine's own names, and under none that a web page could bring", async () => {
  const server = await startOpaServer({
    address: "127.0.0.1",
    port: 0,
    available: () => ({ state: "ready", sha256: "a".repeat(64), bytes: () => Promise.resolve(new Uint8Array(1)) }),
    onFault: () => undefined,
  });
  onTestFinished(() => server.close());
  for (const host of ["127.0.0.1", "127.0.0.1:8383", "LOCALHOST:1", "localhost", "[::1]:8383"])
    expect(await statusFor(server.url, host), host).toBe(200);
  for (const host of ["evil.example", "evil.example:8383", "127.0.0.1.evil.example", "localhost.evil.example:1"])
    expect(await statusFor(server.url, host), host).toBe(421);
});
