// The health gate over HTTP: it takes a failing release back by itself, lets a sound one go on, holds where it knows nothing,
// and a nudge that was lost is made up for.

import { sql } from "drizzle-orm";
import { beforeAll, expect, test } from "vitest";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { failingRuns, Market, marketApi } from "../support/installs.ts";
import { contractOf } from "../support/openapi.ts";
import { jsonCall, must, registeredSigner } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let market: Market;
/** Its gate was never nudged. */
let lost: Market;
const lostName = "gate/lost";

beforeAll(async () => {
  const api = await contractOf(stack.apiUrl);
  const publisher = await stack.seedTenant("gate-publisher");
  const signer = await registeredSigner(api, publisher);
  market = new Market(api, publisher, signer, await stack.seedTenant("gate"));
  lost = new Market(api, publisher, signer, await stack.seedTenant("gate-lost"));
  await loseNudges();
});

/** Four hosts on 1.0.0 with 1.1.0 on canary; of these, the cohort is those with the smallest buckets. */
async function prepared(one: Market, name: string): Promise<{ cohort: string[]; others: string[]; percent: number }> {
  await one.publish(name, "1.0.0");
  await one.entitle(name);
  const installs = await one.install(name, 4);
  await one.publish(name, "1.1.0", "canary");
  const sorted = installs.toSorted((left, right) => left.bucket - right.bucket);
  const percent = Math.min(98, Math.floor(sorted[1]!.bucket / 100) + 1);
  const isInside = ({ bucket }: { readonly bucket: number }): boolean => bucket < percent * 100;
  return {
    cohort: installs.filter(isInside).map((install) => install.name),
    others: installs.filter((install) => !isInside(install)).map((install) => install.name),
    percent,
  };
}

async function started(name: string) {
  const made = await prepared(market, name);
  must(201, await market.upgrade(name, { channel: "canary", cohort_percent: made.percent }));
  return made;
}

const runs = async (name: string, hosts: readonly string[], outcome: "succeeded" | "failed", rounds: number) => {
  for (let round = 0; round < rounds; round += 1) {
    await Promise.all(hosts.map((host) => market.run(name, host, outcome)));
  }
};

/** A rollout that fails, of which no gate was told: it began in this process, and its runs are rows. */
async function loseNudges(): Promise<void> {
  const { percent } = await prepared(lost, lostName);
  const api = await marketApi(stack, lost.tenant.tenant_id);
  const asked = { package: lostName, channel: "canary", cohort_percent: percent };
  const answer = await api.fetch("/api/market/upgrades", jsonCall(lost.tenant.keys.operator, "POST", asked));
  expect(answer.status).toBe(201);
  await inBatch(databaseAs(stack, "owner"), [
    sql`insert into executions (tenant_id, id, package, version, channel, release_id, release_sha256, units, status, principal_id,
          entitlement_version, started_at, deadline_at, finished_at, install_id, install_name, rollout_id)
        select i.tenant_id, 'exe_' || substr(md5(i.id || n), 1, 26), i.package, i.version, i.channel, i.release_id,
          i.artifact_sha256, 0, case when i.release_id = o.release_id then 'failed' else 'succeeded' end, 'pri', 1, now(), now(),
          now(), i.id, i.name, o.id
        from installs i join rollouts o on o.tenant_id = i.tenant_id and o.package = i.package and o.state = 'running',
          generate_series(1, 40) n
        where i.package = ${lostName}`,
  ]);
  expect((await lost.status(lostName)).rollout).toMatchObject({ state: "running", gate: null });
  // The last test looks at what comes of it: the sweep's alarm is up to ten seconds away.
  await stack.runScheduled();
}

