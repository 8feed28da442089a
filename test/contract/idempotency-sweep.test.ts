// Remembered answers are kept for their window and forgotten after it, by the cron.

import pg from "pg";
import { expect, test } from "vitest";
import { useStack } from "../support/stack.ts";

const stack = useStack();

test("the cron forgets an answer whose 24 hours are over, and no other", async () => {
  const { tenant_id: tenantId, principals } = await stack.seedTenant("idempotency-sweep");
  const owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  try {
    const insert = (key: string, age: string) =>
      owner.query(
        `insert into idempotency_keys values ($1, $2, 'POST /x', $3, $4, 201, '{}', now() - $5::interval, now() - $5::interval + interval '24 hours')`,
        [tenantId, principals.operator, key, "a".repeat(64), age],
      );
    await insert("over", "25 hours");
    await insert("not yet", "23 hours");
    await stack.runScheduled();
    const kept = await owner.query<{ key: string }>("select key from idempotency_keys where tenant_id = $1", [
      tenantId,
    ]);
    expect(kept.rows).toEqual([{ key: "not yet" }]);
  } finally {
    await owner.end();
  }
});
