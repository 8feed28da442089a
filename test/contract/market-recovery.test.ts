// Kill points: an approval, an upgrade, a rollback and the gate's abort, each cut off at every await, before and after its
// effect. Whatever was cut off, every install is wholly on one release, and the same key brings it to its end, once.

import { sql } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import { base64 } from "../../shared/contract/bytes.ts";
import { watchRollouts } from "../../shared/executions/gate-watch.ts";
import { entitlementStore } from "../../shared/market/entitlement-store.ts";
import { EntitlementQueue } from "../../shared/market/entitlements.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import {
  checkPublisherBundle,
  countersignature,
  pointerStatement,
  type ReleaseKey,
} from "../../shared/signing/release.ts";
import type { PointerRequest } from "../../shared/signing/service.ts";
import { statement } from "../../shared/signing/statement.ts";
import type { SignedBundle } from "../../shared/contract/events.ts";
import { inBatch, type Database } from "../../shared/tenancy/database.ts";
import { databaseAs, localApi, type LocalApi } from "../support/api.ts";
import { crashing, crashPlan, type CrashPlan } from "../support/crashing.ts";
import { failingRuns, Market } from "../support/installs.ts";
import { contractOf } from "../support/openapi.ts";
import {
  freshKey,
  jsonCall,
  manifestOf,
  must,
  newSigner,
  packageOf,
  registeredSigner,
  signRelease,
  uploadOf,
} from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let market: Market;
/** Signs in this process, so that its calls can be cut off too. */
let marketplace: Signer;
let trusted: Map<string, ReleaseKey>;
let count = 0;
const newName = (): string => `recovery/package-${(count += 1)}`;
const random = (bytes: number) => crypto.getRandomValues(new Uint8Array(bytes));
/** At full count every await is cut off both ways; otherwise some before their effect, and others after it. */
const stride = process.env["MAESTRO_DEEP"] === "1" ? 1 : 5;
/** More awaits than any of these flows has. */
const awaitsMax = 40;

beforeAll(async () => {
  const api = await contractOf(stack.apiUrl);
  const publisher = await stack.seedTenant("recovery-publisher");
  const tenant = await stack.seedTenant("recovery");
  market = new Market(api, publisher, await registeredSigner(api, publisher), tenant);
  marketplace = await newSigner();
  const { json } = await api.fetch("/api/audit/keys");
  const keys = json.keys as { use: string; kid: string; spki: string }[];
  const believed = (spki: string): ReleaseKey => ({ spki, not_after: null });
  trusted = new Map(keys.filter(({ use }) => use === "release").map(({ kid, spki }) => [kid, believed(spki)]));
  trusted.set(marketplace.kid, believed(base64(marketplace.spki)));
});

const signerOf = (signer: Signer) => ({
  async countersign(bundle: SignedBundle, spki: string) {
    const checked = await checkPublisherBundle(bundle, spki);
    if (!checked.ok) return checked;
    const signed = await signStatement(
      signer,
      statement(await countersignature(bundle, checked.release, new Date().toISOString())),
    );
    return { ok: true, bundle: signed };
  },
  async pointer(request: PointerRequest) {
    const checked = await checkPublisherBundle(request.publisher_bundle, request.publisher_spki);
    if (!checked.ok) return checked;
    const { manifest, artifact_sha256 } = checked.release;
    const { channel, sequence, moved_at } = request;
    const pointer = { package: manifest.name, channel, version: manifest.version, sequence, moved_at, artifact_sha256 };
    return { ok: true, bundle: await signStatement(signer, statement(pointerStatement(pointer))) };
  },
});

/** Every round trip to Postgres is an await that can be cut off; so are the bucket's and the signer's. */
async function apiThatCrashes(plan: CrashPlan): Promise<LocalApi> {
  const database = databaseAs(stack, "app");
  const queue = new EntitlementQueue(entitlementStore(database, market.tenant.tenant_id, 2), Date.now, random);
  return await localApi(stack, {
    database: cutOff(database, plan),
    entitlements: () => crashing(queue, plan),
    releaseKeys: () => Promise.resolve(trusted),
    artifacts: crashing({ head: (key: string) => stack.readObject("artifacts", key) }, plan),
    signer: crashing(signerOf(marketplace), plan),
    nudgeGate: () => undefined,
  });
}

/** drizzle's `batch` is the round trip; `execute` only makes a statement of it. */
function cutOff(database: Database, plan: CrashPlan): Database {
  const trips = crashing({ batch: (statements: Parameters<Database["batch"]>[0]) => database.batch(statements) }, plan);
  return new Proxy(database, {
    get: (target, name) => (name === "batch" ? trips.batch : (Reflect.get(target, name, target) as unknown)),
  });
}

