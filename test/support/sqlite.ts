// The `Sql` port over node:sqlite, for simulations and unit tests of the objects' cores on Node. `close` stands for a crash
// or an eviction: open the same path again to see what was durable.

import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import type { Sql, SqlValue } from "../../shared/contract/ports.ts";

export interface OpenSql extends Sql {
  close(): void;
}

/** `path` is a file, or ":memory:". */
export function openSql(path: string): OpenSql {
  const database = new DatabaseSync(path);
  database.exec("pragma journal_mode = wal; pragma synchronous = off");
  // The statements of a core are few, and preparing one costs more than running it.
  const prepared = new Map<string, StatementSync>();
  const statementOf = (query: string): StatementSync => {
    const known = prepared.get(query);
    if (known !== undefined) return known;
    const statement = database.prepare(query);
    prepared.set(query, statement);
    return statement;
  };
  let depth = 0;
  return {
    exec<Row extends Record<string, SqlValue>>(query: string, ...values: SqlValue[]): Row[] {
      const inputs = values.map((value): SQLInputValue =>
        value instanceof ArrayBuffer ? new Uint8Array(value) : value,
      );
      if (inputs.length === 0 && /;\s*\S/.test(query)) {
        // Several statements at once, as a Durable Object takes them: schemas.
        database.exec(query);
        return [];
      }
      return statementOf(query)
        .all(...inputs)
        .map((row) => ({ ...row })) as Row[];
    },
    transaction<T>(work: () => T): T {
      const name = `level_${depth}`;
      depth += 1;
      database.exec(`savepoint ${name}`);
      try {
        const result = work();
        database.exec(`release ${name}`);
        return result;
      } catch (error) {
        database.exec(`rollback to ${name}`);
        database.exec(`release ${name}`);
        throw error;
      } finally {
        depth -= 1;
      }
    },
    close: () => database.close(),
  };
}
