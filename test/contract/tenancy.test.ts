// Who is calling, over real HTTP: keys and tokens that are taken, each kind that is not, and the life of an API key.

import { createHmac } from "node:crypto";
import { sql } from "drizzle-orm";
import { generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { roleNames } from "../../shared/contract/names.ts";
import { asTenant, inBatch, type Row } from "../../shared/tenancy/database.ts";
import { insertKey } from "../../shared/tenancy/store.ts";
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
    stack.seedTenant("tenancy-a"),
    stack.seedTenant("tenancy-b"),
  ]);
});

const whoami = (authorization: string): Promise<CheckedAnswer> =>
  api.fetch("/api/whoami", { headers: { authorization } });
const asOwner = async (statement: ReturnType<typeof sql>): Promise<Row[]> => {
  const [rows] = await inBatch(databaseAs(stack, "owner"), [statement]);
  return rows ?? [];
};

let keysSent = 0;
const createKey = (body: unknown = { role: "viewer" }, as = tenant.keys.admin): Promise<CheckedAnswer> =>
  api.fetch("/api/keys", {
    method: "POST",
    body: JSON.stringify(body),
    headers: {
      authorization: `Bearer ${as}`,
      "content-type": "application/json",
      "idempotency-key": `tenancy-${(keysSent += 1)}`,
    },
  });
const revokeKey = (id: string, as = tenant.keys.admin, headers: Record<string, string> = {}): Promise<CheckedAnswer> =>
  api.fetch(`/api/keys/${id}`, { method: "DELETE", headers: { authorization: `Bearer ${as}`, ...headers } });

describe("a credential that is taken", () => {
  test.each(roleNames)("%s, by key and by token, is who the database says", async (role) => {
    const person = {
      tenant_id: tenant.tenant_id,
      tenant: "tenancy-a",
      principal_id: tenant.principals[role],
      kind: role === "publisher" ? "service" : "person",
      role,
      spiffe_id: null,
    };
    const byKey = await whoami(`Bearer ${tenant.keys[role]}`);
    expect([byKey.status, byKey.json]).toEqual([200, { ...person, credential: "key" }]);
    const byToken = await whoami(`Bearer ${await stack.issueToken({ subject: tenant.local_subjects[role] })}`);
    expect([byToken.status, byToken.json]).toEqual([200, { ...person, credential: "token" }]);
  });
});