const owner = async (statement: ReturnType<typeof sql>) =>
  (await inBatch(databaseAs(stack, "owner"), [statement]))[0] ?? [];

/** What stands where of a package's installs, by another path than the API's. */
async function standing(name: string) {
  const rows = await owner(
    sql`select i.name, i.version, i.pinned, r.version as release_version, h.version as told_version, h.cause,
          r.artifact_sha256 = i.artifact_sha256 as one_digest
        from installs i join releases r on r.id = i.release_id
        left join lateral (
          select version, cause from install_history h
          where h.tenant_id = i.tenant_id and h.install_id = i.id order by h.id desc limit 1
        ) h on true
        where i.package = ${name} order by i.name`,
  );
  for (const row of rows) {
    expect([row["release_version"], row["told_version"], row["one_digest"]]).toEqual([
      row["version"],
      row["version"],
      true,
    ]);
  }
  return rows.map((row) => ({ version: row["version"], pinned: row["pinned"], cause: row["cause"] }));
}

/** How often the log must have told what, once everything has reached it: looked at when all flows are over. */
const tellings: { readonly name: string; readonly type: string; readonly times: number }[] = [];
const told = (name: string, type: string, times: number): void => void tellings.push({ name, type, times });

async function prepared(hosts = 2): Promise<string> {
  const name = newName();
  await market.publish(name, "1.0.0");
  await market.entitle(name);
  await market.install(name, hosts);
  await market.publish(name, "1.1.0", "canary");
  return name;
}

/** A flow over HTTP, and what must stand after it: `done` where nothing cut it off. */
interface Flow {
  readonly attempt: (api: LocalApi) => Promise<Response>;
  readonly check: (done: boolean) => Promise<void>;
}

/**
 * Runs `flow` with a crash at each await in turn, until one run meets none; after each, `check` looks at what stands, and the
 * same key without a crash brings it to its end.
 */
async function killedEverywhere(when: CrashPlan["when"], flow: (plan: CrashPlan) => Promise<Flow>): Promise<number> {
  for (let at = stride === 1 || when === "before" ? 0 : 1; at < awaitsMax; at += stride) {
    const plan = crashPlan(at, when);
    const one = await flow(plan);
    const cut = await one.attempt(await apiThatCrashes(plan));
    expect(plan.crashed || cut.ok).toBe(true);
    await one.check(!plan.crashed);
    if (!plan.crashed) return at;
    const again = await one.attempt(await apiThatCrashes(crashPlan(-1, "before")));
    expect([at, again.status]).toEqual([at, expect.toBeOneOf([200, 201])]);
    await one.check(true);
  }
  throw new Error(`more than ${awaitsMax} awaits`);
}

