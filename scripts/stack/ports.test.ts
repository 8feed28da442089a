import { once } from "node:events";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { freePort, loopback } from "./ports.ts";

test("ports for programs are free, never the same twice, and none that a system gives to outgoing connections", async () => {
  const ports: number[] = [];
  for (let at = 0; at < 200; at += 1) ports.push(await freePort());
  expect(new Set(ports).size).toBe(ports.length);
  expect(Math.min(...ports)).toBeGreaterThanOrEqual(20_000);
  expect(Math.max(...ports)).toBeLessThan(32_768);
  const server = createServer().listen(ports.at(-1), loopback);
  await once(server, "listening");
  await new Promise((resolve) => server.close(resolve));
});
