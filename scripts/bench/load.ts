// Commits events into the Postgres outbox at a fixed rate, whatever becomes of them: as the role maestro_app, with the
// tenant set, in the statement that shared/outbox/outbox.ts makes, and with a nudge of the drain behind every commit, as
// the API's routes do. Called by measured-load.ts.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { eventText, type AuditEvent } from "../../shared/contract/events.ts";
import { newId } from "../../shared/contract/ids.ts";
import { newEvent, shardOf } from "../../shared/outbox/outbox.ts";
import { clientOf } from "../stack/connection.ts";
import type { SeededTenant } from "../stack/seed.ts";
import type { Stack } from "../stack/index.ts";
import { commitPlan, type LoadSetting, type PlannedCommit } from "./schedule.ts";

/** AUDIT_SHARDS of wrangler.toml. With another number there, rows would wait for ever, and be counted as lost. */
export const shards = 2;
/** One commit that takes longer than its interval must not hold up the next. */
const connectionsOfOneTenant = 4;
const digest = "5".repeat(64);

export const outboxInsertText = `insert into outbox (shard, tenant_id, event_id, body)
  select shard, tenant_id, event_id, body
  from jsonb_to_recordset($1::jsonb) as e(shard int, tenant_id uuid, event_id text, body text)
  returning event_id`;

export interface Committed {
  readonly tenant: number;
  readonly event_ids: readonly string[];
  /** When the commit was due, and when PostgreSQL had answered that it stands; in ms since 1970. */
  readonly due_at: number;
  readonly committed_at: number;
}

export interface Load {
  readonly plan: readonly PlannedCommit[];
  /** Resolves when everything is committed; rejects where a commit or a nudge failed, or `signal` aborted it. */
  run(signal: AbortSignal): Promise<Committed[]>;
  close(): Promise<void>;
}

/** Events are made and serialised before the load begins, so that making them costs the measured system nothing. */
export async function prepareLoad(stack: Stack, setting: LoadSetting, tenants: readonly SeededTenant[]): Promise<Load> {
  const plan = commitPlan(setting);
  const batches = plan.map(({ tenant, events }) => batchOf(tenants[tenant]!, events));
  const connections = await Promise.all(tenants.map((tenant) => connect(stack, tenant, tenants.length)));
  const nudges = await drainsOf(stack);
  return {
    plan,
    async run(signal) {
      const startAt = Date.now() + 100;
      const stopped = new AbortController();
      const under = AbortSignal.any([signal, stopped.signal]);
      // Awaited at the end, all together; the first failure ends the load at once.
      const running: Promise<Committed>[] = [];
      const nudging: Promise<void>[] = [];
      const commit = async ({ tenant, at_ms: at }: PlannedCommit, index: number): Promise<Committed> => {
        const batch = batches[index]!;
        const ofTenant = connections[tenant]!;
        await ofTenant[Math.floor(index / tenants.length) % ofTenant.length]!.insert(batch.rows);
        const nudge = nudges[shardOf(tenants[tenant]!.tenant_id, shards)]!();
        nudge.catch((error: unknown) => stopped.abort(error));
        nudging.push(nudge);
        return { tenant, event_ids: batch.ids, due_at: startAt + at, committed_at: Date.now() };
      };
      for (const [index, planned] of plan.entries()) {
        const waitMs = startAt + planned.at_ms - Date.now();
        if (waitMs > 0) await sleep(waitMs, undefined, { signal: under });
        under.throwIfAborted();
        const committed = commit(planned, index);
        committed.catch((error: unknown) => stopped.abort(error));
        running.push(committed);
      }
      const committed = await Promise.all(running);
      await Promise.all(nudging);
      return committed;
    },
    async close() {
      await Promise.all(connections.flat().map((connection) => connection.close()));
    },
  };
}

/** As the API nudges: a call of the drain's object after the commit, which nobody waits for. */
export async function drainsOf(stack: Stack): Promise<(() => Promise<void>)[]> {
  const namespace = await stack.miniflare.getDurableObjectNamespace("OUTBOX_DRAIN", "maestro-api");
  return Array.from({ length: shards }, (_, shard) => {
    // Miniflare carries an object's methods over; its types know `fetch` only.
    const stub = namespace.getByName(String(shard)) as unknown as { nudge(): Promise<void> };
    return () => stub.nudge();
  });
}

interface Connection {
  /** One after the other, in the order of the calls. */
  insert(rows: string): Promise<void>;
  close(): Promise<void>;
}

async function connect(stack: Stack, tenant: SeededTenant, tenants: number): Promise<Connection[]> {
  const count = tenants === 1 ? connectionsOfOneTenant : 1;
  return Promise.all(
    Array.from({ length: count }, async (): Promise<Connection> => {
      const client = clientOf(stack.databaseUrls.app);
      await client.connect();
      await client.query("select set_config('app.tenant', $1, false)", [tenant.tenant_id]);
      let last: Promise<void> = Promise.resolve();
      return {
        insert(rows) {
          last = last.then(async () => {
            await client.query({ name: "outbox-insert", text: outboxInsertText, values: [rows] });
          });
          return last;
        },
        close: () => client.end(),
      };
    }),
  );
}

interface Batch {
  readonly ids: readonly string[];
  /** The argument of `insert`. */
  readonly rows: string;
}

function batchOf(tenant: SeededTenant, count: number): Batch {
  const events = Array.from({ length: count }, (_, at) => eventOf(tenant, at));
  const rows = events.map((event) => ({
    shard: shardOf(event.tenant_id, shards),
    tenant_id: event.tenant_id,
    event_id: event.id,
    body: eventText(event),
  }));
  return { ids: events.map(({ id }) => id), rows: JSON.stringify(rows) };
}

/** Half decisions, half started runs: types that wait for company in the log, so that the seal's age is part of the lag. */
function eventOf(tenant: SeededTenant, at: number): AuditEvent {
  const context = {
    tenant_id: tenant.tenant_id,
    principal: tenant.principals.operator,
    source: "api",
    now: Date.now(),
    random: (count: number) => new Uint8Array(randomBytes(count)),
  } as const;
  const name = `bench/package-${at % 7}`;
  if (at % 2 === 0) {
    return newEvent(context, "mc.policy.decision", {
      action: "execution.start",
      outcome: "deny",
      rule: "entitlement_missing",
      package: name,
      policy_sha256: digest,
      input_sha256: digest,
    });
  }
  return newEvent(context, "mc.execution.started", {
    execution_id: newId("execution", context.now, context.random(10)),
    package: name,
    version: "1.0.0",
    channel: "stable",
    release_sha256: digest,
    input_sha256: digest,
    units: 10,
    entitlement_version: 1,
    policy_sha256: digest,
  });
}
