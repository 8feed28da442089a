// The `Sql` port over node:sqlite, for simulations and unit tests of the objects' cores on Node. `close` stands for a crash
// or an eviction: open the same path again to see what was durable.

import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import type { Sql, SqlValue } from "../../shared/contract/ports.ts";

export interface OpenSql extends Sql {
  close(): void;
}

let placeCount = 0;

/**
 * A place for `openSql` in memory that outlives `close`, as a file does, until `forget`: what was committed is there when it is
 * opened again. SQLite's "memdb" keeps it: nothing of a file system is made and removed for each world.
 */
export function durablePlace(): { readonly path: string; forget(): void } {
  placeCount += 1;
  const path = `file:/place-${placeCount}?vfs=memdb`;
  // As long as one connection is open, the place is there.
  const keeper = new DatabaseSync(path);
  return { path, forget: () => keeper.close() };
}

/** `path` is a file, a durable place's, or ":memory:". */
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