test("a failing release is taken back: the cohort pinned where it was good, the digest barred, all told as nobody's doing", async () => {
  const name = "gate/failing";
  const { cohort, others } = await started(name);
  await Promise.all([runs(name, cohort, "failed", 12), runs(name, others, "succeeded", 12)]);
  await expect.poll(async () => (await market.status(name)).rollout?.state, { timeout: 20_000 }).toBe("aborted");
  const { rollout, bars, installs } = await market.status(name);
  expect(rollout).toMatchObject({ rule: "health_gate" });
  expect(bars).toMatchObject([{ version: "1.1.0", rule: "health_gate", barred_by: null }]);
  for (const install of installs) {
    expect([install.version, install.pinned]).toEqual(["1.0.0", cohort.includes(install.name)]);
  }
  expect((await market.upgrade(name, { channel: "canary" })).json.rule).toBe("release_barred");
  expect(rollout?.gate).toMatchObject({ state: "abort", rule: "failures", old_failures: 0 });
  expect(rollout?.gate?.words).toMatch(/^Aborted: /);

  const history = await market.api.fetch(
    `/api/market/installs/history?package=${name}`,
    jsonCall(market.tenant.keys.viewer, "GET"),
  );
  const moves = must(200, history).json.entries.filter((entry: { cause: string }) => entry.cause === "health_gate");
  expect(moves.map((move: { name: string }) => move.name).toSorted()).toEqual(cohort.toSorted());
  for (const move of moves) {
    expect(move).toMatchObject({
      principal_id: null,
      from_version: "1.1.0",
      version: "1.0.0",
      rollout_id: rollout!.id,
    });
  }
  // Not its runs: their decisions and receipts would fill the page.
  const types = ["mc.install.changed", "mc.package.rolled_back", "mc.release.barred", "mc.rollout.changed"];
  const where = `package = "${name}" AND type IN (${types.map((type) => `"${type}"`).join(", ")})`;
  const byNobody = async () =>
    (await market.events(where))
      .filter((row) => row["principal"] === null)
      .map((row) => `${String(row["type"])} ${String(row["outcome"])}`)
      .toSorted();
  await expect
    .poll(byNobody, { timeout: 20_000 })
    .toEqual([
      ...cohort.map(() => "mc.install.changed rolled_back"),
      "mc.package.rolled_back rolled_back",
      "mc.release.barred barred",
      "mc.rollout.changed aborted",
    ]);
});

test("a rollout that cannot be judged keeps the gate from no other of the tenant", async () => {
  const tenant = await stack.seedTenant("gate-broken");
  const one = new Market(market.api, market.publisher, market.signer, tenant);
  const [broken, failing] = ["gate/a-broken", "gate/b-failing"];
  for (const name of [broken, failing]) {
    const { percent } = await prepared(one, name);
    must(201, await one.upgrade(name, { channel: "canary", cohort_percent: percent }));
  }
  // Before any run of it ends, and so before the gate has a report to keep.
  const owner = databaseAs(stack, "owner");
  await inBatch(owner, [sql`update rollouts set gate = '{"state":"none of ours"}' where package = ${broken}`]);
  await failingRuns(stack, failing);
  must(200, await one.run(failing, "host-0"));
  await expect.poll(async () => (await one.status(failing)).rollout?.state, { timeout: 20_000 }).toBe("aborted");
  await inBatch(owner, [sql`update rollouts set gate = null where package = ${broken}`]);
});

test("a sound release goes on once enough was seen, and is then widened without another word", async () => {
  const name = "gate/sound";
  const { cohort, others, percent } = await started(name);
  const wider = { channel: "canary", cohort_percent: percent + 1 };
  const held = await market.upgrade(name, wider);
  expect([held.status, held.json.rule]).toEqual([403, "gate_holds"]);
  await runs(name, [...cohort, ...others], "succeeded", 12);
  await expect.poll(async () => (await market.status(name)).rollout?.gate?.state, { timeout: 20_000 }).toBe("continue");
  expect((await market.status(name)).rollout).toMatchObject({ state: "running", gate: { new_failures: 0 } });
  must(201, await market.upgrade(name, wider));
});

test("without a run of the old release there is nothing to compare with: failures alone abort nothing", async () => {
  const name = "gate/no-old-runs";
  const { cohort, percent } = await started(name);
  await runs(name, cohort, "failed", 12);
  await expect
    .poll(async () => (await market.status(name)).rollout?.gate?.new_runs, { timeout: 20_000 })
    .toBe(12 * cohort.length);
  const status = await market.status(name);
  expect(status.rollout).toMatchObject({ state: "running", gate: { state: "hold", rule: "no_old_runs" } });
  expect(status.bars).toEqual([]);

  const wider = { channel: "canary", cohort_percent: percent + 1 };
  const held = await market.upgrade(name, wider);
  expect([held.status, held.json.rule]).toEqual([403, "gate_holds"]);
  const widened = must(201, await market.upgrade(name, { ...wider, despite_gate: true }));
  expect(widened.json.rollout).toMatchObject({ state: "running", cohort_percent: percent + 1 });
});

test("a gate whose every nudge was lost is woken by the cron, and takes the failing release back", async () => {
  await expect.poll(async () => (await lost.status(lostName)).rollout?.state, { timeout: 20_000 }).toBe("aborted");
  const { installs, bars, rollout } = await lost.status(lostName);
  expect(rollout).toMatchObject({ rule: "health_gate" });
  expect(bars).toMatchObject([{ version: "1.1.0", rule: "health_gate", barred_by: null }]);
  expect(installs.map(({ version }) => version)).toEqual(["1.0.0", "1.0.0", "1.0.0", "1.0.0"]);
});
