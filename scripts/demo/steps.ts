// The main job, step by step. Each step does something as a user would, and then asserts on data read back by another
// path than the one it was written by. Called by scripts/demo.ts.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openCheckpoint, originOf } from "../../shared/audit/checkpoint.ts";
import { hashLeaf } from "../../shared/audit/leaf.ts";
import { parseRange } from "../../shared/audit/layout.ts";
import { readManifest } from "../../shared/audit/manifest.ts";
import { appendLeafHash, emptyFrontier, rootOf, type Sha256 } from "../../shared/audit/tree.ts";
import { base64Bytes, hex, sha256Hex } from "../../shared/contract/bytes.ts";
import { publishedKeys, type PublishedKeys } from "../../shared/contract/http-audit.ts";
import { packKey } from "../../shared/disclosure/build.ts";
import { verifyBundle } from "../../shared/signing/bundle.ts";
import { importVerifyKey } from "../../shared/signing/keys.ts";
import { projectFolder } from "../stack/workers.ts";
import { marketSteps } from "./market-steps.ts";
import { until, type World } from "./world.ts";

export interface Step {
  readonly name: string;
  readonly run: (world: World, kept: Kept) => Promise<string>;
}

/** What later steps need of earlier ones. */
export interface Kept {
  releaseId: string;
  executionId: string;
  outputSha256: string;
  keys: PublishedKeys;
  pack: string;
}

const name = "tools/sbom-inventory";
const packageFolder = join(projectFolder, "test/fixtures/sbom-inventory");
const budgetUnits = 15;
const runUnits = 10;
const lagMsMax = 20_000;
const checkMsMax = 60_000;

const hash: Sha256 = (bytes) => new Uint8Array(createHash("sha256").update(bytes).digest());
const fileSha256 = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");
const text = (value: unknown): string => String(value);

const keyOf = (keys: PublishedKeys, use: string) => async (kid: string) => {
  const key = keys.keys.find((candidate) => candidate.kid === kid && candidate.use === use);
  return key === undefined ? null : await importVerifyKey(base64Bytes(key.spki), "P-256");
};

