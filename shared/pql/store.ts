// All of PQL's traffic with Postgres: the audit worker writes the log's rows here, POST /api/pql asks them.

import { sql, type SQL } from "drizzle-orm";
import type { EventColumns } from "../contract/events.ts";
import { Problem } from "../contract/problems.ts";
import { asTenant, inBatch, type Database, type Row } from "../tenancy/database.ts";
import type { Group } from "./answer.ts";
import { limits } from "./limits.ts";
import type { Plan } from "./plan.ts";
import { statementOf, type Bounds, type RowPosition } from "./templates.ts";

/** The most rows of one `writeEventRows`: what one segment holds. */
export const eventRowsMax = 10_000;
/** The most text of one INSERT; a larger call is written in several, each a whole prefix in `seq` order. */
const insertTextMax = 2 * 1024 * 1024;

/**
 * Writes the log's rows in `seq` order, each once: a row whose (tenant_id, seq) stands is left as it is. Resolves to how
 * many were new; they are durable then. Where it throws, a prefix of `rows` may stand: call it again with the same rows.
 * How far the rows go is written with them (audit_index), so that an answer can say what it may lack; that holds because
 * `rows` follow, without a gap, on rows that were written before. `database` connects as maestro_audit.
 */
export async function writeEventRows(database: Database, rows: readonly EventColumns[]): Promise<number> {
  if (rows.length > eventRowsMax) throw new RangeError(`${rows.length} rows in one call: at most ${eventRowsMax}`);
  let written = 0;
  for (const part of insertParts([...rows].sort((left, right) => left.seq - right.seq))) {
    const [inserted] = await inBatch(database, [insertRows(part)]);
    written += Number(inserted?.[0]?.["written"] ?? 0);
  }
  return written;
}

function* insertParts(rows: readonly EventColumns[]): Generator<readonly EventColumns[]> {
  let part: EventColumns[] = [];
  let size = 0;
  for (const row of rows) {
    if (part.length > 0 && size + row.attrs.length > insertTextMax) {
      yield part;
      part = [];
      size = 0;
    }
    part.push(row);
    size += row.attrs.length;
  }
  if (part.length > 0) yield part;
}

/**
 * One array a column: 18 parameters, however many rows. One statement for the rows and for how far they go, which never
 * goes back: rows that come again are older.
 */
function insertRows(rows: readonly EventColumns[]): SQL {
  const column = (pick: (row: EventColumns) => string | number | null): SQL => sql`${sql.param(rows.map(pick))}`;
  return sql`with given as (
      select * from unnest(
        ${column((row) => row.tenant_id)}::uuid[],
        ${column((row) => row.seq)}::bigint[],
        ${column((row) => row.logged_at)}::timestamptz[],
        ${column((row) => row.occurred_at)}::timestamptz[],
        ${column((row) => row.event_id)}::text[],
        ${column((row) => row.type)}::text[],
        ${column((row) => row.source)}::text[],
        ${column((row) => row.principal)}::text[],
        ${column((row) => row.execution_id)}::text[],
        ${column((row) => row.package)}::text[],
        ${column((row) => row.version)}::text[],
        ${column((row) => row.channel)}::text[],
        ${column((row) => row.outcome)}::text[],
        ${column((row) => row.rule)}::text[],
        ${column((row) => row.action)}::text[],
        ${column((row) => row.units)}::bigint[],
        ${column((row) => row.duration_ms)}::bigint[],
        ${column((row) => row.attrs)}::text[]
      ) with ordinality as given
        (tenant_id, seq, logged_at, occurred_at, event_id, type, source, principal, execution_id, package, version,
          channel, outcome, rule, action, units, duration_ms, attrs, position)
    ), inserted as (insert into audit_events
      (tenant_id, seq, logged_at, occurred_at, event_id, type, source, principal, execution_id, package, version,
        channel, outcome, rule, action, units, duration_ms, attrs)
      select tenant_id, seq, logged_at, occurred_at, event_id, type, source, principal, execution_id, package, version,
        channel, outcome, rule, action, units, duration_ms, attrs
      from given
      order by position
      on conflict (tenant_id, seq) do nothing
      returning seq
    ), reached as (insert into audit_index as reached (tenant_id, indexed_seq, indexed_to)
      select tenant_id, max(seq) + 1, max(logged_at) from given group by tenant_id
      on conflict (tenant_id) do update set
        indexed_seq = greatest(reached.indexed_seq, excluded.indexed_seq),
        indexed_to = greatest(reached.indexed_to, excluded.indexed_to)
    ) select count(*)::int as written from inserted`;
}