describe("a credential that is not taken: 401, and not a word of it in the answer:", () => {
  const refusal = async (credential: string): Promise<unknown> => {
    const answer = await whoami(`Bearer ${credential}`);
    expect(answer.status).toBe(401);
    expect(answer.headers.get("www-authenticate")).toMatch(/^Bearer realm="maestro"/);
    const told = JSON.stringify(answer.json);
    for (const part of credential.split(".").filter((text) => text.length > 6)) expect(told).not.toContain(part);
    return answer.json.code;
  };
  const subject = (): string => tenant.local_subjects.admin;

  test("an expired token", async () => {
    expect(await refusal(await stack.issueToken({ subject: subject(), expires_in_s: -120 }))).toBe("token_expired");
  });

  test("a token that is not valid yet", async () => {
    const token = await stack.issueToken({ subject: subject(), not_before_s: 600 });
    expect(await refusal(token)).toBe("token_not_yet_valid");
  });

  test("a token for another audience", async () => {
    const token = await stack.issueToken({ subject: subject(), audience: "https://other.test" });
    expect(await refusal(token)).toBe("token_audience");
  });

  test("a token of a subject that no tenant knows", async () => {
    expect(await refusal(await stack.issueToken({ subject: "stranger@nowhere" }))).toBe("unauthenticated");
  });

  const claims = () => ({
    iss: stack.issuerUrl,
    aud: stack.audience,
    sub: subject(),
    exp: Math.floor(Date.now() / 1000) + 600,
    role: "admin",
  });

  test("a token with alg none", async () => {
    expect(await refusal(new UnsecuredJWT(claims()).encode())).toBe("token_invalid");
  });

  test("a token with HS256 and the issuer's public key as its secret", async () => {
    const { keys } = (await (await fetch(`${stack.issuerUrl}/jwks.json`)).json()) as { keys: { kid: string }[] };
    const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const input = `${part({ alg: "HS256", kid: keys[0]!.kid })}.${part(claims())}`;
    const signature = createHmac("sha256", JSON.stringify(keys[0])).update(input).digest("base64url");
    expect(await refusal(`${input}.${signature}`)).toBe("token_invalid");
  });

  test("a token signed by a stranger under the issuer's kid", async () => {
    const { keys } = (await (await fetch(`${stack.issuerUrl}/jwks.json`)).json()) as { keys: { kid: string }[] };
    const { privateKey } = await generateKeyPair("ES256");
    const token = await new SignJWT(claims()).setProtectedHeader({ alg: "ES256", kid: keys[0]!.kid }).sign(privateKey);
    expect(await refusal(token)).toBe("token_invalid");
  });

  test("a key that was never made, and one of another form", async () => {
    expect(await refusal(`mk_${"a".repeat(32)}`)).toBe("unauthenticated");
    expect(await refusal("mk_short")).toBe("unauthenticated");
  });

  test("a revoked key, from the moment of the answer on", async () => {
    const { json } = await createKey();
    expect((await whoami(`Bearer ${String(json.key)}`)).status).toBe(200);
    expect((await revokeKey(String(json.id))).status).toBe(204);
    expect(await refusal(String(json.key))).toBe("key_revoked");
  });

  test("an expired key", async () => {
    const { json } = await createKey({ role: "viewer", expires_in_days: 1 });
    await asOwner(sql`update api_keys set expires_at = now() - interval '1 second' where id = ${json.id}`);
    expect(await refusal(String(json.key))).toBe("key_expired");
  });

  test("a key and a token of a principal that was disabled", async () => {
    const { json } = await createKey();
    const owned = json.principal_id as string;
    await asOwner(sql`update principals set disabled_at = now() where id = ${owned}`);
    expect(await refusal(String(json.key))).toBe("principal_disabled");
    await asOwner(sql`insert into principal_identities (issuer, subject, tenant_id, principal_id, created_at)
      values (${stack.issuerUrl}, 'disabled@tenancy-a', ${tenant.tenant_id}, ${owned}, now()) on conflict do nothing`);
    expect(await refusal(await stack.issueToken({ subject: "disabled@tenancy-a" }))).toBe("principal_disabled");
  });

  test.each(["", "Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "Bearer a b", "bearer\ta", "mk_aaaa", "Bearer caf\u00e9"])(
    "Authorization: %j",
    async (authorization) => {
      const answer = await whoami(authorization);
      expect(answer.status).toBe(401);
    },
  );
});

describe("an API key", () => {
  test("is shown once, and is for a new service principal with the role asked for", async () => {
    const made = await createKey({ role: "auditor", expires_in_days: 30 });
    expect(made.status).toBe(201);
    const { key, ...row } = made.json as { key: string; id: string; prefix: string; principal_id: string };
    expect((await whoami(`Bearer ${key}`)).json).toMatchObject({
      role: "auditor",
      kind: "service",
      principal_id: row.principal_id,
    });
    const listed = await api.fetch("/api/keys", { headers: { authorization: `Bearer ${tenant.keys.auditor}` } });
    const found = (listed.json.keys as { id: string }[]).find(({ id }) => id === row.id);
    expect(found).toEqual({ ...row, last_used_at: expect.stringMatching(/:\d\d:00\.000Z$/) as string });
    expect(new TextDecoder().decode(listed.bytes)).not.toContain(key);
    const stored = await asOwner(sql`select k::text as key_row from api_keys k where id = ${row.id}`);
    expect(JSON.stringify(stored)).not.toContain(key);
  });

  test("without an end has none, and one with an end has it to the day", async () => {
    const endless = await createKey({ role: "viewer", expires_in_days: null });
    expect(endless.json.expires_at).toBe(null);
    const { json } = await createKey({ role: "viewer" });
    expect(Date.parse(String(json.expires_at)) - Date.parse(String(json.created_at))).toBe(90 * 86_400_000);
  });

  test("is noted as used at most once a minute", async () => {
    const { json } = await createKey();
    const lastUsed = async (): Promise<unknown> =>
      (
        await asOwner(sql`select last_used_at::text as at, xmin::text as version from api_keys where id = ${json.id}`)
      )[0];
    await whoami(`Bearer ${String(json.key)}`);
    const first = await lastUsed();
    await whoami(`Bearer ${String(json.key)}`);
    expect(await lastUsed()).toEqual(first);
    await asOwner(sql`update api_keys set last_used_at = last_used_at - interval '61 seconds' where id = ${json.id}`);
    const older = await lastUsed();
    await whoami(`Bearer ${String(json.key)}`);
    expect(await lastUsed()).not.toEqual(older);
  });

  test("is listed to its own tenant only", async () => {
    const { json } = await createKey({ role: "viewer" }, neighbour.keys.admin);
    const mine = await api.fetch("/api/keys", { headers: { authorization: `Bearer ${tenant.keys.admin}` } });
    expect((mine.json.keys as { id: string }[]).map(({ id }) => id)).not.toContain(json.id);
  });

  test("may be revoked twice, and leaves one event of it; a replay answers as before", async () => {
    const { json } = await createKey();
    const headers = { "idempotency-key": `revoke-${String(json.id)}` };
    const first = await revokeKey(String(json.id), tenant.keys.admin, headers);
    const replay = await revokeKey(String(json.id), tenant.keys.admin, headers);
    expect([first.status, replay.status, replay.headers.get("idempotency-replayed")]).toEqual([204, 204, "true"]);
    expect((await revokeKey(String(json.id))).status).toBe(204);
    await expect
      .poll(() => eventsOf(String(json.id)), { timeout: 20_000 })
      .toEqual(["mc.key.created", "mc.key.revoked"]);
  });

  test("and its event are committed together or not at all", async () => {
    const { json } = await createKey();
    const row = {
      ...(json as Parameters<typeof insertKey>[3]),
      id: "key_00000000000000000000000001",
      principal_id: "pri_00000000000000000000000001",
    };
    const broken = () =>
      sql`insert into outbox (shard, tenant_id, event_id, body) values (0, ${tenant.tenant_id}, 'none', '')`;
    const database = databaseAs(stack, "app");
    await expect(
      insertKey(
        database,
        tenant.tenant_id,
        Date.now(),
        { ...row, secret_sha256: "0".repeat(64), created_by: tenant.principals.admin },
        broken,
        null,
      ),
    ).rejects.toMatchObject({ code: "23514" });
    const [kept] = await asTenant(database, tenant.tenant_id, [
      sql`select id from api_keys where id = ${row.id} union all select id from principals where id = ${row.principal_id}`,
    ]);
    expect(kept).toEqual([]);
  });

  /** Types of the events that name this key, where they are now: still in the outbox, or in the log. */
  async function eventsOf(keyId: string): Promise<unknown[]> {
    const rows = await asOwner(sql`
      select body::jsonb ->> 'type' as type from outbox where body::jsonb -> 'attributes' ->> 'key_id' = ${keyId}
      union select type from audit_events where attrs::jsonb ->> 'key_id' = ${keyId} order by type`);
    return rows.map((row) => row["type"]);
  }
});

// Last in this file: until the API looks for the new key, tokens that it signs are not taken.
test("after a rotation of the issuer's key, tokens of the old and of the new key are taken, without a restart", async () => {
  const before = await stack.issueToken({ subject: tenant.local_subjects.viewer });
  await stack.rotateIssuerKey();
  const after = await stack.issueToken({ subject: tenant.local_subjects.viewer });
  await expect.poll(async () => (await whoami(`Bearer ${after}`)).status, { timeout: 20_000, interval: 500 }).toBe(200);
  expect((await whoami(`Bearer ${before}`)).status).toBe(200);
});
