// Who is served by the bundle API of this machine, and how much of its memory that takes.

import { request, type IncomingMessage } from "node:http";
import { expect, onTestFinished, test } from "vitest";
import { bundleBytesMax } from "../../shared/contract/http-policies.ts";
import { isDeep } from "../../test/support/sampled.ts";
import { BodiesInFlight } from "./bodies-in-flight.ts";
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
    health: () => ({ isWell: true, value: {} }),
    available: () => ({ state: "ready", sha256: "a".repeat(64), bytes: () => Promise.resolve(new Uint8Array(1)) }),
    onFault: () => undefined,
  });
  onTestFinished(() => server.close());
  for (const host of ["127.0.0.1", "127.0.0.1:8383", "LOCALHOST:1", "localhost", "[::1]:8383"])
    expect(await statusFor(server.url, host), host).toBe(200);
  for (const host of ["evil.example", "evil.example:8383", "127.0.0.1.evil.example", "localhost.evil.example:1"])
    expect(await statusFor(server.url, host), host).toBe(421);
});

test("however many ask at once, one copy of a bundle is read, and no more bundles than there is room for", async () => {
  const bundle = new Uint8Array(8 * 1024 * 1024);
  const large = new Uint8Array(bundleBytesMax);
  let reads = 0;
  const server = await startOpaServer({
    address: "127.0.0.1",
    port: 0,
    health: () => ({ isWell: true, value: {} }),
    available: (target) => ({
      state: "ready",
      sha256: target,
      bytes: () => {
        reads += 1;
        return Promise.resolve(target.startsWith("large") ? large : bundle);
      },
    }),
    onFault: () => undefined,
  });
  onTestFinished(() => server.close());
  // Clients that take the head and no more of the body.
  const open = (name: string): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const asked = request(`${server.url}/bundles/${name}/stable`, { agent: false }, resolve);
      onTestFinished(() => void asked.destroy());
      asked.on("error", reject).end();
    });
  const many = await Promise.all(Array.from({ length: isDeep ? 100 : 30 }, () => open("gateway")));
  expect(new Set(many.map(({ statusCode }) => statusCode))).toEqual(new Set([200]));
  expect(reads).toBe(1);
  const more = [await open("large-1"), await open("large-2"), await open("large-3"), await open("large-4")];
  expect(more.map(({ statusCode }) => statusCode)).toEqual([200, 200, 200, 503]);
  expect(more[3]!.headers["retry-after"]).toBe("1");
  more[0]!.destroy();
  await expect.poll(async () => (await open("large-4")).statusCode, { timeout: 5_000 }).toBe(200);
});

test("what is set aside for a body is given back, whether it was sent, lost or failed", async () => {
  const bodies = new BodiesInFlight(bundleBytesMax);
  const [one, other] = await Promise.all(
    ["a", "a"].map((name) => bodies.take(name, () => Promise.resolve(new Uint8Array(9)))),
  );
  expect(bodies.reserved).toBe(9);
  expect(await bodies.take("b", () => Promise.resolve(null))).toBe("no_room");
  for (const taken of [one!, other!, one!]) if (taken !== "no_room") taken.done();
  expect(bodies.reserved).toBe(0);
  expect(await bodies.take("b", () => Promise.resolve(null))).toMatchObject({ bytes: null });
  await expect(bodies.take("c", () => Promise.reject(new Error("no disk")))).rejects.toThrow("no disk");
  expect(bodies.reserved).toBe(0);
});
