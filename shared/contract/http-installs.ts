// Wire shapes of what a tenant has installed, and how it moves: upgrades in cohorts, the health gate, rollbacks, pins, bars.

import { z } from "@hono/zod-openapi";
import { channelPointer, reason, releaseId } from "./http-market.ts";
import { idPattern } from "./ids.ts";
import { channel, packageName, sha256Digest, timestamp, version } from "./names.ts";

/** Installs of one package that a tenant may have: they all move in one transaction. */
export const installsMax = 1_000;

export const installName = z
  .string()
  .max(64)
  .regex(
    /^[a-z0-9]+(?:[.-][a-z0-9]+)*$/,
    "an install's name is [a-z0-9] with single dots or dashes inside, up to 64 characters",
  )
  .openapi({ example: "default" });

export const installRequest = z
  .strictObject({
    package: packageName,
    channel: channel.default("stable"),
    name: installName.default("default").describe("which of the tenant's installs: a host, a site"),
  })
  .openapi("InstallRequest");

export const install = z
  .strictObject({
    id: z.string().regex(idPattern("install")),
    package: packageName,
    name: installName,
    version,
    channel,
    artifact_sha256: sha256Digest,
    units: z.int(),
    release_id: releaseId,
    pinned: z.boolean().describe("upgrades leave it where it is"),
    bucket: z.int().min(0).max(9999).describe("its place in every cohort: in one of N percent while below N * 100"),
    changed_at: timestamp,
  })
  .openapi("Install");
export type Install = z.infer<typeof install>;
export const installList = z.strictObject({ installs: z.array(install) }).openapi("InstallList");

export const installCauses = ["install", "upgrade", "last_good", "rollback", "health_gate"] as const;
export type InstallCause = (typeof installCauses)[number];

export const installHistoryEntry = z
  .strictObject({
    install_id: z.string().regex(idPattern("install")).nullable(),
    name: installName,
    version,
    channel,
    artifact_sha256: sha256Digest,
    from_version: version.nullable(),
    cause: z.enum(installCauses),
    rollout_id: z.string().nullable(),
    principal_id: z.string().nullable().describe("null: the health gate"),
    changed_at: timestamp,
  })
  .openapi("InstallHistoryEntry");
export type InstallHistoryEntry = z.infer<typeof installHistoryEntry>;
export const installHistory = z
  .strictObject({ entries: z.array(installHistoryEntry), next_cursor: z.string().nullable() })
  .openapi("InstallHistory");

export const rolloutId = z.string().regex(idPattern("rollout")).openapi({ example: "rol_01k9x6f6c8a0b1c2d3e4f5g6h7" });
export const rolloutStates = ["running", "completed", "aborted", "superseded"] as const;

/** What the health gate last said of a rollout; whole numbers only. */
export const gateReport = z
  .strictObject({
    state: z.enum(["continue", "hold", "abort"]),
    rule: z.string().describe("why: `too_few_runs`, `no_old_runs`, `no_new_runs`, `sample_ratio`, `failures`, `ok`"),
    words: z.string(),
    new_runs: z.int(),
    new_failures: z.int(),
    old_runs: z.int(),
    old_failures: z.int(),
    log10_e_milli: z
      .int()
      .describe("evidence that the new release fails more often, thousandths of log10; 2000 aborts"),
    evaluated_at: timestamp,
  })
  .openapi("GateReport");
export type GateReport = z.infer<typeof gateReport>;

export const rollout = z
  .strictObject({
    id: rolloutId,
    package: packageName,
    channel,
    version,
    release_id: releaseId,
    artifact_sha256: sha256Digest,
    cohort_percent: z.int().min(1).max(100),
    state: z.enum(rolloutStates),
    rule: z.string().nullable().describe("why it ended"),
    reason,
    started_by: z.string(),
    started_at: timestamp,
    changed_at: timestamp,
    ended_at: timestamp.nullable(),
    gate: gateReport.nullable(),
  })
  .openapi("Rollout");
