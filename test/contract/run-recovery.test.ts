// The recovery table of a run (shared/executions/start.ts), on real Postgres: a crash before and after each await of start
// and finish, then either a client that tries again with the same key, or one that never comes back.

import { randomBytes } from "node:crypto";
import { neon, neonConfig } from "@neondatabase/serverless";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/neon-http";
import pg from "pg";
import { beforeAll, expect, test } from "vitest";
import { resolveLease } from "../../shared/executions/lease.ts";
import { finishRun, startRun, type RunParts } from "../../shared/executions/start.ts";
import * as store from "../../shared/executions/store.ts";
import { entitlementStore } from "../../shared/market/entitlement-store.ts";
import { EntitlementQueue } from "../../shared/market/entitlements.ts";
import { readInstall } from "../../shared/market/install-store.ts";
import { newEvent } from "../../shared/outbox/outbox.ts";
import { Ledger, leaseMs, type LedgerPort } from "../../shared/privacy/ledger.ts";
import { asTenant, type Database } from "../../shared/tenancy/database.ts";
import { answerOnce, type IdempotencyClaim } from "../../shared/tenancy/idempotency.ts";
import { Crash, crashing, crashPlan, type CrashPlan } from "../support/crashing.ts";
import { openSql } from "../support/sqlite.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const random = (count: number): Uint8Array<ArrayBuffer> => new Uint8Array(randomBytes(count));
const units = 10;
const limit = 100;
const packageName = "recovery/probe";
let database: Database;
let tenantId: string;
let principalId: string;

beforeAll(async () => {
  const tenant = await stack.seedTenant("run-recovery");
  tenantId = tenant.tenant_id;
  principalId = tenant.principals.operator;
  neonConfig.fetchEndpoint = stack.neonEndpoint;
  database = drizzle({ client: neon(stack.databaseUrls.app) });
  const owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  const now = new Date().toISOString();
  const release = `rel_${"0".repeat(26)}`;
  await owner.query("insert into packages values ($1, $2, $3) on conflict do nothing", [packageName, tenantId, now]);
  await owner.query(
    `insert into releases (id, package, publisher_tenant_id, version, channel, state, artifact_sha256, artifact_bytes, units,
       manifest, publisher_bundle, marketplace_bundle, publisher_spki, uploaded_at, published_at)
     values ($1, $2, $3, '1.0.0', 'stable', 'published', $4, 10, $5, $6, '{}', '{}', '', $7, $7) on conflict do nothing`,
    [release, packageName, tenantId, "c".repeat(64), units, JSON.stringify({ limits: { wall_ms: 1000 } }), now],
  );
  await owner.query(
    `insert into installs (tenant_id, package, id, release_id, version, channel, artifact_sha256, units, changed_at, name, bucket)
     values ($1, $2, $3, $4, '1.0.0', 'stable', $5, $6, $7, 'default', 0) on conflict do nothing`,
    [tenantId, packageName, `ins_${"0".repeat(26)}`, release, "c".repeat(64), units, now],
  );
  await owner.end();
  const entitlements = new EntitlementQueue(entitlementStore(database, tenantId, 2), Date.now, random);
  await entitlements.put({
    upsert: {
      entitlements: [
        {
          package: packageName,
          channel: "stable",
          allowed: true,
          version_range: null,
          run_windows: null,
          runs_per_day_max: null,
        },
      ],
      reason: "",
    },
    principal_id: principalId,
    claim: null,
    if_versions: null,
  });
});

