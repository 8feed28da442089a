// Applies migrations/*.sql in the order of their names, each in one transaction, and remembers each one's SHA-256. Called
// by startStack. Migrations are append-only: an applied file that has changed or gone is refused.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type pg from "pg";
import { StackFailure } from "./failure.ts";
import { databaseRoles, type DatabaseRole } from "./state.ts";

export interface Migration {
  readonly name: string;
  readonly sql: string;
  readonly sha256: string;
}

const fileName = /^\d{4}_[a-z0-9]+(?:_[a-z0-9]+)*\.sql$/;
// Any number does, as long as nobody else takes it: two migrators wait for each other.
const advisoryLock = 20_260_413;

export function readMigrations(folder: string): Migration[] {
  const names = readdirSync(folder)
    .filter((name) => name.endsWith(".sql"))
    .toSorted();
  const odd = names.find((name) => !fileName.test(name));
  if (odd !== undefined) {
    throw new StackFailure(`${odd} is not a migration's name.`, "Name it like 0006_what_it_does.sql.");
  }
  return names.map((name) => {
    const sql = readFileSync(join(folder, name), "utf8");
    return { name, sql, sha256: createHash("sha256").update(sql).digest("hex") };
  });
}

/** Answers the names that it applied. Throws a StackFailure where history and files disagree; nothing is applied then. */
export async function migrate(client: pg.Client, migrations: readonly Migration[]): Promise<string[]> {
  await client.query("select pg_advisory_lock($1)", [advisoryLock]);
  try {
    await client.query(
      "create table if not exists schema_migrations (name text primary key, sha256 text not null, applied_at timestamptz not null default now())",
    );
    const { rows } = await client.query<{ name: string; sha256: string }>(
      "select name, sha256 from schema_migrations order by name",
    );
    requireSameHistory(rows, migrations);
    const applied: string[] = [];
    for (const migration of migrations.slice(rows.length)) {
      await apply(client, migration);
      applied.push(migration.name);
    }
    return applied;
  } finally {
    await client.query("select pg_advisory_unlock($1)", [advisoryLock]);
  }
}

function requireSameHistory(rows: readonly { name: string; sha256: string }[], migrations: readonly Migration[]): void {
  const wayOut =
    "Put the file back as it was and write the change as a new migration; or begin anew: npm start -- --reset";
  for (const [index, row] of rows.entries()) {
    const migration = migrations[index];
    if (migration === undefined || migration.name !== row.name) {
      const other = migrations.some(({ name }) => name === row.name);
      throw new StackFailure(
        other
          ? `The migration ${migration?.name} was put before ${row.name}, which this database has applied already.`
          : `The migration ${row.name}, which this database has applied, is not there any more.`,
        wayOut,
      );
    }
    if (migration.sha256 !== row.sha256) {
      throw new StackFailure(`The migration ${row.name} has changed since this database applied it.`, wayOut);
    }
  }
}

async function apply(client: pg.Client, migration: Migration): Promise<void> {
  try {
    await client.query("begin");
    await client.query(migration.sql);
    await client.query("insert into schema_migrations (name, sha256) values ($1, $2)", [
      migration.name,
      migration.sha256,
    ]);
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw new StackFailure(
      `The migration ${migration.name} failed, and nothing of it was kept: ${(error as Error).message}.`,
      `Correct migrations/${migration.name} and start again.`,
      { cause: error },
    );
  }
}

/** Lets the workers' roles log in, with the passwords of the state folder. */
export async function setRolePasswords(
  client: pg.Client,
  passwords: Readonly<Record<DatabaseRole, string>>,
): Promise<void> {
  for (const role of databaseRoles) {
    await client.query(`alter role maestro_${role} login password ${client.escapeLiteral(passwords[role])}`);
  }
}
