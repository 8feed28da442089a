// The API's log: one structured line a request, and no token, key, payload or path in any line.

import { readFile } from "node:fs/promises";
import { beforeAll, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { localApi } from "../support/api.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let tenant: SeededTenant;
beforeAll(async () => {
  tenant = await stack.seedTenant("logs");
});

async function logLines(): Promise<Record<string, unknown>[]> {
  const lines = (await readFile(stack.logPaths.workers, "utf8")).split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function lineOf(requestId: string | null): Promise<Record<string, unknown>> {
  const find = async () =>
    (await logLines()).find((line) => line["message"] === "request" && line["request_id"] === requestId);
  await expect.poll(find, { timeout: 20_000 }).toBeDefined();
  return (await find())!;
}

test("a request is one line with its id, tenant, principal, route pattern, status, code and duration", async () => {
  const response = await fetch(`${stack.apiUrl}/api/keys/key_00000000000000000000000000`, {
    method: "DELETE",
    headers: { authorization: `Bearer ${tenant.keys.admin}` },
  });
  const line = await lineOf(response.headers.get("maestro-request-id"));
  expect(line).toEqual({
    level: "info",
    message: "request",
    edge: null,
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string,
    request_id: response.headers.get("maestro-request-id"),
    tenant_id: tenant.tenant_id,
    principal_id: tenant.principals.admin,
    method: "DELETE",
    route: "/api/keys/{id}",
    status: 404,
    code: "not_found",
    replayed: false,
    duration_ms: expect.any(Number) as number,
  });
  expect((await logLines()).filter((other) => other["request_id"] === line["request_id"])).toHaveLength(1);
});

test("no line holds a key, a token, a part of a body, a query, a header or a path, whatever goes wrong", async () => {
  const secret = "hunter2hunter2hunter2";
  const token = await stack.issueToken({ subject: tenant.local_subjects.admin });
  const expired = await stack.issueToken({ subject: tenant.local_subjects.admin, expires_in_s: -600 });
  const made = await fetch(`${stack.apiUrl}/api/keys`, {
    method: "POST",
    body: '{"role":"viewer"}',
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      "idempotency-key": secret,
      "user-agent": secret,
      "x-request-id": secret,
    },
  });
  const { key } = (await made.json()) as { key: string };
  const unknownKey = `mk_${"b".repeat(32)}`;
  const requests: [string, RequestInit][] = [
    ["/api/whoami", { headers: { authorization: `Bearer ${key}` } }],
    ["/api/whoami", { headers: { authorization: `Bearer ${expired}` } }],
    ["/api/whoami", { headers: { authorization: `Bearer ${unknownKey}` } }],
    ["/api/whoami", { headers: { authorization: `Basic ${secret}` } }],
    [`/api/whoami?${secret}=${secret}`, { headers: { authorization: `Bearer ${key}` } }],
    [`/${secret}`, {}],
    [`/api/disclosures/${secret}`, {}],
    [`/api/keys/${secret}`, { method: "DELETE", headers: { authorization: `Bearer ${tenant.keys.admin}` } }],
    ...[`{"role":"${secret}"}`, `{"${secret}":1}`, `{"role":"${secret}`, `{"role":"viewer\0${secret}"}`].map(
      (body): [string, RequestInit] => [
        "/api/keys",
        {
          method: "POST",
          body,
          headers: {
            authorization: `Bearer ${tenant.keys.admin}`,
            "content-type": "application/json",
            "idempotency-key": secret,
          },
        },
      ],
    ),
  ];
  let last: string | null = null;
  for (const [path, init] of requests) {
    const response = await fetch(`${stack.apiUrl}${path}`, init);
    await response.arrayBuffer();
    last = response.headers.get("maestro-request-id");
  }
  await lineOf(last);
  const whole = await readFile(stack.logPaths.workers, "utf8");
  const parts = [secret, key, token, expired, unknownKey, tenant.keys.admin].flatMap((text) => text.split("."));
  for (const part of parts.filter((text) => text.length > 12)) expect(whole).not.toContain(part);
});

test("an error that nobody expected is logged by its name, code and place, without the words that may quote a payload", async () => {
  const secret = "hunter2hunter2hunter2";
  const broken = await localApi(stack, {
    policy: {
      // `sha256` is asked for after the decision, where nothing expects it to throw.
      get sha256(): string {
        throw new RangeError(`failed on ${secret}`, { cause: Object.assign(new Error(secret), { code: "22P02" }) });
      },
      evaluate: () => [],
    },
  });
  const response = await broken.fetch("/api/whoami", { headers: { authorization: `Bearer ${tenant.keys.admin}` } });
  const problem = (await response.json()) as { request_id: string };
  expect([response.status, problem]).toMatchObject([500, { code: "internal" }]);
  expect(JSON.stringify([problem, broken.logged])).not.toContain(secret);
  expect(broken.logged[0]).toMatchObject({
    level: "error",
    message: "unexpected error",
    fields: { request_id: problem.request_id, error: "RangeError < Error", error_code: "22P02" },
  });
  expect(broken.logged[0]?.fields["error_at"]).toMatch(/^at /);
});

test("what is thrown need not be an Error to become a problem", async () => {
  const broken = await localApi(stack, {
    policy: {
      get sha256(): string {
        throw "a string";
      },
      evaluate: () => [],
    },
  });
  const response = await broken.fetch("/api/whoami", { headers: { authorization: `Bearer ${tenant.keys.admin}` } });
  expect([response.status, response.headers.get("content-type")]).toEqual([500, "application/problem+json"]);
});