/** A fresh world for one case: its own ledger and key; Postgres is shared. */
function world() {
  const ledger = new Ledger(openSql(":memory:"));
  let now = Date.now();
  const context = () => ({ tenant_id: tenantId, principal: null, source: "privacy" as const, now, random });
  ledger.configure(context(), limit, 0, null);
  const port: LedgerPort = {
    balance: async () => ledger.balance(now),
    configure: async () => ledger.balance(now),
    reserve: async (principal, request) => ledger.reserve({ ...context(), principal }, request),
    settle: async (id) => ledger.settle(context(), id),
  };
  const entitlements = new EntitlementQueue(entitlementStore(database, tenantId, 2), () => now, random);
  const claimOf = (route: string): IdempotencyClaim => ({
    tenant_id: tenantId,
    principal_id: principalId,
    route,
    key: random(8).join("-"),
    body_sha256: "d".repeat(64),
  });
  const startClaim = claimOf("POST /api/executions");
  const finishClaim = claimOf("POST /api/executions/{id}/finish");
  const partsWith = (plan: CrashPlan): RunParts => {
    const allow = {
      allow: true,
      rule: "ok",
      reasons: [],
      roles_allowed: ["operator"],
      fix: null,
      obstacles: [],
    } as const;
    const effects = crashing(
      {
        readInstall: (name: string, install: string) => readInstall(database, tenantId, name, install),
        runsToday: (name: string) => store.runsToday(database, tenantId, name, now),
        insert: (row: store.InsertExecution) => store.insertExecution(database, tenantId, 2, row),
        read: (id: string) => store.readExecution(database, tenantId, id),
        end: (row: store.EndExecution) => store.endExecution(database, tenantId, 2, row),
      },
      plan,
    );
    return {
      random,
      log: () => undefined,
      entitlements: crashing(entitlements, plan),
      ledger: crashing(port, plan),
      policy_sha256: "e".repeat(64),
      decide: () => Promise.resolve(allow),
      allowedEvent: async (decision, facts, executionId) =>
        newEvent({ tenant_id: tenantId, principal: principalId, source: "api", now, random }, "mc.policy.decision", {
          action: "execution.start",
          outcome: "allow",
          rule: decision.rule,
          package: facts.package,
          execution_id: executionId,
          policy_sha256: "e".repeat(64),
          input_sha256: "e".repeat(64),
        }),
      readInstall: effects.readInstall,
      installing: () => Promise.reject(new Error("this run has its install")),
      changesNeeded: () => 0,
      runsToday: effects.runsToday,
      insert: effects.insert,
      read: effects.read,
      end: effects.end,
    };
  };
  const caller = {
    tenant_id: tenantId,
    tenant: "t",
    principal_id: principalId,
    kind: "service",
    role: "operator",
    credential: "key",
    fetcher_svids: { registered: false, everywhere: true },
    spiffe_id: null,
    spiffe_domain: null,
  } as const;
  return {
    ledger,
    /** As the API does it: recall, else run. */
    async start(plan: CrashPlan) {
      const { answer } = await answerOnce(database, startClaim, now, async () => {
        const started = await startRun(
          partsWith(plan),
          { caller, now, claim: startClaim, decision: null },
          { package: packageName, install: "default", input_sha256: null },
        );
        if (started.state !== "started") throw new Error("denied");
        return { status: 201, body: started.execution };
      });
      return answer.body as { id: string };
    },
    async finish(plan: CrashPlan, id: string) {
      await answerOnce(database, finishClaim, now, async () => ({
        status: 200,
        body: await finishRun(partsWith(plan), { caller, now, claim: finishClaim, decision: null }, id, {
          outcome: "succeeded",
          exit_code: 0,
          output_sha256: null,
        }),
      }));
    },
    /** Time passes, and the ledger's alarm asks about every lease that has ended. */
    async later(ms: number) {
      now += ms;
      const question = store.leaseQuestion(database, tenantId, 2);
      for (const due of ledger.due(now, 100)) await resolveLease(ledger, question, context(), due);
    },
    balance: () => ledger.balance(now),
    async rows() {
      const [executions, events] = await asTenant(database, tenantId, [
        sql`select id, status from executions where tenant_id = ${tenantId}`,
        sql`select body::jsonb -> 'attributes' ->> 'execution_id' as id, body::jsonb ->> 'type' as type from outbox where tenant_id = ${tenantId}`,
      ]);
      return { executions: executions ?? [], events: events ?? [] };
    },
  };
}

const noCrash = (): CrashPlan => crashPlan(-1, "before");
const whens = ["before", "after"] as const;

/** Events leave the outbox when the drain takes them, so they are counted by difference, with the drain kept out. */
async function newRows(one: ReturnType<typeof world>, work: () => Promise<void>) {
  const before = new Set((await one.rows()).executions.map(({ id }) => id));
  await work();
  const after = await one.rows();
  return after.executions.filter(({ id }) => !before.has(id));
}

test.each(whens)("a crash %s any await of start, then the same key again: one run, one reservation", async (when) => {
  let crashes = 0;
  for (let at = 0; ; at += 1) {
    const one = world();
    const plan = crashPlan(at, when);
    const made = await newRows(one, async () => {
      await one.start(plan).catch((error: unknown) => {
        if (!(error instanceof Crash)) throw error;
      });
      const again = await one.start(noCrash());
      expect(await one.start(noCrash())).toEqual(again);
      await one.finish(noCrash(), again.id);
    });
    expect(made, `crash ${when} call ${at}`).toMatchObject([{ status: "succeeded" }]);
    await one.later(leaseMs + 1);
    expect(one.balance(), `crash ${when} call ${at}`).toMatchObject({ spent_units: units, held_units: 0 });
    if (!plan.crashed) break;
    crashes += 1;
  }
  expect(crashes).toBeGreaterThanOrEqual(4);
});