/** The most rows that `rowsOfExecution` names. */
const executionRowsMax = 1_000;

/** Which rows of the log are about a run, in order. `database` connects as maestro_audit, which sees every tenant's. */
export async function rowsOfExecution(database: Database, tenantId: string, executionId: string): Promise<number[]> {
  const [rows] = await inBatch(database, [
    sql`select seq::float8 as seq from audit_events
        where tenant_id = ${tenantId}::uuid and execution_id = ${executionId} order by seq limit ${executionRowsMax}`,
  ]);
  return (rows ?? []).map((row) => Number(row["seq"]));
}

/** What a question may cost. Tests make it small. */
export interface AskLimits {
  readonly page_rows: number;
  readonly counted_rows_max: number;
  readonly statement_timeout_ms: number;
}
export const askLimits: AskLimits = {
  page_rows: limits.pageRows,
  counted_rows_max: limits.countedRowsMax,
  statement_timeout_ms: limits.statementTimeoutMs,
};

/** What a question found, and how far the rows went that it was asked of. */
export interface Found<T> {
  readonly found: T;
  /** Milliseconds since 1970: every event logged before it was there to be found. Null: no event was there at all. */
  readonly complete_to: number | null;
}

/** Newest first, one more than a page when there are more. `database` connects as maestro_app, in all of these. */
export async function readRows(
  database: Database,
  tenantId: string,
  plan: Extract<Plan, { template: "rows" }>,
  before: RowPosition | null,
  ask: AskLimits = askLimits,
): Promise<Found<Row[]>> {
  return await runPlan(database, tenantId, plan, { ...ask, before, sealed_to: null });
}

/**
 * The groups of a series, `rank` from 1 or null for what is left over; each with its filled slots. `sealedTo`: up to where rows
 * of counts are read instead of events, as far as the caller knows, or null; the answer is the same.
 */
export async function readGroups(
  database: Database,
  tenantId: string,
  plan: Exclude<Plan, { template: "rows" }>,
  sealedTo: number | null,
  ask: AskLimits = askLimits,
): Promise<Found<Group[]>> {
  const { found: rows, complete_to } = await runPlan(database, tenantId, plan, {
    ...ask,
    before: null,
    sealed_to: sealedTo,
  });
  const groups = rows.map((row): Group => ({
    rank: row["rank"] === null ? null : Number(row["rank"]),
    name: row["name"] as string | null,
    cells: cellsOf(JSON.parse(String(row["cells"])) as StoredCell[]),
  }));
  // Templates that read events alone count what they have read.
  const read = rows[0]?.["raw_rows"] ?? groups.reduce((sum, { cells }) => sum + countOf(cells), 0);
  if (Number(read) > ask.counted_rows_max) {
    throw new Problem("too_many_rows", `The query would count over ${ask.counted_rows_max} rows.`, {
      rows_max: ask.counted_rows_max,
    });
  }
  return { found: withOther(groups), complete_to };
}

/** A slot's count, or the counts of it and of those after it; slots below 0 are before the range. */
type StoredCell = readonly [slot: number, counts: number | readonly number[]];
type Cell = Group["cells"][number];