export const steps: readonly Step[] = [
  {
    name: "who am I, by the CLI and by the database",
    async run(world) {
      const me = await world.run("operator", "whoami");
      const [row] = await world.rows("select tenant_id, role from principals where id = $1", me["principal_id"]);
      assert.deepEqual(row, { tenant_id: world.tenant.tenant_id, role: "operator" });
      return `${text(me["principal_id"])} is operator of ${text(me["tenant"])}`;
    },
  },
  {
    name: "publish a signed package",
    async run(world, kept) {
      await world.run("publisher", "market", "keygen");
      const packed = world.path("sbom-inventory.tar.gz");
      await world.run("publisher", "market", "pack", packageFolder, "--out", packed);
      const release = await world.run("publisher", "market", "publish", packed);
      const digest = fileSha256(packed);
      const stored = await world.object("artifacts", `artifact/${digest}.tar.gz`);
      assert.ok(stored !== null, "the artifact is not in the bucket");
      assert.equal(await sha256Hex(stored), digest);
      const [row] = await world.rows("select version, artifact_sha256, state from releases where package = $1", name);
      assert.deepEqual(row, { version: release["version"], artifact_sha256: digest, state: "in_review" });
      kept.releaseId = text(release["id"]);
      return `${name}@${text(release["version"])}, ${stored.length} bytes under ${digest.slice(0, 12)}…, in review`;
    },
  },
  {
    name: "a reviewer approves it; it is countersigned, and the channel's pointer is signed",
    async run(world, kept) {
      const denied = await world.cli("publisher", "market", "review", "approve", kept.releaseId);
      assert.equal(denied.code, 3);
      await world.run("reviewer", "market", "review", "approve", kept.releaseId, "--reason", "read and tried");
      kept.keys = publishedKeys.parse(await (await fetch(`${world.stack.apiUrl}/api/audit/keys`)).json());
      const [row] = await world.rows(
        `select r.state, r.marketplace_bundle, c.bundle as pointer, r.artifact_sha256
         from releases r join channel_pointers c on c.release_id = r.id where r.id = $1 and c.channel = 'stable'`,
        kept.releaseId,
      );
      assert.equal(row?.["state"], "published");
      for (const bundle of [row["marketplace_bundle"], row["pointer"]]) {
        const verified = await verifyBundle(bundle, keyOf(kept.keys, "release"));
        assert.ok(verified.ok, verified.ok ? "" : verified.reason);
        assert.equal(verified.statement.subject[0]?.digest.sha256, row["artifact_sha256"]);
      }
      return "stable points to it, by the marketplace's own signature";
    },
  },
  {
    name: "a run before it is entitled is denied, with the fix",
    async run(world) {
      const lockfile = world.path("package-lock.json");
      copyFileSync(join(projectFolder, "package-lock.json"), lockfile);
      const denied = await world.cli("operator", "run", name, lockfile);
      assert.equal(denied.code, 3);
      const [row] = await world.rows(
        "select count(*)::int as count from executions where tenant_id = $1",
        world.tenant.tenant_id,
      );
      assert.deepEqual(row, { count: 0 });
      assert.match(JSON.stringify(denied.json) + denied.stderr, /entitlement_missing/);
      return "rule entitlement_missing, no row was made";
    },
  },
  {
    name: "entitle it",
    async run(world) {
      await world.run("admin", "market", "entitle", name, "--reason", "the demo needs an inventory");
      const rows = await world.rows(
        "select package, channel, allowed from entitlements where tenant_id = $1",
        world.tenant.tenant_id,
      );
      assert.deepEqual(rows, [{ package: name, channel: "stable", allowed: true }]);
      return `${name} on stable`;
    },
  },
  {
    name: "install it from stable",
    async run(world) {
      const install = await world.run("operator", "market", "install", name, "--channel", "stable");
      const [row] = await world.rows(
        "select version, artifact_sha256 from installs where tenant_id = $1",
        world.tenant.tenant_id,
      );
      assert.deepEqual(row, { version: install["version"], artifact_sha256: install["artifact_sha256"] });
      return `version ${text(install["version"])}`;
    },
  },
  {
    name: "give the tenant a privacy budget",
    async run(world) {
      await world.run("admin", "budget", "set", "--limit", text(budgetUnits), "--leak-per-hour", "0");
      const budget = await world.run("viewer", "budget", "show");
      assert.equal(budget["remaining_units"], budgetUnits);
      return `${budgetUnits} units, a run spends ${runUnits}`;
    },
  },
  {
    name: "run it on this project's own lockfile",
    async run(world, kept) {
      const output = world.path("sbom.json");
      const run = await world.run("operator", "run", name, world.path("package-lock.json"), "--out", output);
      const execution = run["execution"] as Record<string, unknown>;
      kept.executionId = text(execution["id"]);
      kept.outputSha256 = fileSha256(output);
      const [row] = await world.rows(
        "select status, output_sha256, input_sha256 from executions where id = $1",
        kept.executionId,
      );
      assert.deepEqual(row, {
        status: "succeeded",
        output_sha256: kept.outputSha256,
        input_sha256: fileSha256(world.path("package-lock.json")),
      });
      const lock = JSON.parse(readFileSync(world.path("package-lock.json"), "utf8")) as {
        packages: Record<string, { link?: boolean }>;
      };
      const sbom = JSON.parse(readFileSync(output, "utf8")) as { components: { purl: string }[] };
      const inLock = new Set(
        Object.entries(lock.packages)
          .filter(([path, entry]) => path !== "" && entry.link !== true)
          .map(([path]) => path),
      );
      assert.ok(sbom.components.length > 50 && sbom.components.length <= inLock.size);
      return `${sbom.components.length} components of ${inLock.size} lock entries, receipt to come for ${kept.executionId}`;
    },
  },
  {
    name: "its events reach the tenant's log",
    async run(world, kept) {
      const types = [
        "mc.execution.finished",
        "mc.execution.started",
        "mc.policy.decision",
        "mc.privacy.reserved",
        "mc.privacy.settled",
        "mc.receipt.signed",
      ];
      const started = performance.now();
      const rows = await until("the run's six events", lagMsMax, async () => {
        const found = await world.rows(
          "select type, seq from audit_events where execution_id = $1 order by type",
          kept.executionId,
        );
        return found.length >= types.length ? found : null;
      });
      assert.deepEqual(
        rows.map((row) => row["type"]),
        types,
      );
      const [gaps] = await world.rows(
        "select (max(seq) + 1 - count(*))::int as missing, count(*)::int as events from audit_events where tenant_id = $1",
        world.tenant.tenant_id,
      );
      assert.equal(gaps?.["missing"], 0);
      return `${text(gaps?.["events"])} events, no gap; waited ${Math.round(performance.now() - started)} ms`;
    },
  },
  {
    name: "DuckDB reads the Parquet segments as Postgres has them",
    async run(world) {
      const query = "select seq::int as seq, type, event_id from audit_events where tenant_id = $1 order by seq";
      const { rows, parquet } = await until("the same rows in Parquet and in Postgres", lagMsMax, async () => {
        const read = await world.duckdb(
          (segments) => `select seq::int as seq, type, event_id from ${segments} order by seq`,
        );
        const written = await world.rows(query, world.tenant.tenant_id);
        return read.length === written.length ? { rows: written, parquet: read } : null;
      });
      assert.ok(rows.length > 5);
      assert.deepEqual(parquet, rows);
      return `${rows.length} rows, the same in both`;
    },
  },
  {
    name: "the tree, recomputed from those rows, is the one that was signed",
    async run(world, kept) {
      const tenantId = world.tenant.tenant_id;
      kept.keys = publishedKeys.parse(await (await fetch(`${world.stack.apiUrl}/api/audit/keys`)).json());
      const manifests = await world.keys("audit", `${tenantId}/manifest/`);
      const leaves = await world.duckdb((segments) => `select hex(salt) as salt, body from ${segments} order by seq`);
      const frontier = emptyFrontier();
      let heads = 0;
      for (const key of manifests.toSorted()) {
        const range = parseRange(key.slice(key.lastIndexOf("/") + 1, -".json".length));
        assert.ok(range !== null);
        for (const { salt, body } of leaves.slice(range.from, range.to)) {
          appendLeafHash(hash, frontier, hashLeaf(hash, Buffer.from(text(salt), "hex"), text(body)));
        }
        const bundle: unknown = JSON.parse(new TextDecoder().decode((await world.object("audit", key))!));
        const verified = await verifyBundle(bundle, keyOf(kept.keys, "manifest"));
        assert.ok(verified.ok, verified.ok ? "" : verified.reason);
        const manifest = readManifest(verified.statement, tenantId, range);
        assert.ok(manifest.ok, manifest.ok ? "" : manifest.reason);
        const segment = await world.object("audit", key.replace("/manifest/", "/seg/").replace(".json", ".parquet"));
        assert.equal(await sha256Hex(segment!), manifest.segmentSha256);
        const spkis = kept.keys.keys.filter(({ use }) => use === "checkpoint").map(({ spki }) => base64Bytes(spki));
        const head = await openCheckpoint(
          manifest.predicate.checkpoint,
          originOf(kept.keys.origin_prefix, tenantId),
          spkis,
        );
        assert.ok(head.ok, head.ok ? "" : head.reason);
        assert.equal(head.checkpoint.size, range.to);
        assert.equal(hex(head.checkpoint.root), hex(rootOf(hash, frontier)));
        heads += 1;
      }
      return `${heads} manifests and checkpoints, ${frontier.size} leaves`;
    },
  },
  {
    name: "maestro audit verify says the same",
    async run(world) {
      const verdict = await world.run("auditor", "audit", "verify");
      const spoken = JSON.stringify(verdict);
      assert.match(spoken, /VERIFIED/);
      return text(verdict["verdict"]);
    },
  },
  {
    name: "the receipt in the log is signed, and names what was read and written",
    async run(world, kept) {
      const [row] = await world.duckdb(
        (segments) =>
          `select attrs from ${segments} where type = 'mc.receipt.signed' and execution_id = '${kept.executionId}'`,
      );
      const { receipt } = JSON.parse(text(row?.["attrs"])) as { receipt: unknown };
      const verified = await verifyBundle(receipt, keyOf(kept.keys, "receipt"));
      assert.ok(verified.ok, verified.ok ? "" : verified.reason);
      const digests = Object.fromEntries(
        verified.statement.subject.map((subject) => [subject.name, subject.digest.sha256]),
      );
      assert.equal(digests[`${kept.executionId}/output`], kept.outputSha256);
      assert.equal(digests[`${kept.executionId}/input`], fileSha256(world.path("package-lock.json")));
      return `by key ${verified.kid.slice(0, 12)}…`;
    },
  },
  {
    name: "ask PQL, with BUCKET BY and TOP",
    async run(world) {
      const counted = (segments: string): string =>
        `select type as name, count(*)::int as total from ${segments} group by type order by total desc, type`;
      const { answer, inParquet } = await until(
        "the same number of events in PQL and in Parquet",
        lagMsMax,
        async () => {
          const asked = await world.run("auditor", "pql", "FIND events BUCKET BY 5m TOP 3 BY type SINCE 1h");
          const read = await world.duckdb(counted);
          const total = read.reduce((sum, row) => sum + Number(row["total"]), 0);
          return total === asked["total"] ? { answer: asked, inParquet: read } : null;
        },
      );
      const groups = answer["groups"] as { name: string; total: number }[];
      const buckets = answer["buckets"] as { counts: number[]; other: number }[];
      const sum = groups.reduce((total, group) => total + group.total, 0) + Number(answer["other"]);
      assert.equal(sum, answer["total"]);
      const bucketed = buckets.reduce(
        (total, { counts, other }) => total + other + counts.reduce((left, right) => left + right, 0),
        0,
      );
      assert.equal(bucketed, answer["total"]);
      assert.deepEqual(groups, inParquet.slice(0, 3));
      return groups.map((group) => `${group.name} ${group.total}`).join(", ");
    },
  },
  {
    name: "get the disclosure pack by its quick link",
    async run(world, kept) {
      kept.pack = world.path("pack.zip");
      const got = await world.run("auditor", "disclosure", "get", kept.executionId, "--out", kept.pack);
      const stored = await world.object("audit", packKey(world.tenant.tenant_id, kept.executionId, 3));
      assert.ok(stored !== null);
      assert.equal(await sha256Hex(stored), fileSha256(kept.pack));
      return `${text(got["bytes"])} bytes, ${fileSha256(kept.pack).slice(0, 12)}…`;
    },
  },
  {
    name: "verify the pack offline, and catch a changed byte",
    async run(world, kept) {
      const good = await world.run("auditor", "disclosure", "verify", kept.pack);
      assert.equal(good["verdict"], "verified");
      const bytes = readFileSync(kept.pack);
      const at = bytes.indexOf('"mc.execution.finished"');
      assert.ok(at > 0, "the pack does not hold the finished event as text");
      bytes[at + 4] = bytes[at + 4]! ^ 1;
      const forged = world.path("forged.zip");
      writeFileSync(forged, bytes);
      const bad = await world.cli("auditor", "disclosure", "verify", forged);
      assert.equal(bad.code, 7);
      return "verified; the forged one is refused";
    },
  },
  {
    name: "check the pack as a stranger does, with unzip, sh and openssl",
    async run(world, kept) {
      const lacks = ["unzip", "openssl"].filter((name) => spawnSync(name, ["-v"]).error !== undefined);
      if (lacks.length > 0) return `skipped: ${lacks.join(" and ")} is not on this machine`;
      const [folder, keys] = [world.path("pack"), world.path("KEYS.json")];
      await world.run("auditor", "audit", "keys", "--out", keys);
      assert.equal(spawnSync("unzip", ["-q", kept.pack, "-d", folder]).status, 0);
      const checked = spawnSync("sh", [join(folder, "check.sh"), keys], { encoding: "utf8", timeout: checkMsMax });
      assert.equal(checked.stdout.trimEnd().split("\n").at(-1), "VERIFIED", checked.stdout + checked.stderr);
      return "VERIFIED";
    },
  },
  {
    name: "exceed the privacy budget and be denied",
    async run(world) {
      const before = await world.run("viewer", "budget", "show");
      assert.equal(before["spent_units"], runUnits);
      const denied = await world.cli(
        "operator",
        "run",
        name,
        world.path("package-lock.json"),
        "--out",
        world.path("no.json"),
      );
      assert.equal(denied.code, 3);
      const after = await world.run("viewer", "budget", "show");
      assert.equal(after["remaining_units"], budgetUnits - runUnits);
      assert.equal(after["held_units"], 0);
      const [row] = await world.rows(
        "select count(*)::int as count from executions where tenant_id = $1",
        world.tenant.tenant_id,
      );
      assert.deepEqual(row, { count: 1 });
      return `${budgetUnits - runUnits} of ${budgetUnits} units left, ${runUnits} wanted`;
    },
  },
  {
    name: "take the entitlement away, and the next run is denied with its reason",
    async run(world) {
      await world.run("admin", "market", "entitle", name, "--deny", "--reason", "the demo is over");
      const denied = await world.cli(
        "operator",
        "run",
        name,
        world.path("package-lock.json"),
        "--out",
        world.path("no.json"),
      );
      assert.equal(denied.code, 3);
      assert.match(JSON.stringify(denied.json) + denied.stderr, /entitlement_denied/);
      const [row] = await world.rows("select allowed from entitlements where tenant_id = $1", world.tenant.tenant_id);
      assert.deepEqual(row, { allowed: false });
      return "rule entitlement_denied";
    },
  },
  {
    name: "find the denials in the log",
    async run(world) {
      const rules = ["entitlement_denied", "entitlement_missing", "privacy_budget_exceeded", "role_too_low"];
      const sealed = await until("the denials", lagMsMax, async () => {
        const rows = await world.duckdb(
          (segments) =>
            `select rule from ${segments} where type = 'mc.policy.decision' and outcome = 'deny' order by rule`,
        );
        return rows.length >= rules.length ? rows : null;
      });
      assert.deepEqual(
        sealed.map((row) => row["rule"]),
        rules,
      );
      const answer = await until("the denials in PQL", lagMsMax, async () => {
        const asked = await world.run("auditor", "pql", 'FIND decisions WHERE outcome = "deny" TOP 5 BY rule SINCE 1h');
        return asked["total"] === rules.length ? asked : null;
      });
      assert.deepEqual((answer["groups"] as { name: string }[]).map((group) => group.name).toSorted(), rules);
      return rules.join(", ");
    },
  },
  ...marketSteps,
];
