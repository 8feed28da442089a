// What is asked with each API key: has its tenant registered a fetcher's SPIFFE ID? On the real Postgres, with many that are none.

import { sql, type SQL } from "drizzle-orm";
import { beforeAll, expect, test } from "vitest";
import { inBatch, type Database, type Row } from "../../shared/tenancy/database.ts";
import { fetcherRegistered } from "../../shared/tenancy/store.ts";
import { databaseAs } from "../support/api.ts";
import { useStack } from "../support/stack.ts";

/** The pages that the look itself may take, without those by which the key is found: a path down an index, and a row. */
const pagesMax = 6;
const others = 2_000;
const domain = "registered.example";

const stack = useStack();
let owner: Database;
let auth: Database;
let tenantId: string;
let keyId: string;
const one = async (database: Database, statement: SQL): Promise<Row[]> =>
  (await inBatch(database, [statement]))[0] ?? [];

/** Workloads from `first` on to `last`, of principals that are made for them. */
async function register(role: "viewer" | "fetcher", first: number, last: number): Promise<void> {
  const id = sql`'pri_' || lpad('reg' || g, 26, '0')`;
  const all = sql`from generate_series(${first}::int, ${last}::int) g`;
  await inBatch(owner, [
    sql`insert into principals (tenant_id, id, kind, role, created_at)
        select ${tenantId}::uuid, ${id}, 'service', ${role}, now() ${all}`,
    sql`insert into workloads (spiffe_id, trust_domain, tenant_id, principal_id, created_at, created_by)
        select 'spiffe://' || ${domain}::text || '/' || g, ${domain}, ${tenantId}::uuid, ${id}, now(), 'x' ${all}`,
  ]);
}

interface Plan {
  readonly "Parent Relationship"?: string;
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
  readonly Plans?: readonly Plan[];
}

async function asked(): Promise<{ readonly isRegistered: unknown; readonly pages: number }> {
  const question = sql`select ${fetcherRegistered} as registered from api_keys k where k.id = ${keyId}`;
  const [answer] = await one(auth, question);
  const [explained] = await one(auth, sql`explain (analyze, buffers, format json) ${question}`);
  const [{ Plan: plan }] = explained!["QUERY PLAN"] as [{ readonly Plan: Plan }];
  const looks = plan.Plans!.filter((part) => part["Parent Relationship"] === "SubPlan");
  expect(looks).toHaveLength(1);
  return {
    isRegistered: answer!["registered"],
    pages: looks[0]!["Shared Hit Blocks"] + looks[0]!["Shared Read Blocks"],
  };
}

beforeAll(async () => {
  owner = databaseAs(stack, "owner");
  auth = databaseAs(stack, "auth");
  const tenant = await stack.seedTenant("registered");
  tenantId = tenant.tenant_id;
  const [key] = await one(owner, sql`select id from api_keys where tenant_id = ${tenantId}::uuid limit 1`);
  keyId = String(key!["id"]);
  await one(
    owner,
    sql`insert into trust_domains (name, tenant_id, created_at, created_by) values (${domain}, ${tenantId}, now(), 'x')`,
  );
  await register("viewer", 1, others);
  await one(owner, sql`analyze workloads`);
});

test("is answered by one look into an index, whatever else the tenant has registered, and follows the principal's role", async () => {
  const none = await asked();
  await register("fetcher", others + 1, others + 1);
  const registered = await asked();
  await one(
    owner,
    sql`update principals set role = 'viewer' where tenant_id = ${tenantId}::uuid and role = 'fetcher'
      and id in (select principal_id from workloads)`,
  );
  const changed = await asked();
  expect([none, registered, changed].map(({ isRegistered }) => isRegistered)).toEqual([false, true, false]);
  expect(Math.max(none.pages, registered.pages, changed.pages)).toBeLessThanOrEqual(pagesMax);
});
