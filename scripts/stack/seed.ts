// Seeds a tenant for local use: one principal a role, its outside identity at the local issuer, and one API key each. Called
// by startStack and tests. What it makes is planned in a private file first, so that doing it twice does it once.

import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type pg from "pg";
import { newId } from "../../shared/contract/ids.ts";
import { roleNames, type Role } from "../../shared/contract/names.ts";
import { mintApiKey } from "../../shared/tenancy/api-key.ts";
import { readJson, writePrivateJson } from "./state.ts";

export interface SeededTenant {
  readonly tenant_id: string;
  readonly slug: string;
  /** API keys by role. */
  readonly keys: Readonly<Record<Role, string>>;
  /** Principal ids by role. */
  readonly principals: Readonly<Record<Role, string>>;
  /** Subjects by role, for `issueToken`. */
  readonly local_subjects: Readonly<Record<Role, string>>;
}

interface Plan extends SeededTenant {
  readonly created_at: string;
  readonly key_rows: Readonly<Record<Role, { id: string; prefix: string; secret_sha256: string }>>;
}

async function byRole<T>(make: (role: Role) => T | Promise<T>): Promise<Record<Role, T>> {
  return {
    admin: await make("admin"),
    operator: await make("operator"),
    auditor: await make("auditor"),
    publisher: await make("publisher"),
    reviewer: await make("reviewer"),
    viewer: await make("viewer"),
    fetcher: await make("fetcher"),
  };
}

async function makePlan(slug: string, now: number): Promise<Plan> {
  const keys = await byRole(() => mintApiKey(randomBytes(32)));
  return {
    tenant_id: randomUUID(),
    slug,
    created_at: new Date(now).toISOString(),
    keys: await byRole((role) => keys[role].key),
    principals: await byRole(() => newId("principal", now, randomBytes(10))),
    local_subjects: await byRole((role) => `${role}@${slug}.local`),
    key_rows: await byRole((role) => ({
      id: newId("apiKey", now, randomBytes(10)),
      prefix: keys[role].prefix,
      secret_sha256: keys[role].secret_sha256,
    })),
  };
}

/** A plan of before a role existed keeps all that it has, and gets that role. */
const withRolesOf = (made: Plan, before: Plan | null): Plan =>
  before === null
    ? made
    : {
        ...before,
        keys: { ...made.keys, ...before.keys },
        principals: { ...made.principals, ...before.principals },
        local_subjects: { ...made.local_subjects, ...before.local_subjects },
        key_rows: { ...made.key_rows, ...before.key_rows },
      };

export interface SeedOptions {
  /** Whether the tenant's reviewers review what any tenant submits; told at the first seeding. True unless told: locally one tenant does everything. */
  readonly curates?: boolean;
}

/** `client` is the owner's. `issuer` is the URL of the local issuer, which may have moved to another port since. */
export async function seedTenant(
  client: pg.Client,
  folder: string,
  slug: string,
  issuer: string,
  { curates = true }: SeedOptions = {},
): Promise<SeededTenant> {
  if (!/^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(slug)) throw new TypeError(`not a tenant's slug: ${slug}`);
  mkdirSync(join(folder, "tenants"), { recursive: true, mode: 0o700 });
  const path = join(folder, "tenants", `${slug}.json`);
  let plan = readJson(path) as Plan | null;
  if (plan === null || roleNames.some((role) => !Object.hasOwn(plan!.keys, role))) {
    plan = withRolesOf(await makePlan(slug, Date.now()), plan);
    writePrivateJson(path, plan);
  }
  await client.query("begin");
  try {
    await client.query(
      "insert into tenants (id, slug, created_at, curates) values ($1, $2, $3, $4) on conflict do nothing",
      [plan.tenant_id, slug, plan.created_at, curates],
    );
    // A tenant of before there was a review has nobody else to do it.
    if (curates) await client.query("update tenants set curates = true where id = $1", [plan.tenant_id]);
    for (const role of roleNames) await seedPrincipal(client, plan, role, issuer);
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
  const { tenant_id, keys, principals, local_subjects } = plan;
  return { tenant_id, slug, keys, principals, local_subjects };
}

async function seedPrincipal(client: pg.Client, plan: Plan, role: Role, issuer: string): Promise<void> {
  const principal = plan.principals[role];
  const key = plan.key_rows[role];
  await client.query(
    "insert into principals (id, tenant_id, kind, role, created_at) values ($1, $2, $3, $4, $5) on conflict do nothing",
    [principal, plan.tenant_id, role === "publisher" ? "service" : "person", role, plan.created_at],
  );
  await client.query(
    `insert into principal_identities (issuer, subject, tenant_id, principal_id, created_at) values ($1, $2, $3, $4, $5)
     on conflict do nothing`,
    [issuer, plan.local_subjects[role], plan.tenant_id, principal, plan.created_at],
  );
  await client.query(
    `insert into api_keys (id, tenant_id, principal_id, prefix, secret_sha256, created_at) values ($1, $2, $3, $4, $5, $6)
     on conflict do nothing`,
    [key.id, plan.tenant_id, principal, key.prefix, key.secret_sha256, plan.created_at],
  );
}
