// /healthz where something does not answer: the API's app in this process, on the stack's real Postgres, with workers and databases
// that take a question and say nothing.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { neonConfig } from "@neondatabase/serverless";
import { expect, onTestFinished, test } from "vitest";
import { localApi } from "../support/api.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
/** Health's own bound, and what the rest of an answer takes on a machine that is busy. */
const answeredMsMax = 3_000 + 4_000;

const silence = (): Promise<never> => new Promise(() => {});
const platform = { shown: () => Promise.resolve({ at_ms: 0, workers: null }) };

/** What /healthz says, and after how long. `database`: where it is asked, in place of the stack's. */
async function healthWith(
  parts: Record<string, unknown>,
  database?: string,
): Promise<{ told: unknown; ms: number; logged: string[] }> {
  const local = await localApi(stack, { audit: { keys: () => Promise.resolve({}) }, platform, ...parts });
  if (database !== undefined) {
    onTestFinished(() => void (neonConfig.fetchEndpoint = stack.neonEndpoint));
    neonConfig.fetchEndpoint = database;
  }
  const began = performance.now();
  const answer = await local.fetch("/healthz");
  const told = (await answer.json()) as Record<string, unknown>;
  const logged = local.logged.filter(({ level }) => level === "error").map(({ message }) => message);
  return {
    told: [answer.status, told["status"], told["database"], told["audit"]],
    ms: performance.now() - began,
    logged,
  };
}

test("an audit worker that does not answer is unreachable after three seconds, and the database is well", async () => {
  const { told, ms, logged } = await healthWith({ audit: { keys: silence } });
  expect(told).toEqual([503, "degraded", "ok", "unreachable"]);
  expect(ms).toBeLessThan(answeredMsMax);
  expect(logged).toContain("audit unreachable");
});

test("a database that does not answer is unreachable after three seconds, and the audit worker is well", async () => {
  const silent = createServer(() => {});
  await new Promise<void>((done) => void silent.listen(0, "127.0.0.1", done));
  onTestFinished(async () => {
    silent.closeAllConnections();
    await new Promise((done) => void silent.close(done));
  });
  const { port } = silent.address() as AddressInfo;
  const { told, ms, logged } = await healthWith({}, `http://127.0.0.1:${port}/sql`);
  expect(told).toEqual([503, "degraded", "unreachable", "ok"]);
  expect(ms).toBeLessThan(answeredMsMax);
  expect(logged).toContain("database unreachable");
});