const cellsOf = (stored: readonly StoredCell[]): Cell[] =>
  stored.flatMap(([slot, counts]) =>
    typeof counts === "number"
      ? [[slot, counts] as const]
      : counts.map((count, at) => [slot + at, count] as const).filter(([number, count]) => number >= 0 && count > 0),
  );

const countOf = (cells: readonly Cell[]): number => cells.reduce((sum, [, count]) => sum + count, 0);

/** Rank 0 is everything: less the groups, it is what is left over. */
function withOther(groups: readonly Group[]): Group[] {
  const everything = groups.find(({ rank }) => rank === 0);
  if (everything === undefined) return [...groups];
  const left = new Map<number, number>();
  const add = (cells: readonly Cell[], sign: 1 | -1): void => {
    for (const [slot, count] of cells) left.set(slot, (left.get(slot) ?? 0) + sign * count);
  };
  const leaders = groups.filter((group) => group !== everything);
  add(everything.cells, 1);
  for (const { cells } of leaders) add(cells, -1);
  return [...leaders, { rank: null, name: null, cells: [...left].filter(([, count]) => count !== 0) }];
}

/** One round trip: the tenant, the guards, how far the rows go, the question. */
async function runPlan(
  database: Database,
  tenantId: string,
  plan: Plan,
  { sealed_to: sealedTo, ...limits }: Omit<Bounds, "tenant"> & AskLimits,
): Promise<Found<Row[]>> {
  const bounds: Bounds = { ...limits, tenant: sql`${tenantId}::uuid`, sealed_to: sealedTo };
  try {
    // Each statement has a snapshot of its own, the question's the later one: it sees all that `reached` speaks of.
    const [, reached, rows] = await asTenant(database, tenantId, [
      guards(limits.statement_timeout_ms),
      reachedSql(bounds.tenant),
      statementOf(plan, bounds),
    ]);
    const { complete_to: completeTo, sealed_to: reallyTo } = timesOf(reached?.[0]);
    // Sealed hours stay sealed, unless Postgres was set back to an earlier state: then what was asked for was not all there.
    if (sealedTo !== null && (reallyTo === null || reallyTo < sealedTo)) {
      return await runPlan(database, tenantId, plan, { ...limits, sealed_to: reallyTo });
    }
    return { found: rows ?? [], complete_to: completeTo };
  } catch (error) {
    if (!isCanceled(error)) throw error;
    throw new Problem("too_many_rows", `The query took longer than ${limits.statement_timeout_ms} ms.`, {
      time_max_ms: limits.statement_timeout_ms,
    });
  }
}

const reachedSql = (tenant: SQL): SQL => sql`
  select
    (select floor(extract(epoch from i.indexed_to) * 1000)::bigint::text from audit_index i where i.tenant_id = ${tenant})
      as complete_to,
    (select (extract(epoch from s.sealed_to) * 1000)::bigint::text from audit_sealed s where s.tenant_id = ${tenant})
      as sealed_to`;

function timesOf(reached: Row | undefined): Readonly<Record<"complete_to" | "sealed_to", number | null>> {
  const time = (value: unknown): number | null => (typeof value === "string" ? Number(value) : null);
  return { complete_to: time(reached?.["complete_to"]), sealed_to: time(reached?.["sealed_to"]) };
}

/** SQLSTATE 57014: the statement ran into its timeout. Drivers wrap it in causes. */
function isCanceled(error: unknown): boolean {
  let at: unknown = error;
  for (let depth = 0; depth < 8 && at instanceof Error; depth += 1) {
    if ((at as { readonly code?: unknown }).code === "57014") return true;
    at = at.cause;
  }
  return false;
}

/**
 * For this transaction: a bound on time and on memory; no compiling, which costs more than a short query; and no
 * sequential scan of everyone's rows where an index gives the tenant's own, however the statistics look.
 */
export const guards = (timeoutMs: number): SQL => sql`select
  set_config('statement_timeout', ${String(timeoutMs)}, true), set_config('work_mem', '16MB', true),
  set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true)`;
