// The way to Postgres: drizzle over Neon's HTTP, one round trip and one transaction a batch, row security set first.
// Every store.ts goes through `asTenant`; only authentication, the drain and the audit writer use a bare batch, each
// with a role of its own.

import { DrizzleQueryError, sql, type SQL } from "drizzle-orm";
import type { NeonHttpDatabase } from "drizzle-orm/neon-http";

export type Database = NeonHttpDatabase;
export type Row = Record<string, unknown>;
/** Made by one room's store, to be read in a statement of another's, in the tenant's transaction as maestro_app. */
export type Condition = SQL;

/**
 * Runs `statements` in one transaction with `app.tenant` set to `tenantId`, and answers each one's rows. `guards`: what else is
 * set first, as more of the same SELECT's columns.
 * Throws what the driver throws: see `isUnavailable` and `isUniqueViolation`. Where the connection broke, the commit
 * is unknown: reload before answering.
 */
export async function asTenant(
  database: Database,
  tenantId: string,
  statements: readonly SQL[],
  guards: SQL = sql``,
): Promise<Row[][]> {
  const settings = sql`select set_config('app.tenant', ${tenantId}, true)${guards}`;
  const [, ...rows] = await inBatch(database, [settings, ...statements]);
  return rows;
}

/**
 * The same for a change that two tenants take part in: one transaction, with `app.tenant` set anew before each part. What
 * one part may see and write is its tenant's; that the parts belong together is the caller's to guard. Answers each
 * statement's rows, part by part.
 */
export async function asTenants(
  database: Database,
  parts: readonly { readonly tenant_id: string; readonly statements: readonly SQL[] }[],
): Promise<Row[][][]> {
  const rows = await inBatch(
    database,
    parts.flatMap(({ tenant_id: tenantId, statements }) => [
      sql`select set_config('app.tenant', ${tenantId}, true)`,
      ...statements,
    ]),
  );
  return parts.map(({ statements }) => rows.splice(0, statements.length + 1).slice(1));
}

/** Runs `statements` in one transaction, without a tenant. One alone is a transaction by itself, and spares begin and commit. */
export async function inBatch(database: Database, statements: readonly SQL[]): Promise<Row[][]> {
  const [first, ...rest] = statements.map((statement) => database.execute<Row>(statement));
  if (first === undefined) return [];
  if (rest.length === 0) return [(await unwrapped(first)).rows];
  const results = await database.batch([first, ...rest]);
  return results.map((result) => result.rows);
}

/** As a batch fails: with what the driver throws. Drizzle wraps it otherwise, in a message that has the values. */
async function unwrapped<T>(answer: PromiseLike<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw error instanceof DrizzleQueryError && error.cause !== undefined ? error.cause : error;
  }
}

interface ErrorLike {
  readonly name?: unknown;
  readonly message?: unknown;
  readonly code?: unknown;
  readonly cause?: unknown;
}

function* causes(error: unknown): Generator<ErrorLike> {
  for (let at = error, depth = 0; at !== null && typeof at === "object" && depth < 8; depth += 1) {
    yield at;
    at = (at as ErrorLike).cause;
  }
}

/** True where a row of the same key stood there already (SQLSTATE 23505). Nothing of the transaction was kept. */
export function isUniqueViolation(error: unknown): boolean {
  for (const { code } of causes(error)) if (code === "23505") return true;
  return false;
}

/** True where rows that others have refer to what was to go (SQLSTATE 23503). Nothing of the transaction was kept. */
export function isForeignKeyViolation(error: unknown): boolean {
  for (const { code } of causes(error)) if (code === "23503") return true;
  return false;
}

/** True where row security or a grant refused the statement (SQLSTATE 42501). Nothing of the transaction was kept. */
export function isForbidden(error: unknown): boolean {
  for (const { code } of causes(error)) if (code === "42501") return true;
  return false;
}

/** True where Postgres could not be reached, was starting or stopping, or cut the connection. The commit is unknown. */
export function isUnavailable(error: unknown): boolean {
  for (const { name, code, message } of causes(error)) {
    // The time was over when an answer's head had come already: the driver throws that as it is.
    if (name === "TimeoutError") return true;
    // SQLSTATE class 08 connection exception, 53 insufficient resources, 57P0x shutdown and crash, 57014 the role's
    // statement_timeout, 40001 and 40P01 serialisation and deadlock, 55P03 lock not available: all worth another try.
    if (typeof code === "string" && /^(?:08\d{3}|53\d{3}|57P0[1-5]|57014|40001|40P01|55P03)$/.test(code)) return true;
    if (
      typeof message === "string" &&
      /error connecting to database|fetch failed|ECONNREFUSED|ECONNRESET|Network connection lost|terminated|HTTP status (?:429|5\d\d)|control plane request failed/i.test(
        message,
      )
    ) {
      return true;
    }
  }
  return false;
}
