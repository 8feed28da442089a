// All of PQL's traffic with Postgres: the audit worker writes the log's rows here, POST /api/pql asks them.

import { sql, type SQL } from "drizzle-orm";
import type { EventColumns } from "../contract/events.ts";
import { Problem } from "../contract/problems.ts";
import { asTenant, inBatch, type Database, type Row } from "../tenancy/database.ts";
import type { Group } from "./answer.ts";
import { limits } from "./limits.ts";
import type { Plan } from "./plan.ts";
import { ProvisoFailed, type Proviso } from "./proviso.ts";
import { sealedKey, type SealedCache } from "./sealed-cache.ts";
import { addAt, combined, fromItsHour, sealedCounts, type OpenCell, type SealedRow } from "./sealed-counts.ts";
import { isBySlots, sealedStatementOf, statementOf, templates, type Bounds, type RowPosition } from "./templates.ts";

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

type GroupsPlan = Exclude<Plan, { template: "rows" }>;

/** What a question may cost. Tests make it small. */
export interface AskLimits {
  readonly page_rows: number;
  readonly counted_rows_max: number;
  readonly open_cells_max: number;
  readonly statement_timeout_ms: number;
}
export const askLimits: AskLimits = {
  page_rows: limits.pageRows,
  counted_rows_max: limits.countedRowsMax,
  open_cells_max: limits.openCellsMax,
  statement_timeout_ms: limits.statementTimeoutMs,
};

/** What a question found, and how far the rows went that it was asked of. */
export interface Found<T> {
  readonly found: T;
  /** Milliseconds since 1970: every event logged before it was there to be found. Null: no event was there at all. */
  readonly complete_to: number | null;
}

/** Who reads, and under what. */
interface Reading {
  /** Connects as maestro_app. */
  readonly database: Database;
  readonly tenant_id: string;
  readonly ask: AskLimits;
  /** Where it does not hold, all that reads throws ProvisoFailed. */
  readonly proviso: Proviso | null;
}

/** Newest first, one more than a page when there are more. */
export async function readRows(
  reading: Reading,
  plan: Extract<Plan, { template: "rows" }>,
  before: RowPosition | null,
): Promise<Found<Row[]>> {
  const bounds = { ...boundsOf(reading, null), before };
  const { results, complete_to } = await runPlan(reading, [templates.rows(plan, bounds)]);
  return { found: results[0] ?? [], complete_to };
}

/**
 * The groups of a series, `rank` from 1 or null for what is left over; each with its filled slots. `sealedTo`: up to where rows
 * of counts are read instead of events, as far as the caller knows, or null; the answer is the same. `kept`: counts of sealed
 * hours that were read before, and those that are read now.
 */
export async function readGroups(
  reading: Reading,
  plan: GroupsPlan,
  sealedTo: number | null,
  kept: SealedCache,
): Promise<Found<readonly Group[]>> {
  const bounds = boundsOf(reading, sealedTo);
  if (!isBySlots(plan, sealedTo)) {
    const { results, complete_to } = await runPlan(reading, [statementOf(plan, bounds)]);
    const groups = (results[0] ?? []).map((row) => eventsGroup(row));
    requireCountable(sumOf(groups.map(({ counts }) => sumOf(counts))), reading.ask);
    return { found: groups, complete_to };
  }
  return await readSealedAndOpen(reading, plan, sealedTo!, kept, fromItsHour(plan));
}

/** `read`: what to read of sealed hours, from `skipped` buckets before the plan's first one on. */
async function readSealedAndOpen(
  reading: Reading,
  plan: GroupsPlan,
  sealedTo: number,
  kept: SealedCache,
  { read, skipped }: ReturnType<typeof fromItsHour>,
): Promise<Found<readonly Group[]>> {
  const bounds = boundsOf(reading, sealedTo);
  const key = sealedKey(reading.tenant_id, read, sealedTo);
  const held = kept.get(key);
  const openSql = templates.open_cells(plan, bounds);
  const ran = await runPlan(reading, held === null ? [openSql, sealedStatementOf(read, bounds)] : [openSql]);
  // Sealed hours stay sealed, unless Postgres was set back to an earlier state: then what was asked for was not all there.
  if (ran.sealed_to === null || ran.sealed_to < sealedTo) return await readGroups(reading, plan, ran.sealed_to, kept);
  const open = JSON.parse(String(ran.results[0]?.[0]?.["cells"])) as readonly OpenCell[];
  requireCountable(sumOf(open.map(([, , count]) => count)), reading.ask);
  requireFewCells(open.length, reading.ask);
  let sealed = held ?? sealedCounts(read, sealedTo, (ran.results[1] ?? []).map(sealedRow));
  let together = combined(plan, sealed, open, skipped);
  if (together.state === "missing" && read.template !== "buckets") {
    const { results } = await runPlan(reading, [templates.sealed_names(read, { ...bounds, names: together.names })]);
    sealed = sealedCounts(read, sealedTo, (results[0] ?? []).map(sealedRow), sealed);
    together = combined(plan, sealed, open, skipped);
  }
  if (sealed !== held) kept.put(key, sealed);
  if (together.state === "unlisted" && skipped > 0)
    return await readSealedAndOpen(reading, plan, sealedTo, kept, { read: plan, skipped: 0 });
  if (together.state !== "groups") throw new Error(`counts that were asked for are still ${together.state}`);
  return { found: together.groups, complete_to: ran.complete_to };
}

