// Changes of trust domains and workloads that meet one another, and those of which a person says a part alone.

import { sql } from "drizzle-orm";
import { beforeAll, expect, test } from "vitest";
import { maestro, testHost } from "../../cli/testing/host.ts";
import { withClient } from "../../scripts/stack/connection.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { callsAs } from "../support/identities.ts";
import { contractOf } from "../support/openapi.ts";
import { must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let tenant: SeededTenant;
let admin: ReturnType<typeof callsAs>;

beforeAll(async () => {
  tenant = await stack.seedTenant("identity-changes");
  admin = callsAs(await contractOf(stack.apiUrl), { authorization: `Bearer ${tenant.keys.admin}` });
});

test("a SPIFFE ID that is registered while its trust domain is taken back is one of a domain that is not there", async () => {
  const name = "identity-changes-race.example";
  must(204, await admin.state(name));
  await withClient(stack.databaseUrls.owner, async (client) => {
    await client.query("begin");
    await client.query("delete from trust_domains where name = $1", [name]);
    const asked = admin.register(`spiffe://${name}/a`, "viewer");
    const waiting = async (): Promise<number | undefined> => {
      const [rows] = await inBatch(databaseAs(stack, "owner"), [
        sql`select from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into workloads%'`,
      ]);
      return rows?.length;
    };
    await expect.poll(waiting, { timeout: 10_000 }).toBe(1);
    await client.query("commit");
    const { status, json } = await asked;
    expect([status, json["code"]]).toEqual([404, "not_found"]);
  });
  const { json } = await admin.call("GET", "/api/identity/workloads");
  expect(json["workloads"]).toEqual([]);
});

test("by maestro, what is not said of a trust domain that was stated before stays as it is", async () => {
  const name = "identity-changes.example";
  const host = testHost({ env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys.admin } });
  const set = async (...words: string[]): Promise<unknown> => {
    const { code, err } = await maestro(host, "identity", "domain", "set", name, ...words);
    expect([code, err]).toEqual([0, ""]);
    const { shared, endpoint } = (await admin.call("GET", `/api/identity/trust-domains/${name}`)).json;
    return [shared, (endpoint as { readonly url: string } | null)?.url];
  };
  const url = "https://spire.example/bundle";
  expect(await set()).toEqual([false, undefined]);
  expect(await set("--shared")).toEqual([true, undefined]);
  expect(await set("--url", url)).toEqual([true, url]);
  expect(await set()).toEqual([true, url]);
  expect(await set("--no-url")).toEqual([true, undefined]);
  expect(await set("--no-shared", "--url", url)).toEqual([false, url]);
});

test("by maestro, an ID or a folder that cannot be is refused in words, and nothing is sent", async () => {
  const host = testHost({ env: { MAESTRO_API_URL: "http://127.0.0.1:9", MAESTRO_API_KEY: tenant.keys.admin } });
  for (const [id, words] of [
    ["spiffe://acme.example/a%20b", "only letters, digits, dots"],
    ["spiffe://acme.example/a/", "no slash at its end"],
    ["spiffe://acme.example", "has a path"],
    ["spiffe://ACME.example/a", "a-z"],
    ["https://acme.example/a", "begins with spiffe://"],
  ] as const) {
    const { code, err } = await maestro(host, "identity", "workload", "add", id, "--role", "viewer");
    expect([id, code, err]).toEqual([id, 2, expect.stringContaining(words)]);
  }
  const push = testHost({ env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys.admin } });
  const unknown = await maestro(push, "identity", "bundle", "push", "identity-changes-none.example");
  expect([unknown.code, unknown.err]).toEqual([4, expect.stringContaining("maestro identity domain set")]);
});