export type Rollout = z.infer<typeof rollout>;
export const rolloutList = z
  .strictObject({ rollouts: z.array(rollout), next_cursor: z.string().nullable() })
  .openapi("RolloutList");

export const upgradeRequest = z
  .strictObject({
    package: packageName,
    channel: channel.default("stable"),
    cohort_percent: z
      .int()
      .min(1)
      .max(100)
      .default(100)
      .describe("100 moves every install that is not pinned; less starts (or widens) a rollout that the gate watches"),
    despite_gate: z.boolean().default(false).describe("widen although the gate holds"),
    reason: reason.default(""),
  })
  .openapi("UpgradeRequest");

export const installMove = z
  .strictObject({
    install_id: z.string(),
    name: installName,
    from_version: version.nullable(),
    to_version: version,
    cause: z.enum(installCauses),
  })
  .openapi("InstallMove");
export type InstallMove = z.infer<typeof installMove>;

export const upgradeResult = z
  .strictObject({
    rollout,
    moves: z.array(installMove),
    installs: z.int().describe("of the package"),
    in_cohort: z.int(),
    pinned: z.int().describe("left where they are"),
    smallest_cohort_percent: z
      .int()
      .nullable()
      .describe("the smallest cohort that would have an install in it; null where all are pinned"),
  })
  .openapi("UpgradeResult");
export type UpgradeResult = z.infer<typeof upgradeResult>;

export const rollbackRequest = z
  .strictObject({
    package: packageName,
    to_version: version
      .optional()
      .describe(
        "a version that installs had before, for all of them; unless told, one release is taken back: the one that a rollout tries, else the last one rolled out, and each install on it gets what was good for it before",
      ),
    install: installName
      .optional()
      .describe("this install only; what it leaves is barred where it was the last one on it"),
    reason: reason.default(""),
  })
  .openapi("RollbackRequest");

export const rollbackResult = z
  .strictObject({
    package: packageName,
    moves: z.array(installMove),
    unmoved: z.array(z.strictObject({ name: installName, why: z.string() })),
    barred: z.array(z.strictObject({ version, artifact_sha256: sha256Digest })),
    rollout_aborted: rolloutId.nullable(),
  })
  .openapi("RollbackResult");
export type RollbackResult = z.infer<typeof rollbackResult>;

export const freezeRequest = z
  .strictObject({ package: packageName, frozen: z.boolean(), reason: reason.default("") })
  .openapi("FreezeRequest");
export const pinRequest = z
  .strictObject({
    package: packageName,
    install: installName.optional().describe("unless told, all installs of the package"),
    pinned: z.boolean(),
  })
  .openapi("PinRequest");
export const barRequest = z
  .strictObject({
    package: packageName,
    version,
    barred: z.boolean().describe("true bars the release for this tenant, false lifts the bar"),
    reason: reason.min(1),
  })
  .openapi("BarRequest");

export const releaseBar = z
  .strictObject({
    package: packageName,
    version,
    artifact_sha256: sha256Digest,
    rule: z.enum(["health_gate", "rollback", "operator"]),
    reason,
    barred_by: z.string().nullable().describe("null: the health gate"),
    barred_at: timestamp,
  })
  .openapi("ReleaseBar");
export type ReleaseBar = z.infer<typeof releaseBar>;

/** Everything about one package of a tenant, as of one moment. */
export const packageStatus = z
  .strictObject({
    package: packageName,
    version: z.int().min(0).describe("counts the changes of this package's installs, rollouts, pins, bars and freeze"),
    frozen: z.boolean(),
    frozen_reason: reason.nullable(),
    installs: z.array(install),
    good: z
      .array(z.strictObject({ channel, version, artifact_sha256: sha256Digest }))
      .describe("last good release by channel"),
    channels: z.array(channelPointer).describe("where the marketplace's channels point now"),
    rollout: rollout.nullable().describe("the one that is running, else the newest"),
    bars: z.array(releaseBar),
  })
  .openapi("PackageStatus");
export type PackageStatus = z.infer<typeof packageStatus>;
