// What the PQL benchmark asks about: the events of 200 tenants in Postgres, sealed as the product seals them and told to each
// tenant's meter. Made once, in a state folder that is kept; a later run adds what became due since. Interrupted, it goes on
// where it stood: an event is a function of its tenant and its number. Called by pql.ts.

import { existsSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { neon, neonConfig } from "@neondatabase/serverless";
import { drizzle } from "drizzle-orm/neon-http";
import type pg from "pg";
import type { EventType } from "../../shared/contract/events.ts";
import { sealHours, type Sealed } from "../../shared/pql/hours-store.ts";
import type { HourCount, CountReport } from "../../shared/contract/event-counts.ts";
import { reportRowsMax } from "../../shared/pql/meter.ts";
import { hourMs } from "../../shared/pql/scan-parts.ts";
import type { Database } from "../../shared/tenancy/database.ts";
import { withClient } from "../stack/connection.ts";
import { StackFailure } from "../stack/failure.ts";
import type { Stack } from "../stack/index.ts";
import type { SeededTenant } from "../stack/seed.ts";
import { readJson, writePrivateJson } from "../stack/state.ts";
import type { Bench } from "./benchmark.ts";
import { dayMs, stepsUntil, swingMs, timeAt, zipfShares, type Pace } from "./pql-mix.ts";

/** What the folder is called by: another way to make it needs another number. */
const madeAs = 1;

/** So that the smallest tenant has some. */
const eventsMin = 10_000;

/** Fewer events, to try the benchmark out; the result says how many there are. */
function eventsAsked(): number {
  const text = process.env["MAESTRO_BENCH_PQL_EVENTS"] ?? "10000000";
  const count = Number(text);
  if (Number.isSafeInteger(count) && count >= eventsMin) return count;
  throw new TypeError(`MAESTRO_BENCH_PQL_EVENTS is a whole number from ${eventsMin} on, not ${text}.`);
}
export const worldSetting = {
  events: eventsAsked(),
  tenants: 200,
  zipf_exponent: 1.1,
  days: 30,
  packages: 40,
} as const;
export const tenantShares = zipfShares(worldSetting.tenants, worldSetting.zipf_exponent);
/** The tenant that half of all tenants are larger than. */
export const medianTenant = worldSetting.tenants / 2 - 1;

/** In MAESTRO_CACHE, else in the folder for temporary files that is on a disk. */
export const worldFolder = (): string =>
  join(
    process.env["MAESTRO_CACHE"] ??
      (existsSync("/var/tmp") ? "/var/tmp/maestro-cache" : join(tmpdir(), "maestro-cache")),
    `pql-made${madeAs}-events${worldSetting.events}-tenants${worldSetting.tenants}`,
  );

/** A statement and a transaction each: about a second. */
const rowsPerInsert = 50_000;
/** An event, its three index entries, its part of the rows of counts, and the write-ahead log beside. */
const bytesPerEvent = 1_200;
const freeBytesMin = 2 * 2 ** 30;

export interface WorldTenant extends SeededTenant {
  readonly events: number;
  readonly sealed_to: number;
}

export interface World {
  /** The largest first. */
  readonly tenants: readonly WorldTenant[];
  readonly events: number;
  /** Since the hour that is sealed last: what is read from events themselves. */
  readonly open_minutes: number;
}

/** The world as of now. Throws a StackFailure where the disk has no room for it. */
export async function prepareWorld(bench: Bench): Promise<World> {
  const { stack, signal, progress } = bench;
  const origin = originOf(stack.folder);
  const seeded: SeededTenant[] = [];
  for (const number of tenantShares.keys()) {
    signal.throwIfAborted();
    if (number % 20 === 0) progress(`tenant ${number} of ${worldSetting.tenants}`);
    seeded.push(await stack.seedTenant(`pql-${String(number + 1).padStart(3, "0")}`));
  }
  const now = Date.now();
  const due = tenantShares.map((share) => stepsUntil(paceOf(share, origin), now));
  return withClient(stack.databaseUrls.owner, async (client) => {
    await writeEvents(client, bench, seeded, due, origin);
    // An event that is not due yet may be of a time that has passed: no hour is sealed that it could be in.
    const sealedTo = due.map((steps, number) => hourOf(timeAt(paceOf(tenantShares[number]!, origin), steps)));
    await sealAll(bench, seeded, sealedTo);
    for (const table of ["audit_hours", "audit_days"]) await client.query(`vacuum (analyze) ${table}`);
    await client.query("checkpoint");
    return {
      tenants: seeded.map((tenant, number) => ({ ...tenant, events: due[number]!, sealed_to: sealedTo[number]! })),
      events: due.reduce((sum, count) => sum + count, 0),
      open_minutes: (now - sealedTo[0]!) / 60_000,
    };
  });
}

/** When the first events are: 30 days before the world was begun. */
function originOf(folder: string): number {
  const path = join(folder, "pql-world.json");
  const kept = readJson(path) as { origin: number } | null;
  const origin = kept?.origin ?? Date.now() - worldSetting.days * dayMs;
  if (kept === null) writePrivateJson(path, { origin });
  return origin;
}

const paceOf = (share: number, origin: number): Pace => ({
  origin,
  step_ms: (worldSetting.days * dayMs) / (worldSetting.events * share),
});

/** Tenant after tenant, each in the order of time. Whatever stands is kept. */
async function writeEvents(
  client: pg.Client,
  { signal, progress }: Bench,
  tenants: readonly SeededTenant[],
  due: readonly number[],
  origin: number,
): Promise<void> {
  const { rows } = await client.query<{ tenant_id: string; next: string }>(
    "select tenant_id, indexed_seq as next from audit_index",
  );
  const next = new Map(rows.map(({ tenant_id: id, next }) => [id, Number(next)]));
  const missing = tenants.map(({ tenant_id: id }, number) => Math.max(0, due[number]! - (next.get(id) ?? 0)));
  const total = missing.reduce((sum, count) => sum + count, 0);
  if (total === 0) return;
  await requireRoom(client, total);
  progress(`writing ${total} events: about ${sizeText(total * bytesPerEvent)} of disk`);
  let written = 0;
  for (const [number, { tenant_id: id }] of tenants.entries()) {
    for (let from = due[number]! - missing[number]!; from < due[number]!; from += rowsPerInsert) {
      signal.throwIfAborted();
      const to = Math.min(due[number]!, from + rowsPerInsert);
      const { step_ms: step } = paceOf(tenantShares[number]!, origin);
      await client.query(insertText, [id, number, from, to, origin, step]);
      written += to - from;
      progress(`writing events: ${written} of ${total}`);
    }
  }
  progress("vacuuming");
  await client.query("vacuum (analyze) audit_events");
  await client.query("checkpoint");
}

async function requireRoom(client: pg.Client, count: number): Promise<void> {
  const { rows } = await client.query<{ data: string }>("select current_setting('data_directory') as data");
  const { bavail, bsize } = statfsSync(rows[0]!.data);
  const needed = count * bytesPerEvent + freeBytesMin;
  if (bavail * bsize >= needed) return;
  throw new StackFailure(
    `${count} events need about ${sizeText(needed)} of disk, and ${rows[0]!.data} has ${sizeText(bavail * bsize)}.`,
    "Make room, or name a folder on another disk in MAESTRO_CACHE.",
  );
}

const sizeText = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

/**
 * $1 tenant, $2 its number, [$3, $4) events, $5 origin and $6 step as `Pace` has them. What an event is, is drawn from hashes of
 * its number; shares are of 2^24. The time is `timeAt` of a place inside the event's step, so that times are in order. How far
 * the rows go is written with them, as the product does.
 */
const insertText = `with given as (
    select $1::uuid as tenant_id, $2::int as number, $5::float8 as origin, $6::float8 as step
  ), drawn as (
    select seq, hashint8extended(seq, 2 * number) as h, hashint8extended(seq, 2 * number + 1) as g
    from given, generate_series($3::bigint, $4::bigint - 1) as seq offset 0
  ), told as (
    select seq, h, g, (h & 16777215) / 16777216.0::float8 as by_type, (g & 16777215) / 16777216.0::float8 as by_outcome,
      power(((h >> 24) & 16777215) / 16777216.0::float8, 2.2) as by_package,
      power(((g >> 24) & 16777215) / 16777216.0::float8, 2) as by_rule,
      origin + (seq + ((h >> 40) & 65535) / 65536.0::float8) * step as even
    from drawn, given offset 0
  ), made as (
    select seq, h, g,
      date_trunc('milliseconds', to_timestamp((even + ${swingMs} * sin(2 * pi() * even / ${dayMs})) / 1000)) as at,
      case when by_type < 0.6 then 'mc.policy.decision' when by_type < 0.8 then 'mc.execution.started'
        else 'mc.execution.finished' end as type,
      'bench/package-' || lpad(floor(${worldSetting.packages} * by_package)::text, 2, '0') as package,
      case
        when by_type < 0.6 then case when by_outcome < 0.3 then 'deny' else 'allow' end
        when by_type < 0.8 then null
        when by_outcome < 0.9 then 'succeeded' when by_outcome < 0.98 then 'failed' else 'expired'
      end as outcome,
      case when by_type >= 0.6 then null when by_outcome >= 0.3 then 'ok'
        else (array['not_entitled', 'outside_window', 'budget_exhausted', 'channel_not_allowed', 'package_frozen'])[1 + floor(5 * by_rule)::int]
      end as rule,
      case when by_type < 0.6 then null when by_rule < 0.8 then 'stable' else 'canary' end as channel,
      case when by_type < 0.6 and by_outcome < 0.3 then null else 'exe_' || lpad((seq / 3)::text, 26, '0') end as execution_id,
      lpad(to_hex(h), 16, '0') || lpad(to_hex(g), 16, '0') as half
    from told offset 0
  ), inserted as (
    insert into audit_events (tenant_id, seq, logged_at, occurred_at, event_id, type, source, principal, execution_id, package,
      version, channel, outcome, rule, action, units, duration_ms, attrs)
    select tenant_id, seq, at, at - interval '20 milliseconds', 'evt_' || left(half, 26), type, 'api',
      'pri_' || lpad((g & 31)::text, 26, '0'), execution_id, package, case when channel is not null then '1.2.0' end, channel,
      outcome, rule, case when rule is not null then 'execution.start' end, 1 + (g & 31),
      case when type = 'mc.execution.finished' then (h & 65535) end,
      case type
        when 'mc.policy.decision' then format(
          '{"action":"execution.start","input_sha256":"%s%s","outcome":"%s","package":"%s","policy_sha256":"%s","rule":"%s"}',
          half, half, outcome, package, repeat('5', 64), rule)
        else format('{"channel":"%s","execution_id":"%s","input_sha256":"%s%s","package":"%s","units":%s,"version":"1.2.0"}',
          channel, execution_id, half, half, package, 1 + (g & 31))
      end
    from made, given order by seq
  )
  insert into audit_index (tenant_id, indexed_seq, indexed_to)
    select tenant_id, $4::bigint, (select max(at) from made) from given
    on conflict (tenant_id) do update set indexed_seq = excluded.indexed_seq, indexed_to = excluded.indexed_to`;

/** Two at once: the machine has rarely less than two cores. */
const lanes = 2;

const hourOf = (ms: number): number => Math.floor(ms / hourMs) * hourMs;

/** Seals every tenant's hours before its own `sealedTo`, and tells each meter all that stands. */
async function sealAll(
  { stack, signal, progress }: Bench,
  tenants: readonly SeededTenant[],
  sealedTo: readonly number[],
): Promise<void> {
  const database = auditDatabase(stack);
  const meters = await stack.miniflare.getDurableObjectNamespace("PQL_METER", "maestro-api");
  const left = [...tenants.entries()].toReversed();
  const seal = async (client: pg.Client, number: number, tenantId: string): Promise<void> => {
    // Miniflare carries an object's methods over; its types know `fetch` only.
    const meter = meters.getByName(tenantId) as unknown as { report(report: CountReport): Promise<void> };
    const head = await headOf(client, tenantId);
    const to = sealedTo[number]!;
    // From the beginning, so that a meter that was told nothing, since a run was interrupted, is told all of it.
    for (let from: number | null = null; from === null || from < to;) {
      signal.throwIfAborted();
      progress(
        `sealing tenant ${number + 1} of ${tenants.length}, after ${new Date(from ?? 0).toISOString().slice(0, 10)}`,
      );
      const sealed: Sealed = await sealHours(database, tenantId, { from, to });
      from = sealed.sealed_to;
      for (const report of reportsOf({ ...head, sealed_to: from }, sealed)) await meter.report(report);
    }
    await meter.report({ ...head, sealed_to: to, hours: await openHours(client, tenantId, to), days: [] });
  };
  const lane = (): Promise<void> =>
    withClient(stack.databaseUrls.owner, async (client) => {
      try {
        for (let next = left.pop(); next !== undefined; next = left.pop())
          await seal(client, next[0], next[1].tenant_id);
      } finally {
        // Where one lane failed, the other one has nothing more to do.
        left.splice(0);
      }
    });
  await allOf(Array.from({ length: lanes }, lane));
}

/** All have ended when this does; the first failure is thrown then. */
async function allOf(running: readonly Promise<void>[]): Promise<void> {
  await Promise.allSettled(running);
  await Promise.all(running);
}

/** Over Neon's HTTP as the audit worker connects, since that is what `sealHours` takes. */
function auditDatabase(stack: Stack): Database {
  neonConfig.fetchEndpoint = () => stack.neonEndpoint;
  return drizzle({ client: neon(stack.databaseUrls.audit) });
}

type Head = Pick<CountReport, "indexed_seq" | "indexed_to">;

async function headOf(client: pg.Client, tenantId: string): Promise<Head> {
  const { rows } = await client.query<{ seq: string; at: Date }>(
    "select indexed_seq as seq, indexed_to as at from audit_index where tenant_id = $1",
    [tenantId],
  );
  return { indexed_seq: Number(rows[0]!.seq), indexed_to: rows[0]!.at.getTime() };
}

/** No report is over what a meter takes at once. */
function reportsOf(head: Head & Pick<CountReport, "sealed_to">, { hours, days }: Sealed): CountReport[] {
  const partsOf = <T>(all: readonly T[]): T[][] =>
    Array.from({ length: Math.ceil(all.length / reportRowsMax) }, (_, part) =>
      all.slice(part * reportRowsMax, (part + 1) * reportRowsMax),
    );
  return [
    ...partsOf(hours).map((part) => ({ ...head, hours: part, days: [] })),
    ...partsOf(days).map((part) => ({ ...head, hours: [], days: part })),
  ];
}

async function openHours(client: pg.Client, tenantId: string, from: number): Promise<HourCount[]> {
  const { rows } = await client.query<{ hour: string; type: EventType; rows: number }>(
    `select (extract(epoch from date_trunc('hour', logged_at, 'UTC')) * 1000)::bigint as hour, type, count(*)::int as rows
     from audit_events where tenant_id = $1 and logged_at >= $2
       and type in ('mc.policy.decision', 'mc.execution.started', 'mc.execution.finished')
     group by 1, 2`,
    [tenantId, new Date(from).toISOString()],
  );
  return rows.map(({ hour, type, rows: count }) => ({ hour: Number(hour), type, rows: count, groups: 0 }));
}
