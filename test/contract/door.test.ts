// The door, over real HTTP: bad input gets a clear problem and changes nothing, a key makes a change once, and what is
// not there looks the same whoever asks.

import { request as httpRequest } from "node:http";
import { sql } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { contractOf, type CheckedAnswer, type Contract } from "../support/openapi.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let api: Contract;
let tenant: SeededTenant;
let neighbour: SeededTenant;

beforeAll(async () => {
  [api, tenant, neighbour] = await Promise.all([
    contractOf(stack.apiUrl),
    stack.seedTenant("door-a"),
    stack.seedTenant("door-b"),
  ]);
});

let keysSent = 0;
const newKey = (): string => `door-${(keysSent += 1)}`;

interface Sent {
  readonly body?: BodyInit;
  readonly headers?: Record<string, string>;
  readonly as?: string;
}
const bearer = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });
const createKey = ({
  body = '{"role":"viewer"}',
  headers = {},
  as = tenant.keys.admin,
}: Sent = {}): Promise<CheckedAnswer> =>
  api.fetch("/api/keys", {
    method: "POST",
    body,
    headers: { ...bearer(as), "content-type": "application/json", "idempotency-key": newKey(), ...headers },
    duplex: "half",
  } as RequestInit);

/** Rows that a refused request must not have touched. */
async function rowCounts(): Promise<unknown> {
  const [rows] = await inBatch(databaseAs(stack, "owner"), [
    sql`select (select count(*)::int from principals where tenant_id = ${tenant.tenant_id}) as principals,
          (select count(*)::int from api_keys where tenant_id = ${tenant.tenant_id}) as api_keys,
          (select count(*)::int from idempotency_keys where tenant_id = ${tenant.tenant_id}) as idempotency_keys`,
  ]);
  return rows?.[0];
}

async function expectNothingChanged(work: () => Promise<void>): Promise<void> {
  const before = await rowCounts();
  await work();
  expect(await rowCounts()).toEqual(before);
}

