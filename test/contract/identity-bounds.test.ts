// How many trust domains and workloads a tenant may have, on the real API and Postgres.

import { sql } from "drizzle-orm";
import { beforeAll, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { trustDomainsMax } from "../../shared/identity/store.ts";
import { workloadsMax } from "../../shared/identity/workload-store.ts";
import { inBatch, type Database } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { callsAs } from "../support/identities.ts";
import { contractOf } from "../support/openapi.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let owner: Database;
let tenant: SeededTenant;
let admin: ReturnType<typeof callsAs>;

beforeAll(async () => {
  owner = databaseAs(stack, "owner");
  tenant = await stack.seedTenant("identity-bounds");
  admin = callsAs(await contractOf(stack.apiUrl), { authorization: `Bearer ${tenant.keys.admin}` });
});

test("beyond the most trust domains none is stated anew; those that are there change, and one that goes makes room", async () => {
  await inBatch(owner, [
    sql`insert into trust_domains (name, tenant_id, created_at, created_by)
        select 'd' || g || '.bounds.example', ${tenant.tenant_id}::uuid, now(), 'x' from generate_series(1, ${trustDomainsMax}::int) g`,
  ]);
  const refused = await admin.state("more.bounds.example");
  expect([refused.status, refused.json["code"]]).toEqual([409, "identity_full"]);
  expect((await admin.state("d1.bounds.example")).status).toBe(204);
  expect((await admin.call("DELETE", "/api/identity/trust-domains/d2.bounds.example")).status).toBe(204);
  expect((await admin.state("more.bounds.example")).status).toBe(204);
});

test("beyond the most SPIFFE IDs none is registered, nor its principal; one that goes makes room", async () => {
  const id = sql`'pri_' || lpad('bnd' || g, 26, '0')`;
  const all = sql`from generate_series(1, ${workloadsMax}::int) g`;
  await inBatch(owner, [
    sql`insert into principals (tenant_id, id, kind, role, created_at)
        select ${tenant.tenant_id}::uuid, ${id}, 'service', 'viewer', now() ${all}`,
    sql`insert into workloads (spiffe_id, trust_domain, tenant_id, principal_id, created_at, created_by)
        select 'spiffe://d1.bounds.example/w' || g, 'd1.bounds.example', ${tenant.tenant_id}::uuid, ${id}, now(), 'x' ${all}`,
  ]);
  const count = async (): Promise<unknown> =>
    (
      await inBatch(owner, [
        sql`select count(*)::int as count from principals where tenant_id = ${tenant.tenant_id}::uuid`,
      ])
    )[0]?.[0]?.["count"];
  const before = await count();
  const refused = await admin.register("spiffe://d1.bounds.example/more", "viewer");
  expect([refused.status, refused.json["code"]]).toEqual([409, "identity_full"]);
  expect(await count()).toBe(before);
  await inBatch(owner, [sql`delete from workloads where spiffe_id = 'spiffe://d1.bounds.example/w1'`]);
  expect((await admin.register("spiffe://d1.bounds.example/more", "viewer")).status).toBe(201);
});