test.each(whens)(
  "a crash %s any await of start, and nobody comes back: no budget is burnt without a run",
  async (when) => {
    for (let at = 0; ; at += 1) {
      const one = world();
      const plan = crashPlan(at, when);
      const made = await newRows(one, async () => {
        await one.start(plan).catch((error: unknown) => {
          if (!(error instanceof Crash)) throw error;
        });
      });
      if (!plan.crashed) break;
      await one.later(leaseMs + 1);
      // A row that was committed runs until its deadline, then it expires, and only then are its units spent.
      const runs = made.length;
      expect(one.balance(), `crash ${when} call ${at}`).toMatchObject({ spent_units: 0, held_units: runs * units });
      await one.later(3_600_000);
      expect(one.balance(), `crash ${when} call ${at}`).toMatchObject({ spent_units: runs * units, held_units: 0 });
      const ids = made.map(({ id }) => id);
      const { executions } = await one.rows();
      const states = executions.filter(({ id }) => ids.includes(id)).map(({ status }) => status);
      expect(states).toEqual(ids.map(() => "expired"));
    }
  },
);

test.each(whens)(
  "a crash %s any await of finish, then the same key again: it ends once, and is settled once",
  async (when) => {
    for (let at = 0; ; at += 1) {
      const one = world();
      const { id } = await one.start(noCrash());
      const plan = crashPlan(at, when);
      await one.finish(plan, id).catch((error: unknown) => {
        if (!(error instanceof Crash)) throw error;
      });
      await one.finish(noCrash(), id);
      await one.later(leaseMs + 1);
      expect(one.balance(), `crash ${when} call ${at}`).toMatchObject({ spent_units: units, held_units: 0 });
      expect((await one.rows()).executions.find((row) => row["id"] === id)).toMatchObject({ status: "succeeded" });
      if (!plan.crashed) break;
    }
  },
);

test("a row that comes after its reservation's admission time is refused, so that a refund never races it", async () => {
  const { id } = await world().start(noCrash());
  const run = await store.readExecution(database, tenantId, id);
  const late = await store.insertExecution(database, tenantId, 2, {
    execution: { ...run!, id: `exe_${"1".repeat(26)}` },
    install_id: `ins_${"0".repeat(26)}`,
    principal_id: principalId,
    entitlement_version: 1,
    runs_per_day_max: null,
    events: [
      {
        id: `evt_${"1".repeat(26)}`,
        tenant_id: tenantId,
        type: "mc.privacy.budget_set",
        schema_version: 1,
        source: "api",
        source_seq: null,
        occurred_at: new Date().toISOString(),
        principal: null,
        attributes: { limit_units: 1, leak_units_per_hour: 0 },
      },
    ],
    claim: { tenant_id: tenantId, principal_id: principalId, route: "late", key: "late", body_sha256: "d".repeat(64) },
    now: Date.now(),
    admit_until_ms: Date.now() - 1,
  });
  expect(late).toBe(false);
  expect(await store.readExecution(database, tenantId, `exe_${"1".repeat(26)}`)).toBeNull();
});

test("after all those crashes the log has each run's decision and start once, and its end once if it ended", async () => {
  const owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  try {
    const told = async () =>
      (
        await owner.query<{ id: string; status: string; started: number; finished: number; decided: number }>(
          `select e.id, e.status, count(*) filter (where a.type = 'mc.execution.started')::int as started,
             count(*) filter (where a.type = 'mc.execution.finished')::int as finished,
             count(*) filter (where a.type = 'mc.policy.decision')::int as decided
           from executions e left join audit_events a on a.tenant_id = e.tenant_id and a.execution_id = e.id
           where e.tenant_id = $1 group by e.id, e.status`,
          [tenantId],
        )
      ).rows;
    // No request nudged the drain here: the cron finds it without an alarm, and sets one.
    await stack.runScheduled();
    await expect
      .poll(async () => (await owner.query("select from outbox where tenant_id = $1", [tenantId])).rowCount, {
        timeout: 30_000,
      })
      .toBe(0);
    await expect.poll(async () => (await told()).every(({ started }) => started > 0), { timeout: 30_000 }).toBe(true);
    await expect
      .poll(async () => (await told()).every(({ status, finished }) => status === "running" || finished > 0), {
        timeout: 30_000,
      })
      .toBe(true);
    const runs = await told();
    expect(runs.length).toBeGreaterThan(20);
    for (const run of runs) {
      expect(run, run.id).toMatchObject({ decided: 1, started: 1, finished: run.status === "running" ? 0 : 1 });
    }
  } finally {
    await owner.end();
  }
});
