// Many tenants with hardly anything to do: what they cost in puts. Each commits one event a minute; the crons run each
// minute, as they would. Called by the audit benchmark.

import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { eventText } from "../../shared/contract/events.ts";
import { newEvent, shardOf } from "../../shared/outbox/outbox.ts";
import { clientOf, withClient } from "../stack/connection.ts";
import type { Bench, Figures } from "./benchmark.ts";
import { drainsOf, outboxInsertText, shards } from "./load.ts";
import { objectsInBucket } from "./observe.ts";
import { commitPlan } from "./schedule.ts";
import { rounded } from "./statistics.ts";

export const idleSetting = { tenants: 1_000, minutes: 2 } as const;
/** After the last commit. What is not sealed by then is lost. */
const arrivalMsMax = 60_000;
const cronEveryMs = 60_000;

export async function measureIdle({ stack, signal, progress }: Bench): Promise<Figures> {
  const { tenants: count, minutes } = idleSetting;
  progress(`idle: preparing ${count} tenants`);
  const tenants = Array.from({ length: count }, () => randomUUID());
  await withClient(stack.databaseUrls.owner, (client) =>
    client.query(
      "insert into tenants (id, slug, created_at) select id, 'idle-' || position, now() from unnest($1::uuid[]) with ordinality as t (id, position)",
      [tenants],
    ),
  );
  const nudges = await drainsOf(stack);
  const plan = commitPlan({
    name: "idle",
    events_per_s: count / 60,
    tenants: count,
    duration_s: minutes * 60,
    commit_every_ms: 60_000 / count,
  });
  const before = await objectsInBucket(stack);
  const failed = new AbortController();
  const cron = setInterval(() => void stack.runScheduled().catch((error: unknown) => failed.abort(error)), cronEveryMs);
  const under = AbortSignal.any([signal, failed.signal]);
  const client = clientOf(stack.databaseUrls.app);
  await client.connect();
  try {
    progress(`idle: ${count} tenants, one event a minute, for ${minutes} min`);
    const startAt = Date.now();
    const nudging: Promise<void>[] = [];
    for (const { at_ms: at, tenant } of plan) {
      const waitMs = startAt + at - Date.now();
      if (waitMs > 0) await sleep(waitMs, undefined, { signal: under });
      under.throwIfAborted();
      const tenantId = tenants[tenant]!;
      await client.query("select set_config('app.tenant', $1, false)", [tenantId]);
      await client.query({
        name: "outbox-insert",
        text: outboxInsertText,
        values: [JSON.stringify([rowOf(tenantId)])],
      });
      nudging.push(nudges[shardOf(tenantId, shards)]!());
    }
    await Promise.all(nudging);
    progress("idle: waiting for the last rows");
    const logged = await rowsOf(tenants, plan.length);
    const objects = (await objectsInBucket(stack)) - before;
    return { events: plan.length, lost: plan.length - logged, objects, puts_per_event: rounded(objects / plan.length) };
  } finally {
    clearInterval(cron);
    await client.end();
  }

  async function rowsOf(ids: readonly string[], expected: number): Promise<number> {
    const end = performance.now() + arrivalMsMax;
    for (;;) {
      const { rows } = await withClient(stack.databaseUrls.owner, (owner) =>
        owner.query<{ n: number }>("select count(*)::int as n from audit_events where tenant_id = any($1)", [ids]),
      );
      const found = rows[0]!.n;
      if (found >= expected || performance.now() > end) return found;
      await sleep(500, undefined, { signal: under });
    }
  }
}

function rowOf(tenantId: string): object {
  const event = newEvent(
    {
      tenant_id: tenantId,
      principal: null,
      source: "api",
      now: Date.now(),
      random: (byteCount) => new Uint8Array(randomBytes(byteCount)),
    },
    "mc.flag.changed",
    { flag: "market_channels", outcome: "on" },
  );
  return { shard: shardOf(tenantId, shards), tenant_id: tenantId, event_id: event.id, body: eventText(event) };
}