describe("a body that is refused changes nothing:", () => {
  const megabyte = 1024 * 1024;
  const padded = (size: number): string => `{"role":"viewer"${" ".repeat(size - 17)}}`;

  test.each<[string, BodyInit, number, string]>([
    ["malformed JSON", '{"role":', 400, "malformed_json"],
    ["no body at all", "", 400, "malformed_json"],
    ["a name that comes twice", '{"role":"viewer","role":"admin"}', 400, "malformed_json"],
    ["bytes that are not UTF-8", new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]), 400, "not_utf8"],
    ["a NUL character", '{"role":"viewer\0"}', 400, "not_utf8"],
    ["a NUL by its escape", String.raw`{"role":"viewer\u0000"}`, 400, "not_utf8"],
    ["an unknown field", '{"role":"viewer","name":"Ada"}', 400, "invalid_request"],
    ["a wrong type", '{"role":"viewer","expires_in_days":"90"}', 400, "invalid_request"],
    ["a value out of its range", '{"role":"viewer","expires_in_days":367}', 400, "invalid_request"],
    ["a missing field", "{}", 400, "invalid_request"],
    ["an array in place of an object", "[]", 400, "invalid_request"],
    ["a role that does not exist", '{"role":"root"}', 400, "invalid_request"],
    ["one byte over 1 MiB", padded(megabyte + 1), 413, "too_large"],
  ])("%s", async (_, body, status, code) => {
    await expectNothingChanged(async () => {
      const answer = await createKey({ body });
      expect(answer.status).toBe(status);
      expect(answer.json).toMatchObject({ code, status });
    });
  });

  test("the errors name each field by a JSON Pointer", async () => {
    const answer = await createKey({ body: '{"role":1,"expires_in_days":"x","a/b":0}' });
    const paths = (answer.json.errors as { path: string }[]).map(({ path }) => path);
    expect(paths.toSorted()).toEqual(["#/a~1b", "#/expires_in_days", "#/role"]);
  });

  test("exactly 1 MiB is taken", async () => {
    expect((await createKey({ body: padded(megabyte) })).status).toBe(201);
  });

  test("over 1 MiB in chunks, with no Content-Length to tell", async () => {
    await expectNothingChanged(async () => {
      const { status, body } = await chunked(megabyte + 70_000);
      expect(status).toBe(413);
      expect(JSON.parse(body)).toMatchObject({ code: "too_large", bytes_max: megabyte });
    });
  });

  test("a content type that is not JSON, and a content coding", async () => {
    await expectNothingChanged(async () => {
      const typed = await createKey({ headers: { "content-type": "text/plain" } });
      expect([typed.status, typed.json.accept]).toEqual([415, ["application/json"]]);
      expect((await createKey({ headers: { "content-encoding": "gzip" } })).status).toBe(415);
    });
  });

  test("an unknown query parameter", async () => {
    const answer = await api.fetch("/api/whoami?verbose=1", { headers: bearer(tenant.keys.viewer) });
    expect(answer.json).toMatchObject({ code: "invalid_request", errors: [{ path: "?verbose" }] });
  });

  test.each([
    ["a NUL", "\0"],
    ["half of a surrogate pair", "\ud800"],
  ])("%s in a cursor or in a signed header, as in a body", async (_, text) => {
    const encoded = (value: unknown): string => btoa(JSON.stringify(value));
    const cursor = encoded([text, `rel_${"0".repeat(26)}`]);
    const versions = await api.fetch(
      `/api/market/versions?${new URLSearchParams({ package: "door/tool", cursor }).toString()}`,
      { headers: bearer(tenant.keys.viewer) },
    );
    expect([versions.status, versions.json.code]).toEqual([400, "invalid_request"]);
    const envelope = encoded({
      mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
      verificationMaterial: { publicKey: { hint: text } },
      dsseEnvelope: { payloadType: "x", payload: "", signatures: [{ sig: "", keyid: text }] },
    });
    const release = await api.fetch("/api/market/releases", {
      method: "POST",
      body: new Uint8Array(8),
      headers: {
        ...bearer(tenant.keys.publisher),
        "content-type": "application/gzip",
        "maestro-release-bundle": envelope,
        "idempotency-key": newKey(),
      },
    });
    expect([release.status, release.json.code]).toEqual([422, "release_invalid"]);
  });

  /** A POST by chunks: fetch would count them and say so. */
  function chunked(byteCount: number): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = new URL(stack.apiUrl);
      const sent = httpRequest(
        {
          hostname,
          port,
          path: "/api/keys",
          method: "POST",
          headers: { ...bearer(tenant.keys.admin), "content-type": "application/json", "idempotency-key": newKey() },
        },
        (response) => {
          let body = "";
          response.setEncoding("utf8");
          response.on("data", (part: string) => (body += part));
          response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
        },
      );
      sent.on("error", reject);
      for (let left = byteCount; left > 0; left -= 65_536) sent.write(" ".repeat(Math.min(left, 65_536)));
      sent.end();
    });
  }
});

describe("Idempotency-Key", () => {
  test.each<[string, Record<string, string>, string]>([
    ["missing", {}, "idempotency_key_missing"],
    ["empty", { "idempotency-key": "" }, "idempotency_key_invalid"],
    ["too long", { "idempotency-key": "k".repeat(256) }, "idempotency_key_invalid"],
    ["with a space", { "idempotency-key": "a b" }, "idempotency_key_invalid"],
    ["sent twice", { "idempotency-key": "a, b" }, "idempotency_key_invalid"],
    ["not ASCII", { "idempotency-key": "caf\u00e9" }, "idempotency_key_invalid"],
  ])("%s is refused, and nothing is made", async (_, headers, code) => {
    await expectNothingChanged(async () => {
      const answer = await api.fetch("/api/keys", {
        method: "POST",
        body: '{"role":"viewer"}',
        headers: { ...bearer(tenant.keys.admin), "content-type": "application/json", ...headers },
      });
      expect([answer.status, answer.json.code]).toEqual([400, code]);
    });
  });

  test("with the same body gives the same answer and makes one thing", async () => {
    const headers = { "idempotency-key": newKey() };
    const first = await createKey({ headers });
    const again = await createKey({ headers });
    expect([first.status, first.headers.get("idempotency-replayed")]).toEqual([201, null]);
    expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([201, "true"]);
    expect(again.json).toEqual({ ...first.json, key: null });
  });

  test("with another body is refused, and the first answer stands", async () => {
    const headers = { "idempotency-key": newKey() };
    const first = await createKey({ headers });
    await expectNothingChanged(async () => {
      const other = await createKey({ headers, body: '{"role":"operator"}' });
      expect([other.status, other.json.code]).toEqual([409, "idempotency_conflict"]);
    });
    expect((await createKey({ headers })).json.id).toBe(first.json.id);
  });

  test("is the principal's own: another tenant's same key is another intent", async () => {
    const headers = { "idempotency-key": newKey() };
    const mine = await createKey({ headers });
    const theirs = await createKey({ headers, as: neighbour.keys.admin, body: '{"role":"operator"}' });
    expect([mine.status, theirs.status]).toEqual([201, 201]);
    expect(theirs.json.id).not.toBe(mine.json.id);
  });

  test("in twenty requests at once makes one thing, and all get its answer", async () => {
    const headers = { "idempotency-key": newKey() };
    const answers = await Promise.all(Array.from({ length: 20 }, () => createKey({ headers })));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(answers.map(({ json }) => json.id as string)).size).toBe(1);
    expect(answers.filter(({ headers: given }) => given.get("idempotency-replayed") === null)).toHaveLength(1);
    expect(answers.filter(({ json }) => json.key !== null)).toHaveLength(1);
  });

  test("is forgotten after its window: the same key is a new intent then", async () => {
    const headers = { "idempotency-key": newKey() };
    const first = await createKey({ headers });
    await inBatch(databaseAs(stack, "owner"), [
      sql`update idempotency_keys set expires_at = now() - interval '1 second'
          where tenant_id = ${tenant.tenant_id} and key = ${headers["idempotency-key"]}`,
    ]);
    const second = await createKey({ headers, body: '{"role":"operator"}' });
    expect([second.status, second.headers.get("idempotency-replayed")]).toEqual([201, null]);
    expect(second.json.id).not.toBe(first.json.id);
  });
});

