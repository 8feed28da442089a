// The demo's second half: a release that fails, an upgrade of some hosts, the gate that takes it back, a deny that says
// what would help, and a rollback by hand. Each step reads back by another path than it wrote by.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { projectFolder } from "../stack/workers.ts";
import type { Step } from "./steps.ts";
import { until, type World } from "./world.ts";

const name = "tools/sbom-inventory";
const good = "1.0.0";
const bad = "1.1.0";
const hosts = ["edge-1", "edge-2", "edge-3", "edge-4"];
const budgetUnits = 1_000_000;
/** Runs of each host until the gate must have spoken. */
const runsEach = 30;
const gateMsMax = 20_000;
const rollbackMsMax = 120_000;

const text = (value: unknown): string => String(value);

const installed = (world: World): Promise<Record<string, unknown>[]> =>
  world.rows(
    "select name, version, pinned, bucket from installs where tenant_id = $1 and name <> 'default' order by bucket, name",
    world.tenant.tenant_id,
  );

/** Starts and finishes a run over the API, as a host would: the bad release fails each time. */
async function runOnce(world: World, host: string): Promise<void> {
  const post = async (path: string, body: unknown): Promise<Record<string, unknown>> => {
    const response = await fetch(world.stack.apiUrl + path, {
      method: "POST",
      headers: {
        authorization: `Bearer ${world.tenant.keys.operator}`,
        "content-type": "application/json",
        "idempotency-key": randomUUID(),
      },
      body: JSON.stringify(body),
    });
    const answer = (await response.json()) as Record<string, unknown>;
    if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const run = await post("/api/executions", { package: name, install: host });
  const failed = run["version"] === bad;
  await post(`/api/executions/${text(run["id"])}/finish`, {
    outcome: failed ? "failed" : "succeeded",
    exit_code: failed ? 1 : 0,
  });
}

export const marketSteps: readonly Step[] = [
  {
    name: "publish a release that fails, on canary; the reviewer sees what differs",
    async run(world) {
      const folder = join(projectFolder, "test/fixtures/sbom-inventory-broken");
      const release = await world.run("publisher", "market", "publish", folder);
      const review = await world.run("reviewer", "market", "review", "show", text(release["id"]));
      const { files } = review["difference"] as { files: { changed: { path: string }[] } };
      const paths = files.changed.map(({ path }) => path);
      assert.ok(paths.includes("main.mjs"), `main.mjs is not among the changed files: ${paths.join(", ")}`);
      await world.run("reviewer", "market", "review", "approve", text(release["id"]), "--reason", "a canary");
      const [row] = await world.rows(
        `select r.version from channel_pointers c join releases r on r.id = c.release_id
         where c.package = $1 and c.channel = 'canary'`,
        name,
      );
      assert.deepEqual(row, { version: bad });
      return `canary points to ${bad}, changed: ${paths.join(", ")}`;
    },
  },
  {
    name: "four hosts have the good release; half of them get the new one",
    async run(world) {
      await world.run("admin", "market", "entitle", name, "--channel", "canary", "--reason", "try the canary");
      await world.run("admin", "budget", "set", "--limit", text(budgetUnits), "--leak-per-hour", "0");
      for (const host of hosts) await world.run("operator", "market", "install", name, "--name", host);
      const before = await installed(world);
      const percent = Math.floor(Number(before[1]!["bucket"]) / 100) + 1;
      const args = ["market", "upgrade", name, "--channel", "canary", "--cohort", text(percent)];
      await world.run("operator", ...args, "--reason", "the demo");
      const after = await installed(world);
      const upgraded = after.filter((row) => row["version"] === bad);
      const inCohort = after.filter((row) => Number(row["bucket"]) < percent * 100);
      assert.deepEqual(upgraded, inCohort);
      assert.ok(upgraded.length >= 2 && after.every((row) => row["version"] === good || row["version"] === bad));
      return `cohort of ${percent}%: ${upgraded.map((row) => text(row["name"])).join(", ")}`;
    },
  },
  {
    name: "the health gate takes it back by itself",
    async run(world) {
      for (let run = 0; run < runsEach; run += 1) {
        for (const host of hosts) await runOnce(world, host);
        const [row] = await world.rows("select state from rollouts where tenant_id = $1", world.tenant.tenant_id);
        if (row?.["state"] === "aborted") break;
      }
      const rollout = await until("the rollout's end", gateMsMax, async () => {
        const [row] = await world.rows(
          "select state, rule, gate from rollouts where tenant_id = $1",
          world.tenant.tenant_id,
        );
        return row?.["state"] === "running" ? null : row!;
      });
      assert.equal(rollout["state"], "aborted");
      assert.equal(rollout["rule"], "health_gate");
      const after = await installed(world);
      assert.ok(after.every((row) => row["version"] === good));
      assert.ok(after.some((row) => row["pinned"] === true));
      const asked = await until("the abort in PQL", gateMsMax, async () => {
        const answer = await world.run(
          "auditor",
          "pql",
          'FIND events WHERE type = "mc.rollout.changed" AND outcome = "aborted" TOP 3 BY rule SINCE 1h',
        );
        return answer["total"] === 1 ? answer : null;
      });
      assert.equal((asked["groups"] as { name: string }[])[0]?.name, "health_gate");
      const { new_failures: failures, new_runs: runs } = rollout["gate"] as Record<string, unknown>;
      return `after ${text(failures)} failures in ${text(runs)} runs of ${bad}; every host is on ${good} again`;
    },
  },
  {
    name: "the next upgrade is denied; what the explanation names makes it allowed",
    async run(world) {
      const upgrade = ["market", "upgrade", name, "--channel", "canary"] as const;
      const denied = await world.cli("operator", ...upgrade);
      assert.equal(denied.code, 3);
      const explained = await world.run("operator", "market", "explain", "upgrade.start", name, "--channel", "canary");
      assert.equal(explained["allow"], false);
      const fixes = explained["fixes"] as { method: string; path: string; body: unknown; words: string }[];
      assert.ok(fixes.length > 0);
      for (const fix of fixes) {
        const response = await fetch(world.stack.apiUrl + fix.path, {
          method: fix.method,
          headers: {
            authorization: `Bearer ${world.tenant.keys.admin}`,
            "content-type": "application/json",
            ...(fix.method === "POST" ? { "idempotency-key": randomUUID() } : {}),
          },
          body: JSON.stringify(fix.body),
        });
        assert.ok(response.ok, `${fix.method} ${fix.path}: ${await response.text()}`);
      }
      await world.run("operator", ...upgrade);
      const [row] = await world.rows(
        "select count(*)::int as count from installs where tenant_id = $1 and version = $2",
        world.tenant.tenant_id,
        bad,
      );
      assert.ok(Number(row?.["count"]) > 0);
      return `${text(explained["rule"])}: ${fixes.map(({ words }) => words).join(" ")}`;
    },
  },
  {
    name: "roll it back by hand",
    async run(world) {
      const startedAt = performance.now();
      const result = await world.run("operator", "market", "rollback", name, "--reason", "the demo is over");
      const tookMs = performance.now() - startedAt;
      assert.ok(tookMs < rollbackMsMax);
      const moves = result["moves"] as unknown[];
      const [row] = await world.rows(
        "select count(*)::int as count from installs where tenant_id = $1 and version = $2",
        world.tenant.tenant_id,
        bad,
      );
      assert.deepEqual(row, { count: 0 });
      const [bar] = await world.rows(
        "select version, rule from release_bars where tenant_id = $1 and lifted_at is null",
        world.tenant.tenant_id,
      );
      assert.deepEqual(bar, { version: bad, rule: "rollback" });
      return `${moves.length} installs in ${Math.round(tookMs)} ms; ${bad} is barred`;
    },
  },
];
