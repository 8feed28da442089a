// The stack's own parts, on the real stack: the Neon proxy as the driver sees it, the local issuer, seeding, migrations.

import { neon, neonConfig, Pool } from "@neondatabase/serverless";
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from "jose";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { describe, expect, test } from "vitest";
import WebSocket from "ws";
import { migrate, readMigrations } from "../../scripts/stack/migrate.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
neonConfig.fetchEndpoint = stack.neonEndpoint;
const auth = neon(stack.databaseUrls.auth);
const app = neon(stack.databaseUrls.app);

describe("the Neon proxy", () => {
  test("answers values with their types, and no rows as no rows", async () => {
    const rows =
      await auth`select 1::int as number, 'x' as text, null as nothing, '{"a":1}'::jsonb as document, true as yes,
      '\\x00ff'::bytea as bytes, array[1,2]::int[] as list`;
    expect(rows).toEqual([
      {
        number: 1,
        text: "x",
        nothing: null,
        document: { a: 1 },
        yes: true,
        bytes: Buffer.from([0, 255]),
        list: [1, 2],
      },
    ]);
    expect(await auth`select 1 where false`).toEqual([]);
  });

  test("answers arrays and full results when asked", async () => {
    const full = await auth.query("select $1::text as a, $2::text as a", ["x", "y"], {
      arrayMode: true,
      fullResults: true,
    });
    expect(full.rows).toEqual([["x", "y"]]);
    expect(full).toMatchObject({ command: "SELECT", rowCount: 1 });
  });

  test("tells an error's SQLSTATE and constraint", async () => {
    const { tenant_id } = await stack.seedTenant("stack-errors");
    const twice = neon(
      stack.databaseUrls.owner,
    )`insert into tenants (id, slug, created_at) values (${tenant_id}, 'other', now())`;
    await expect(twice).rejects.toMatchObject({
      code: "23505",
      constraint: "tenants_pkey",
      table: "tenants",
      severity: "ERROR",
    });
    await expect(auth.query("select 1; select 2")).rejects.toMatchObject({ code: "42601" });
  });

  test("refuses a wrong password with PostgreSQL's own code", async () => {
    const wrong = neon(stack.databaseUrls.app.replace(/:[^:@]+@/, ":wrong@"));
    await expect(wrong`select 1`).rejects.toMatchObject({ code: "28P01" });
  });

  test("runs a batch as one transaction: all of it or nothing", async () => {
    const slug = `stack-batch-${Date.now()}`;
    const as = neon(stack.databaseUrls.owner);
    const insert = (id: string) =>
      as`insert into tenants (id, slug, created_at) values (gen_random_uuid(), ${id}, now())`;
    await expect(as.transaction([insert(slug), as`select 1 / 0`])).rejects.toMatchObject({ code: "22012" });
    expect(await as`select from tenants where slug = ${slug}`).toHaveLength(0);
    const [, rows] = await as.transaction([insert(slug), as`select slug from tenants where slug = ${slug}`]);
    expect(rows).toEqual([{ slug }]);
  });

  test("honours isolation level and read-only", async () => {
    const [rows] = await auth.transaction(
      [
        auth`select current_setting('transaction_isolation') as level, current_setting('transaction_read_only') as only`,
      ],
      {
        isolationLevel: "Serializable",
        readOnly: true,
      },
    );
    expect(rows).toEqual([{ level: "serializable", only: "on" }]);
  });

  test("lets no setting of one request reach the next", async () => {
    await app`select set_config('app.tenant', '7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001', false)`;
    const seen = await Promise.all(
      Array.from({ length: 20 }, () => app`select current_setting('app.tenant', true) as tenant`),
    );
    for (const [row] of seen) expect(row?.["tenant"] || null).toBeNull();
  });

  test("relays a WebSocket to PostgreSQL, for interactive transactions", async () => {
    neonConfig.webSocketConstructor = WebSocket;
    neonConfig.wsProxy = () => `${new URL(stack.neonEndpoint).host}/v2`;
    neonConfig.useSecureWebSocket = false;
    neonConfig.pipelineTLS = false;
    const pool = new Pool({ connectionString: stack.databaseUrls.auth });
    pool.on("error", () => {});
    const client = await pool.connect();
    try {
      await client.query("begin");
      expect((await client.query("select current_user as name")).rows).toEqual([{ name: "maestro_auth" }]);
      await client.query("rollback");
    } finally {
      client.release();
      await pool.end();
    }
  });

  test("says that the database is away while it is, and works again when it is back", async () => {
    await stack.postgres.stop();
    try {
      await expect(auth`select 1`).rejects.toMatchObject({ code: "08006" });
    } finally {
      await stack.postgres.start();
    }
    expect(await auth`select 1 as one`).toEqual([{ one: 1 }]);
  });
});

