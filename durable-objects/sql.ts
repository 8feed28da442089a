// The `Sql` port over a Durable Object's SQLite. Every object hands this to its pure core.

import type { Sql, SqlValue } from "../shared/contract/ports.ts";

export function sqlOf(storage: DurableObjectStorage): Sql {
  return {
    exec: <Row extends Record<string, SqlValue>>(query: string, ...values: SqlValue[]): Row[] =>
      storage.sql.exec(query, ...values).toArray() as Row[],
    transaction: <T>(work: () => T): T => storage.transactionSync(work),
  };
}