describe("what is not here", () => {
  const withoutId = ({ json }: CheckedAnswer): unknown => ({ ...json, request_id: "" });

  test("answers alike, missing, foreign, malformed or no route at all: 404, the same body but for the request id", async () => {
    const theirs = await createKey({ as: neighbour.keys.admin });
    const remove = (path: string): Promise<CheckedAnswer> =>
      api.fetch(path, { method: "DELETE", headers: bearer(tenant.keys.admin) });
    const answers = [
      await remove("/api/keys/key_00000000000000000000000000"),
      await remove(`/api/keys/${String(theirs.json.id)}`),
      await remove("/api/keys/not-an-id"),
      await remove("/api/keys/key_%00"),
      await remove("/api/keys/%FF"),
      await api.fetch("/api/nothing", { headers: bearer(tenant.keys.admin) }),
      await api.fetch("/api/whoami/", { headers: bearer(tenant.keys.admin) }),
    ];
    for (const answer of answers) {
      expect(answer.status).toBe(404);
      expect(withoutId(answer)).toEqual(withoutId(answers[0]!));
    }
    expect(new Set(answers.map(({ json }) => json.request_id as string)).size).toBe(answers.length);
    const still = await api.fetch("/api/whoami", { headers: bearer(String(theirs.json.key)) });
    expect(still.status).toBe(200);
  });

  test("a path with a colon is that path, written out or escaped, and no other", async () => {
    const link = (segment: string): Promise<CheckedAnswer> =>
      api.fetch(`/api/executions/exe_00000000000000000000000000/${segment}`, { headers: bearer(tenant.keys.viewer) });
    for (const segment of ["disclosure:link", "disclosure%3Alink", "disclosure%3alink"]) {
      expect([segment, (await link(segment)).json.code]).toEqual([segment, "role_too_low"]);
    }
    for (const segment of ["disclosureX", "disclosure:links", "xdisclosure:link", "disclosure", "disclosure-link"]) {
      expect([segment, (await link(segment)).json.code]).toEqual([segment, "not_found"]);
    }
  });

  test("a method that the path does not take is told which it does", async () => {
    const answer = await api.fetch("/api/keys", { method: "PATCH", headers: bearer(tenant.keys.admin) });
    expect(answer.status).toBe(405);
    expect(answer.headers.get("allow")).toBe("POST, GET, HEAD, OPTIONS");
    expect(answer.json).toMatchObject({ code: "method_not_allowed" });
  });
});