function eventsGroup(row: Row): Group {
  const counts: number[] = [];
  for (const [bucket, count] of JSON.parse(String(row["cells"])) as readonly (readonly [number, number])[])
    addAt(counts, bucket, count);
  return { rank: row["rank"] === null ? null : Number(row["rank"]), name: row["name"] as string | null, counts };
}

const numberOf = (value: unknown): number | null => (typeof value === "string" ? Number(value) : null);

const sealedRow = (row: Row): SealedRow => ({
  rank: row["rank"] === null ? null : Number(row["rank"]),
  name: row["name"] as string | null,
  cells: JSON.parse(String(row["cells"])) as SealedRow["cells"],
  names: numberOf(row["names"]),
  sum: numberOf(row["sum"]),
});

const sumOf = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

/** Templates count one event more than may be counted. */
function requireCountable(read: number, { counted_rows_max: rowsMax }: AskLimits): void {
  if (read <= rowsMax) return;
  throw new Problem("too_many_rows", `The query would count over ${rowsMax} rows.`, { rows_max: rowsMax });
}

function requireFewCells(found: number, { open_cells_max: cellsMax }: AskLimits): void {
  if (found <= cellsMax) return;
  throw new Problem(
    "too_many_rows",
    `The events that are not sealed yet have over ${cellsMax} names in their buckets: a wider bucket has fewer.`,
    { cells_max: cellsMax },
  );
}

const boundsOf = ({ tenant_id: tenantId, ask }: Reading, sealedTo: number | null): Bounds => ({
  ...ask,
  tenant: sql`${tenantId}::uuid`,
  before: null,
  sealed_to: sealedTo,
});

/** One round trip: the tenant, the guards, how far the rows go and the proviso, the question's statements. Throws ProvisoFailed. */
async function runPlan(
  { database, tenant_id: tenantId, ask: { statement_timeout_ms: timeoutMs }, proviso }: Reading,
  statements: readonly SQL[],
): Promise<{ readonly results: readonly Row[][] } & Readonly<Record<"complete_to" | "sealed_to", number | null>>> {
  try {
    // Each statement has a snapshot of its own, the question's the later ones: they see all that `reached` speaks of.
    const [reached, ...results] = await asTenant(
      database,
      tenantId,
      [reachedSql(sql`${tenantId}::uuid`, proviso), ...statements],
      guards(timeoutMs),
    );
    requireHeld(proviso, reached?.[0]);
    return { results, ...timesOf(reached?.[0]) };
  } catch (error) {
    if (!isCanceled(error)) throw error;
    throw new Problem("too_many_rows", `The query took longer than ${timeoutMs} ms.`, { time_max_ms: timeoutMs });
  }
}

const reachedSql = (tenant: SQL, proviso: Proviso | null): SQL => sql`
  select
    (select floor(extract(epoch from i.indexed_to) * 1000)::bigint::text from audit_index i where i.tenant_id = ${tenant})
      as complete_to,
    (select (extract(epoch from s.sealed_to) * 1000)::bigint::text from audit_sealed s where s.tenant_id = ${tenant})
      as sealed_to
    ${proviso === null ? sql`` : sql`, ${proviso.condition} as holds`}`;

function requireHeld(proviso: Proviso | null, reached: Row | undefined): void {
  if (proviso === null) return;
  const holds = reached?.["holds"] === true;
  proviso.told(holds);
  if (!holds) throw new ProvisoFailed();
}

function timesOf(reached: Row | undefined): Readonly<Record<"complete_to" | "sealed_to", number | null>> {
  return { complete_to: numberOf(reached?.["complete_to"]), sealed_to: numberOf(reached?.["sealed_to"]) };
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
 * For this transaction, with the tenant: a bound on time and on memory; no compiling, which costs more than a short query; and no
 * sequential scan of everyone's rows where an index gives the tenant's own, however the statistics look.
 */
export const guards = (timeoutMs: number): SQL => sql`,
  set_config('statement_timeout', ${String(timeoutMs)}, true), set_config('work_mem', '16MB', true),
  set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true)`;
