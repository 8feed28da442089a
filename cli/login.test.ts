// Logging in and what is kept of it.

import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { maestro, testHost } from "./testing/host.ts";
import { apiKey } from "./testing/market.ts";
import { json, problem, testServer, type TestServer } from "./testing/server.ts";

const caller = {
  tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
  tenant: "demo",
  principal_id: `pri_${"0".repeat(26)}`,
  kind: "person",
  role: "admin",
  credential: "token",
  spiffe_id: null,
};

async function apiServer(): Promise<TestServer> {
  const server = await testServer();
  server.on("GET /api/whoami", json(caller));
  return server;
}
const configOf = (home: string): string => join(home, ".config", "maestro", "config.json");

describe("maestro login --api-url", () => {
  test("takes the key from stdin, checks it, and keeps it 0600 in a 0700 folder", async () => {
    const server = await apiServer();
    const host = testHost({ stdin: `${apiKey}\n` });
    const { code, out, err } = await maestro(host, "login", "--api-url", server.url);
    expect(code).toBe(0);
    expect(out + err).not.toContain(apiKey);
    expect(server.seen[0]!.headers.authorization).toBe(`Bearer ${apiKey}`);
    expect(statSync(configOf(host.home)).mode & 0o777).toBe(0o600);
    expect(statSync(join(configOf(host.home), "..")).mode & 0o777).toBe(0o700);
    expect((await maestro(host, "whoami", "--json")).json()).toEqual({ api_url: server.url, ...caller });
    expect((await maestro(host, "logout")).code).toBe(0);
    expect(existsSync(configOf(host.home))).toBe(false);
    expect((await maestro(host, "whoami")).code).toBe(3);
  });

  test("shows what the API says of the caller without letting it steer the terminal", async () => {
    const server = await apiServer();
    server.on("GET /api/whoami", json({ ...caller, tenant: "demo\u001b]0;owned\u0007\u001b[2J\u001b[8m\u200f" }));
    const { code, out, err } = await maestro(
      testHost({ stdin: apiKey, terminal: true }),
      "login",
      "--api-url",
      server.url,
    );
    expect(code).toBe(0);
    // Colours of our own, and nothing else.
    // oxlint-disable-next-line no-control-regex
    const left = (out + err).replaceAll(/\u001B\[(?:2|22|32|39)m/g, "");
    expect(left).toContain("demo");
    // oxlint-disable-next-line no-control-regex
    expect(left).not.toMatch(/[\u0000-\u0009\u000B-\u001F\u007F-\u009F\u200F]/);
  });

  test("keeps nothing that the API does not take", async () => {
    const server = await apiServer();
    server.on("GET /api/whoami", problem(401, { code: "key_revoked", title: "The API key was revoked" }));
    const host = testHost({ stdin: apiKey });
    expect((await maestro(host, "login", "--api-url", server.url)).code).toBe(3);
    expect(existsSync(configOf(host.home))).toBe(false);
  });

  test.each([
    ["http://example.com", "https"],
    ["ftp://example.com", "https"],
    ["https://user:secret@example.com", "user name"],
    ["https://example.com/path", "nothing behind"],
    ["not a url", "not a URL"],
  ])("refuses %s before a byte is sent, without repeating it", async (url, why) => {
    const { code, err } = await maestro(testHost({ stdin: apiKey }), "login", "--api-url", url);
    expect(code).toBe(2);
    expect(err).toContain(why);
    expect(err).not.toContain("secret");
  });

  test("refuses what is not a key without repeating it", async () => {
    const { code, err } = await maestro(
      testHost({ stdin: "hunter2-password" }),
      "login",
      "--api-url",
      "https://example.com",
    );
    expect(code).toBe(2);
    expect(err).not.toContain("hunter2");
  });

  test("knows no option that would take a key", async () => {
    const { code } = await maestro(testHost(), "login", "--api-key", apiKey);
    expect(code).toBe(2);
  });
});

describe("maestro login --local", () => {
  async function localStack(): Promise<{ server: TestServer; state: string; host: ReturnType<typeof testHost> }> {
    const server = await apiServer();
    const host = testHost();
    const state = join(host.home, "state");
    mkdirSync(state);
    writeFileSync(
      join(state, "local-issuer.json"),
      JSON.stringify({
        token_url: `${server.url}/token`,
        secret: "the-local-secret",
        issuer: server.url,
        audience: "maestro-api",
        api_url: server.url,
        subjects: { admin: "admin@demo.local", viewer: "viewer@demo.local" },
      }),
    );
    server.on("GET /api/audit/keys", json({ origin_prefix: "maestro.local/log", keys: [] }));
    server.on("POST /token", (request, response) => {
      if (request.headers.authorization !== "Bearer the-local-secret")
        return problem(401, { code: "x" })(request, response);
      const { subject } = JSON.parse(request.body.toString()) as { subject: string };
      return json({ access_token: `token-of-${subject}`, token_type: "Bearer", expires_in: 3600 })(request, response);
    });
    return { server, state, host };
  }

  test("gets a token for the role asked for, and uses it from then on", async () => {
    const { server, state, host } = await localStack();
    const { code, out, err } = await maestro(host, "login", "--local", "--state", state, "--role", "viewer");
    expect(code).toBe(0);
    expect(out + err).not.toMatch(/the-local-secret|token-of/);
    await maestro(host, "whoami");
    expect(server.seen.at(-1)!.headers.authorization).toBe("Bearer token-of-viewer@demo.local");
    expect(readFileSync(configOf(host.home), "utf8")).not.toContain("the-local-secret");
  });

  test("trusts the keys of the stack that is there now: after a reset it has new ones", async () => {
    const { server, state, host } = await localStack();
    const login = () => maestro(host, "login", "--local", "--state", state);
    expect((await login()).code).toBe(0);
    expect((await maestro(host, "audit", "keys")).code).toBe(0);
    server.on("GET /api/audit/keys", json({ origin_prefix: "maestro.local/other", keys: [] }));
    expect((await maestro(host, "audit", "keys")).code).toBe(7);
    expect((await login()).code).toBe(0);
    expect((await maestro(host, "audit", "keys")).code).toBe(0);
  });

  test("says what is missing: no stack, no such role, a broken file, an address elsewhere", async () => {
    const { state, host } = await localStack();
    const login = (...more: string[]) => maestro(host, "login", "--local", "--state", state, ...more);
    expect((await maestro(host, "login", "--local", "--state", "nowhere")).err).toContain("npm start");
    expect((await login("--role", "auditor")).code).toBe(4);
    expect((await login("--role", "king")).code).toBe(2);
    expect((await login("--api-url", "https://example.com")).code).toBe(2);
    const path = join(state, "local-issuer.json");
    writeFileSync(
      path,
      readFileSync(path, "utf8").replace(/"token_url":"[^"]*"/, '"token_url":"http://example.com/token"'),
    );
    expect((await login()).code).toBe(2);
    writeFileSync(path, "{");
    expect((await login()).code).toBe(1);
  });

  test("sends the stack's secret to this machine alone", async () => {
    const { state, host } = await localStack();
    const path = join(state, "local-issuer.json");
    const elsewhere = '"token_url":"https://maestro.invalid/token"';
    writeFileSync(path, readFileSync(path, "utf8").replace(/"token_url":"[^"]*"/, elsewhere));
    const { code, err } = await maestro(host, "login", "--local", "--state", state);
    expect([code, err]).toEqual([2, expect.stringContaining("this machine")]);
  });
});

describe("the stored login", () => {
  async function loggedIn() {
    const server = await apiServer();
    const host = testHost({ stdin: apiKey });
    await maestro(host, "login", "--api-url", server.url);
    return { server, host };
  }

  test("never goes to another address than its own", async () => {
    const { host } = await loggedIn();
    const other = await apiServer();
    host.env["MAESTRO_API_URL"] = other.url;
    const { code } = await maestro(host, "whoami");
    expect(code).toBe(3);
    expect(other.seen).toEqual([]);
    host.env["MAESTRO_API_KEY"] = apiKey;
    expect((await maestro(host, "whoami")).code).toBe(0);
  });

  test("that was open to others is made private again, with a note", async () => {
    const { host } = await loggedIn();
    chmodSync(configOf(host.home), 0o644);
    expect((await maestro(host, "whoami")).err).toContain("private again");
    expect(statSync(configOf(host.home)).mode & 0o777).toBe(0o600);
  });

  test("that is broken is one sentence that holds nothing of it", async () => {
    const { host } = await loggedIn();
    writeFileSync(configOf(host.home), `{"key":"${apiKey}"`);
    const { code, err } = await maestro(host, "whoami");
    expect(code).toBe(1);
    expect(err).not.toContain(apiKey);
  });

  test("follows XDG_CONFIG_HOME where that is absolute, and ignores it where it is not", async () => {
    const server = await apiServer();
    const host = testHost({ stdin: apiKey });
    host.env["XDG_CONFIG_HOME"] = join(host.home, "elsewhere");
    await maestro(host, "login", "--api-url", server.url);
    expect(existsSync(join(host.home, "elsewhere", "maestro", "config.json"))).toBe(true);
    host.env["XDG_CONFIG_HOME"] = "elsewhere";
    expect((await maestro(host, "whoami")).code).toBe(3);
  });
});