describe("the local issuer", () => {
  const keys = createRemoteJWKSet(new URL(`${stack.issuerUrl}/jwks.json`), { cooldownDuration: 0 });

  test("publishes where its keys are, and signs tokens that they verify", async () => {
    const discovery = (await (await fetch(`${stack.issuerUrl}/.well-known/openid-configuration`)).json()) as Record<
      string,
      unknown
    >;
    expect(discovery).toMatchObject({ issuer: stack.issuerUrl, jwks_uri: `${stack.issuerUrl}/jwks.json` });
    const token = await stack.issueToken({ subject: "someone" });
    const { payload } = await jwtVerify(token, keys, { issuer: stack.issuerUrl, audience: stack.audience });
    expect(payload.sub).toBe("someone");
  });

  test("keeps the old key published after a rotation", async () => {
    const old = await stack.issueToken({ subject: "someone" });
    const kid = await stack.rotateIssuerKey();
    const fresh = await stack.issueToken({ subject: "someone" });
    expect(decodeProtectedHeader(fresh).kid).toBe(kid);
    expect(decodeProtectedHeader(old).kid).not.toBe(kid);
    for (const token of [old, fresh])
      await jwtVerify(token, keys, { issuer: stack.issuerUrl, audience: stack.audience });
  });

  test("gives a token to those who hold the state folder's secret only", async () => {
    const path = join(stack.folder, "local-issuer.json");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const local = JSON.parse(readFileSync(path, "utf8")) as { token_url: string; secret: string };
    const ask = (secret: string, body: string): Promise<Response> =>
      fetch(local.token_url, { method: "POST", headers: { authorization: `Bearer ${secret}` }, body });
    expect((await ask("wrong", '{"subject":"someone"}')).status).toBe(401);
    expect((await ask(local.secret, "{}")).status).toBe(400);
    const answer = await ask(local.secret, '{"subject":"someone"}');
    expect(answer.status).toBe(200);
    expect(await answer.json()).toMatchObject({ token_type: "Bearer" });
  });
});

test("seeding a tenant twice gives the same tenant, with keys that the database knows by digest only", async () => {
  const once = await stack.seedTenant("stack-twice");
  expect(await stack.seedTenant("stack-twice")).toEqual(once);
  const rows = await auth`select secret_sha256 from api_keys where tenant_id = ${once.tenant_id}`;
  expect(rows).toHaveLength(7);
  expect(JSON.stringify(rows)).not.toContain(once.keys.admin);
});

describe("migrations", () => {
  const folder = new URL("../../migrations", import.meta.url).pathname;
  const connect = async (): Promise<pg.Client> => {
    const client = new pg.Client({ connectionString: stack.databaseUrls.owner });
    await client.connect();
    return client;
  };

  test("are applied once", async () => {
    const client = await connect();
    expect(await migrate(client, readMigrations(folder))).toEqual([]);
    await client.end();
  });

  test("an applied one that has changed is refused with one sentence", async () => {
    const client = await connect();
    const changed = readMigrations(folder).map((migration, index) =>
      index === 1 ? { ...migration, sha256: "0".repeat(64) } : migration,
    );
    await expect(migrate(client, changed)).rejects.toThrow(
      `The migration ${changed[1]?.name} has changed since this database applied it.`,
    );
    await expect(migrate(client, readMigrations(folder).slice(0, 2))).rejects.toThrow("is not there any more");
    await client.end();
  });

  test("a failing one leaves nothing behind", async () => {
    const client = await connect();
    const failing = {
      name: "9999_failing.sql",
      sql: "create table half (id int); select 1 / 0",
      sha256: "f".repeat(64),
    };
    await expect(migrate(client, [...readMigrations(folder), failing])).rejects.toThrow("nothing of it was kept");
    expect((await client.query("select from pg_tables where tablename = 'half'")).rowCount).toBe(0);
    await client.end();
  });
});