describe("every answer", () => {
  test("has a request id of ours, whatever the caller sent as one", async () => {
    const answer = await api.fetch("/api/whoami", {
      headers: { "request-id": "mine", "x-request-id": "mine", "maestro-request-id": "mine", traceparent: "mine" },
    });
    expect(answer.json.request_id).toMatch(/^req_[0-9a-z]{26}$/);
    expect(answer.headers.get("maestro-request-id")).toBe(answer.json.request_id);
  });

  test("is not cached, sniffed, framed, or given to another origin", async () => {
    for (const path of ["/api/whoami", "/nothing", "/healthz"]) {
      const { headers } = await api.fetch(path, { headers: { origin: "https://evil.test" } });
      expect(headers.get("cache-control")).toBe("no-store");
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("content-security-policy")).toBe("default-src 'none'; frame-ancestors 'none'");
      expect([...headers.keys()].filter((name) => name.startsWith("access-control-"))).toEqual([]);
    }
  });

  test("to OPTIONS names the methods and opens nothing to another origin; HEAD is GET without its body", async () => {
    const headers = { origin: "https://evil.test", "access-control-request-method": "POST" };
    const options = await fetch(`${stack.apiUrl}/api/keys`, { method: "OPTIONS", headers });
    expect([options.status, options.headers.get("allow")]).toEqual([204, "POST, GET, HEAD, OPTIONS"]);
    expect(options.headers.get("access-control-allow-origin")).toBe(null);
    const head = await fetch(`${stack.apiUrl}/api/whoami`, { method: "HEAD", headers: bearer(tenant.keys.viewer) });
    expect([head.status, await head.text()]).toEqual([200, ""]);
    expect((await fetch(`${stack.apiUrl}/api/whoami`, { method: "HEAD" })).status).toBe(401);
  });
});

describe("a role too low", () => {
  test("is 403, names the role, those that do and the way there, and is told to the log", async () => {
    const { json, status } = await createKey({ as: tenant.keys.viewer });
    expect(status).toBe(403);
    expect(json).toMatchObject({
      code: "role_too_low",
      rule: "role_too_low",
      role: "viewer",
      roles_allowed: ["admin"],
      reasons: ["The role viewer does not allow key.create; only admin does."],
      fix: { method: "POST", path: "/api/keys", body: { role: "admin" } },
    });
    const found = async (): Promise<unknown[]> => {
      const [rows] = await inBatch(databaseAs(stack, "owner"), [
        sql`select body::jsonb -> 'attributes' as attributes from outbox where tenant_id = ${tenant.tenant_id}
              and body::jsonb ->> 'principal' = ${tenant.principals.viewer}
            union all select attrs::jsonb from audit_events where tenant_id = ${tenant.tenant_id}
              and principal = ${tenant.principals.viewer} and type = 'mc.policy.decision'`,
      ]);
      return (rows ?? []).map((row) => row["attributes"]);
    };
    await expect
      .poll(found, { timeout: 20_000 })
      .toContainEqual(expect.objectContaining({ action: "key.create", outcome: "deny", rule: "role_too_low" }));
  });

  test("is decided before the body is looked at, and before anything is looked up", async () => {
    await expectNothingChanged(async () => {
      const broken = await createKey({ as: tenant.keys.viewer, body: "{", headers: { "idempotency-key": "" } });
      expect(broken.json.code).toBe("role_too_low");
    });
    const missing = await api.fetch("/api/keys/key_00000000000000000000000000", {
      method: "DELETE",
      headers: bearer(tenant.keys.viewer),
    });
    expect(missing.json.code).toBe("role_too_low");
  });
});

describe("while Postgres is down", () => {
  test("every decided route says so with Retry-After, nothing is lost, and it recovers by itself", async () => {
    const headers = { "idempotency-key": newKey() };
    await stack.postgres.stop();
    try {
      for (const answer of [
        await api.fetch("/api/whoami", { headers: bearer(tenant.keys.admin) }),
        await createKey({ headers }),
      ]) {
        expect([answer.status, answer.json.code, answer.headers.get("retry-after")]).toEqual([
          503,
          "database_unavailable",
          "1",
        ]);
      }
      const health = await api.fetch("/healthz");
      expect([health.status, health.json.database]).toEqual([503, "unreachable"]);
    } finally {
      await stack.postgres.start();
    }
    const made = await createKey({ headers });
    expect([made.status, made.headers.get("idempotency-replayed")]).toEqual([201, null]);
    expect((await api.fetch("/healthz")).json).toMatchObject({ status: "ok", database: "ok", audit: "ok" });
  });
});
