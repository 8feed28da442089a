// A further person of a tenant, as an operator of the deployment adds one: a principal whose access comes from nobody in the
// tenant, tied to a subject of the issuer. For tests of what two people have to agree on.

import { randomBytes } from "node:crypto";
import { sql } from "drizzle-orm";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { newId } from "../../shared/contract/ids.ts";
import type { Role } from "../../shared/contract/names.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "./api.ts";
import type { StackHandle } from "./stack.ts";

/** Answers a token of that person's. */
export async function anotherPerson(
  stack: StackHandle,
  { tenant_id: tenantId, slug }: SeededTenant,
  role: Role,
): Promise<string> {
  const now = Date.now();
  const id = newId("principal", now, randomBytes(10));
  const subject = `${id}@${slug}.local`;
  const at = new Date(now).toISOString();
  await inBatch(databaseAs(stack, "owner"), [
    sql`insert into principals (id, tenant_id, kind, role, created_at) values (${id}, ${tenantId}, 'person', ${role}, ${at})`,
    sql`insert into principal_identities (issuer, subject, tenant_id, principal_id, created_at)
        values (${stack.issuerUrl}, ${subject}, ${tenantId}, ${id}, ${at})`,
  ]);
  return stack.issueToken({ subject });
}
