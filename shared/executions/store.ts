// The SQL of runs. Each change, its event and the remembered answer are one transaction.

import { sql, type SQL } from "drizzle-orm";
import type { AuditEvent } from "../contract/events.ts";
import { execution, type Execution } from "../contract/http-executions.ts";
import { newEvent, outboxInsert, type EventContext } from "../outbox/outbox.ts";
import { asTenant, type Database, type Row } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { endedExecution, finishedEvent } from "./execution.ts";
import type { LeaseQuestion } from "./lease.ts";

const columns = sql`id, package, version, channel, release_id, release_sha256, input_sha256, units,
  install_name as install, rollout_id, status, exit_code,
  output_sha256, duration_ms::float8 as duration_ms, started_at, deadline_at, finished_at`;

const isoTime = (value: unknown): unknown =>
  typeof value === "string" || value instanceof Date ? new Date(value).toISOString() : value;

export const executionOf = (row: Row): Execution =>
  execution.parse({
    ...row,
    started_at: isoTime(row["started_at"]),
    deadline_at: isoTime(row["deadline_at"]),
    finished_at: isoTime(row["finished_at"]),
  });

export interface InsertExecution {
  readonly execution: Execution;
  readonly install_id: string;
  readonly principal_id: string;
  readonly entitlement_version: number;
  /** Runs of the package that may start in this UTC day; null: no cap. */
  readonly runs_per_day_max: number | null;
  readonly events: readonly AuditEvent[];
  readonly claim: IdempotencyClaim;
  readonly now: number;
  /** Postgres' clock must be before this: later, the reservation may be refunded already. */
  readonly admit_until_ms: number;
}

/**
 * Row, count, events and answer, or (false) nothing: the lease had run out, the day's last run was taken, or the
 * entitlements are no longer those that were decided on. Throws `lostToSameKey` errors.
 */
export async function insertExecution(
  database: Database,
  tenantId: string,
  shards: number,
  { execution: run, ...given }: InsertExecution,
): Promise<boolean> {
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(given.claim, given.now),
    sql`with entitled as (
          select from entitlement_versions
          where tenant_id = ${tenantId} and version = ${given.entitlement_version} for share
        ), counted as (
          insert into run_counts (tenant_id, package, day, runs)
          select ${tenantId}::uuid, ${run.package}, ${run.started_at.slice(0, 10)}::date, 1 from entitled
          where clock_timestamp() < ${new Date(given.admit_until_ms).toISOString()}::timestamptz
            and coalesce(${given.runs_per_day_max}::int, 1) > 0
          on conflict (tenant_id, package, day) do update set runs = run_counts.runs + 1
            where run_counts.runs < coalesce(${given.runs_per_day_max}::int, 2147483647)
          returning runs
        ), changed as (
          insert into executions (tenant_id, id, package, version, channel, release_id, release_sha256, input_sha256,
            units, install_id, install_name, rollout_id, status, principal_id, entitlement_version, started_at,
            deadline_at)
          select ${tenantId}::uuid, ${run.id}, ${run.package}, ${run.version}, ${run.channel}, ${run.release_id},
            ${run.release_sha256}, ${run.input_sha256}, ${run.units}::int, ${given.install_id}, ${run.install},
            ${run.rollout_id}, 'running', ${given.principal_id},
            ${given.entitlement_version}::bigint, ${run.started_at}::timestamptz, ${run.deadline_at}::timestamptz
          from counted returning id
        ), remembered as (
          ${rememberAnswer(given.claim, given.now, { status: 201, response: run }, sql`from changed`)}
        )
        ${outboxInsert(given.events, shards, sql`where exists (select from changed)`)}`,
  ]);
  return (results.at(-1) ?? []).length > 0;
}

/** Runs of the package that started in the UTC day of `now`, whatever became of them. */
export async function runsToday(database: Database, tenantId: string, name: string, now: number): Promise<number> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select runs from run_counts
        where tenant_id = ${tenantId} and package = ${name} and day = ${new Date(now).toISOString().slice(0, 10)}::date`,
  ]);
  return Number(rows?.[0]?.["runs"] ?? 0);
}

export async function readExecution(database: Database, tenantId: string, id: string): Promise<Execution | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${columns} from executions where tenant_id = ${tenantId} and id = ${id}`,
  ]);
  return rows?.[0] === undefined ? null : executionOf(rows[0]);
}

/** Newest first, strictly after `before` (a run's start and id) when given. */
export async function listExecutions(
  database: Database,
  tenantId: string,
  limit: number,
  before: { readonly started_at: string; readonly id: string } | null,
): Promise<Execution[]> {
  const after: SQL =
    before === null ? sql`` : sql`and (started_at, id) < (${before.started_at}::timestamptz, ${before.id})`;
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${columns} from executions where tenant_id = ${tenantId} ${after}
        order by started_at desc, id desc limit ${limit}`,
  ]);
  return (rows ?? []).map(executionOf);
}

export interface EndExecution {
  readonly ended: Execution;
  readonly event: AuditEvent;
  readonly claim: IdempotencyClaim | null;
  readonly now: number;
}

/** Ends a running row, with event and answer; false where it does not run (any more): nothing changed. */
export async function endExecution(
  database: Database,
  tenantId: string,
  shards: number,
  { ended, event, claim, now }: EndExecution,
): Promise<boolean> {
  const remembered =
    claim === null
      ? sql``
      : sql`, remembered as (${rememberAnswer(claim, now, { status: 200, response: ended }, sql`from changed`)})`;
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`with changed as (
          update executions set status = ${ended.status}, exit_code = ${ended.exit_code}::int,
            output_sha256 = ${ended.output_sha256}, duration_ms = ${ended.duration_ms}::bigint,
            finished_at = ${ended.finished_at}::timestamptz
          where tenant_id = ${tenantId} and id = ${ended.id} and status = 'running'
          returning id
        )${remembered}
        ${outboxInsert([event], shards, sql`where exists (select from changed)`)}`,
  ]);
  return (results.at(-1) ?? []).length > 0;
}

/** How the ledger's alarm asks about runs, and ends the overdue ones. */
export function leaseQuestion(database: Database, tenantId: string, shards: number): LeaseQuestion {
  return {
    async ask(executionId) {
      const run = await readExecution(database, tenantId, executionId);
      if (run === null) return { state: "missing" };
      if (run.status !== "running") return { state: "ended" };
      return { state: "running", deadline_ms: Date.parse(run.deadline_at) };
    },
    async expire(context: EventContext, executionId) {
      const run = await readExecution(database, tenantId, executionId);
      if (run === null || run.status !== "running") return;
      const ended = endedExecution(run, { outcome: "expired", exit_code: null, output_sha256: null }, context.now);
      const event = newEvent(context, "mc.execution.finished", finishedEvent(ended));
      await endExecution(database, tenantId, shards, { ended, event, claim: null, now: context.now });
    },
  };
}