describe.each(["before", "after"] as const)("cut off %s the effect of every await", (when) => {
  test("an upgrade moves all installs or none, and the same key completes it", async () => {
    const awaits = await killedEverywhere(when, async () => {
      const name = await prepared();
      const call = jsonCall(
        market.tenant.keys.operator,
        "POST",
        { package: name, channel: "canary" },
        { "idempotency-key": freshKey() },
      );
      return {
        attempt: (api) => api.fetch("/api/market/upgrades", call),
        async check(done) {
          const versions = new Set((await standing(name)).map(({ version }) => version));
          expect(versions.size).toBe(1);
          if (!done) return;
          expect([...versions]).toEqual(["1.1.0"]);
          told(name, "mc.install.changed", 4);
          told(name, "mc.rollout.changed", 2);
        },
      };
    });
    expect(awaits).toBeGreaterThan(6);
  });

  test("a rollback moves, pins and bars all, or nothing, and the same key completes it", async () => {
    const awaits = await killedEverywhere(when, async () => {
      const name = await prepared();
      must(201, await market.upgrade(name, { channel: "canary" }));
      const call = jsonCall(market.tenant.keys.operator, "POST", { package: name }, { "idempotency-key": freshKey() });
      return {
        attempt: (api) => api.fetch("/api/market/rollbacks", call),
        async check(done) {
          const rows = await standing(name);
          const { bars } = await market.status(name);
          const back = rows.every((row) => row.version === "1.0.0" && row.pinned === true && row.cause === "rollback");
          const stays = rows.every((row) => row.version === "1.1.0" && row.pinned === false);
          expect([back && bars.length === 1, stays && bars.length === 0]).toContain(true);
          if (!done) return;
          expect(back).toBe(true);
          told(name, "mc.package.rolled_back", 1);
        },
      };
    });
    expect(awaits).toBeGreaterThan(4);
  });

  test("an approval publishes with its pointer and both tenants' events, or not at all", async () => {
    const awaits = await killedEverywhere(when, async () => {
      const name = newName();
      const manifest = manifestOf(name);
      const artifact = await packageOf(manifest);
      const bundle = await signRelease(market.signer, manifest, artifact);
      const upload = uploadOf(market.publisher.keys.publisher, bundle, artifact);
      const { json } = must(201, await market.api.fetch("/api/market/releases", upload));
      const call = jsonCall(market.tenant.keys.reviewer, "POST", {}, { "idempotency-key": freshKey() });
      return {
        attempt: (api) => api.fetch(`/api/market/reviews/${json.id}/approve`, call),
        async check(done) {
          const [row] = await owner(
            sql`select r.state, r.marketplace_bundle is not null as signed, c.bundle is not null as pointed,
                  (select count(*)::int from channel_history h where h.package = r.package) as moves
                from releases r left join channel_pointers c on c.package = r.package where r.id = ${json.id}`,
          );
          const whole = { state: "published", signed: true, pointed: true, moves: 1 };
          expect(row).toBeOneOf([whole, { state: "in_review", signed: false, pointed: false, moves: 0 }]);
          if (!done) return;
          expect(row).toEqual(whole);
          told(name, "mc.release.reviewed", 1);
          told(name, "mc.release.published", 1);
          told(name, "mc.channel.moved", 1);
        },
      };
    });
    expect(awaits).toBeGreaterThan(5);
  });

  test("the gate's abort takes the whole cohort back or nothing, and the next alarm completes it", async () => {
    const failing = async (): Promise<string> => {
      const name = await prepared(4);
      const sorted = (await market.status(name)).installs.toSorted((left, right) => left.bucket - right.bucket);
      const percent = Math.min(99, Math.floor(sorted[1]!.bucket / 100) + 1);
      must(201, await market.upgrade(name, { channel: "canary", cohort_percent: percent }));
      return name;
    };
    const tenantId = market.tenant.tenant_id;
    const unusable = () => Promise.resolve(new Set<string>());
    for (let at = stride === 1 || when === "before" ? 0 : 1; at < awaitsMax; at += stride) {
      const name = await failing();
      await failingRuns(stack, name);
      const plan = crashPlan(at, when);
      const parts = { shards: 2, random, log: () => undefined, nudgeDrain: () => undefined, unusable };
      const watch = (database: Database) => watchRollouts({ ...parts, database }, tenantId, Date.now());
      await watch(cutOff(databaseAs(stack, "app"), plan)).catch((error: unknown) => {
        if (!plan.crashed) throw error;
      });
      const cohort = (await standing(name)).filter((row) => row.cause === "upgrade" || row.cause === "health_gate");
      expect(
        new Set(cohort.map((row) => `${String(row.version)} ${String(row.pinned)} ${String(row.cause)}`)).size,
      ).toBe(1);
      await watch(databaseAs(stack, "app"));
      expect((await market.status(name)).rollout).toMatchObject({ state: "aborted", rule: "health_gate" });
      expect((await standing(name)).every((row) => row.version === "1.0.0")).toBe(true);
      told(name, "mc.package.rolled_back", 1);
      if (!plan.crashed) return;
    }
    throw new Error(`more than ${awaitsMax} awaits`);
  });
});

test("each of them was told once, however often it was cut off and tried again", async () => {
  // No request nudged the drain here: the cron finds it without an alarm, and sets one.
  await stack.runScheduled();
  await expect.poll(async () => (await owner(sql`select from outbox`)).length, { timeout: 30_000 }).toBe(0);
  const counted = async () => {
    const rows = await owner(
      sql`select package, type, count(*)::int as times from audit_events where package like 'recovery/%' group by package, type`,
    );
    const times = new Map(
      rows.map((row) => [`${String(row["package"])} ${String(row["type"])}`, Number(row["times"])]),
    );
    return tellings.map(({ name, type }) => ({ name, type, times: times.get(`${name} ${type}`) ?? 0 }));
  };
  const sum = (list: readonly { times: number }[]): number => list.reduce((total, { times }) => total + times, 0);
  await expect.poll(async () => sum(await counted()), { timeout: 30_000 }).toBeGreaterThanOrEqual(sum(tellings));
  expect(tellings.length).toBeGreaterThan(stride === 1 ? 30 : 15);
  expect(await counted()).toEqual(tellings);
});
