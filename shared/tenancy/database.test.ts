import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { neon, neonConfig } from "@neondatabase/serverless";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/neon-http";
import { afterEach, expect, test } from "vitest";
import { inBatch, isUniqueViolation, isUnavailable } from "./database.ts";

const url = "postgresql://user:password@127.0.0.1/none";
const servers: Server[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

/** The error of one batch against a server that behaves as given. */
async function errorFrom(answer: RequestListener | null, timeoutMs = 5_000): Promise<unknown> {
  let endpoint = "http://127.0.0.1:9/sql";
  if (answer !== null) {
    const server = createServer(answer);
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}/sql`;
  }
  neonConfig.fetchEndpoint = endpoint;
  neonConfig.fetchFunction = (input: string, init: RequestInit) =>
    fetch(input, { ...init, signal: AbortSignal.timeout(timeoutMs) });
  return inBatch(drizzle({ client: neon(url) }), [sql`select 1`, sql`select 2`]).then(
    () => null,
    (error: unknown) => error,
  );
}

const problem =
  (status: number, fields: Record<string, string>): RequestListener =>
  (_request, response) => {
    response.writeHead(status).end(JSON.stringify(fields));
  };

test("a refused, a cut and a hanging connection are an outage", async () => {
  expect(isUnavailable(await errorFrom(null))).toBe(true);
  expect(isUnavailable(await errorFrom((request) => request.destroy()))).toBe(true);
  expect(isUnavailable(await errorFrom(() => undefined, 100))).toBe(true);
});

test("an answer that begins and does not end in time is an outage", async () => {
  expect(isUnavailable(await errorFrom((_request, response) => void response.writeHead(200).write("{"), 100))).toBe(
    true,
  );
});

test("Postgres starting, stopping or full is an outage; a broken constraint is not", async () => {
  for (const code of ["57P01", "57P03", "53300", "08006", "57014", "40001", "40P01", "55P03"]) {
    expect(isUnavailable(await errorFrom(problem(400, { message: "no", code }))), code).toBe(true);
  }
  const violation = await errorFrom(
    problem(400, { message: "duplicate key", code: "23505", constraint: "things_pkey" }),
  );
  expect([isUnavailable(violation), isUniqueViolation(violation)]).toEqual([false, true]);
  const check = await errorFrom(problem(400, { message: "check", code: "23514", constraint: "things_check" }));
  expect([isUnavailable(check), isUniqueViolation(check)]).toEqual([false, false]);
});

test("a proxy that is overloaded or restarting, and an answer cut short, are an outage", async () => {
  for (const status of [429, 500, 502, 503, 504]) {
    expect(isUnavailable(await errorFrom(problem(status, { message: "try later" }))), String(status)).toBe(true);
  }
  const cut = await errorFrom((_request, response) => {
    response.writeHead(200, { "content-length": "100" }).write('{"rows":');
    setTimeout(() => response.destroy(), 20);
  });
  expect(isUnavailable(cut)).toBe(true);
});

test("an error of ours is neither", () => {
  for (const error of [new Error("boom"), new TypeError("x"), null, undefined, "text", { cause: { cause: {} } }]) {
    expect([isUnavailable(error), isUniqueViolation(error)]).toEqual([false, false]);
  }
});
