// Wire shapes of a tenant's entitlements: the set, its history, reviewed changes, and explanations of decisions.

import { z } from "@hono/zod-openapi";
import semver from "semver";
import { reason } from "./http-market.ts";
import { trustDomainName } from "./http-identity.ts";
import { rotationId } from "./http-rotations.ts";
import { idPattern } from "./ids.ts";
import { channel, packageName, role, roleNames, timestamp, version } from "./names.ts";

export const weekdays = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"] as const;
export type Weekday = (typeof weekdays)[number];

const clockTime = z
  .string()
  .regex(/^(?:[01]\d|2[0-3]):[0-5]\d$/, "a time is HH:MM, 00:00 to 23:59")
  .openapi({ example: "08:00" });

export const runWindow = z
  .strictObject({
    days: z
      .array(z.enum(weekdays))
      .min(1)
      .max(7)
      .refine((days) => new Set(days).size === days.length, "each day at most once"),
    from: clockTime.describe("UTC, inclusive"),
    to: z
      .string()
      .regex(/^(?:(?:[01]\d|2[0-3]):[0-5]\d|24:00)$/, "a time is HH:MM, 00:01 to 24:00")
      .openapi({ example: "18:00" })
      .describe("UTC, exclusive; a window that passes midnight is two"),
  })
  .refine((window) => window.from < window.to, { message: "`from` is before `to`", path: ["to"] })
  .openapi("RunWindow");
export type RunWindow = z.infer<typeof runWindow>;

/** node-semver's syntax; a pre-release is in a range only where the range names one of the same version. */
export const versionRange = z
  .string()
  .min(1)
  // Aborts: of a body that is nothing but one range, reading it takes seconds.
  .max(256, { abort: true })
  .refine((text) => semver.validRange(text) !== null, "a range is like `^1.2.0`, `>=1.0.0 <2.0.0` or `1.x || 2.1.0`")
  .openapi({ example: ">=1.0.0 <2.0.0" });

export const entitlement = z
  .strictObject({
    package: packageName,
    channel: channel.describe("canary covers both"),
    allowed: z.boolean(),
    version_range: versionRange.nullable().default(null).describe("versions that may be installed and run; null: all"),
    run_windows: z
      .array(runWindow)
      .max(20)
      .nullable()
      .default(null)
      .describe("when runs may start; null: always, an empty list: never"),
    runs_per_day_max: z
      .int()
      .min(0)
      .max(1_000_000)
      .nullable()
      .default(null)
      .describe("runs that may start in a UTC day, whatever became of them; null: no cap"),
  })
  .openapi("Entitlement");
export type Entitlement = z.infer<typeof entitlement>;

export const entitlementSet = z
  .strictObject({
    version: z.int().min(0).describe('changes with each PUT; also the ETag, as "v<version>"'),
    entitlements: z.array(entitlement),
  })
  .openapi("EntitlementSet");
export type EntitlementSet = z.infer<typeof entitlementSet>;

const rows = z.array(entitlement).min(1).max(100);

export const entitlementUpsert = z
  .strictObject({
    entitlements: rows.describe("rows to add or replace as a whole; rows not named stay"),
    reason: reason.default(""),
  })
  .openapi("EntitlementUpsert");
export type EntitlementUpsert = z.infer<typeof entitlementUpsert>;

export const changeId = z.string().regex(idPattern("change")).openapi({ example: "chg_01k9x6f6c8a0b1c2d3e4f5g6h7" });
const principalId = z.string().regex(idPattern("principal"));

export const entitlementHistoryEntry = z
  .strictObject({
    version: z.int().min(1),
    entitlement: entitlement.describe("the row as it was set; where `removed`, as it was before"),
    removed: z.boolean(),
    principal_id: principalId,
    reason,
    change_id: changeId.nullable(),
    changed_at: timestamp,
  })
  .openapi("EntitlementHistoryEntry");
export type EntitlementHistoryEntry = z.infer<typeof entitlementHistoryEntry>;
export const entitlementHistory = z
  .strictObject({ entries: z.array(entitlementHistoryEntry), next_cursor: z.string().nullable() })
  .openapi("EntitlementHistory");

export const changeStates = ["proposed", "approved", "rejected", "applied", "reverted"] as const;

/** A change under review: proposed by one principal, approved (or rejected) by another, applied, and reverted with one call. */
export const entitlementChange = z
  .strictObject({
    id: changeId,
    state: z.enum(changeStates),
    entitlements: z.array(entitlement),
    before: z
      .array(z.strictObject({ package: packageName, entitlement: z.union([entitlement, z.null()]) }))
      .nullable()
      .describe("what a revert puts back: the rows before it was applied, null where there was none"),
    reason,
    proposed_by: principalId,
    proposed_at: timestamp,
    decided_by: principalId.nullable(),
    decided_at: timestamp.nullable(),
    applied_by: principalId.nullable(),
    applied_at: timestamp.nullable(),
    applied_version: z.int().nullable().describe("version of the set that it made"),
    reverted_by: principalId.nullable(),
    reverted_at: timestamp.nullable(),
    reverted_version: z.int().nullable(),
  })
  .openapi("EntitlementChange");
export type EntitlementChange = z.infer<typeof entitlementChange>;
export const entitlementChangeList = z
  .strictObject({ changes: z.array(entitlementChange), next_cursor: z.string().nullable() })
  .openapi("EntitlementChangeList");

/** What is asked: the action as the API names it (`x-action` in /openapi.json), and what it would be done to. */
export const explainRequest = z
  .strictObject({
    action: z.string().max(64).openapi({ example: "execution.start" }),
    package: packageName.optional(),
    channel: channel.optional().describe("for install.write and upgrade.start; stable unless told"),
    install: z
      .string()
      .max(64)
      .optional()
      .describe("the install's name, `default` unless told; for rollback.start all unless told"),
    version: version.optional().describe("for rollback.start, release.review and bar.write"),
    barred: z.boolean().default(true).describe("for bar.write: false asks about lifting the bar"),
    cohort_percent: z.int().min(1).max(100).default(100).describe("for upgrade.start"),
    change_id: changeId.optional().describe("for entitlement.approve"),
    rotation_id: rotationId.optional().describe("for rotation.approve, rotation.acknowledge and rotation.cancel"),
    trust_domain: trustDomainName.optional().describe("for rotation.start, of the kind `fetcher`"),
  })
  .openapi("ExplainRequest");

export const explainedFix = z
  .strictObject({
    rule: z.string().describe("the deny that it answers"),
    words: z.string(),
    method: z
      .enum(["GET", "POST", "PUT", "DELETE"])
      .nullable()
      .describe("null, with `path` and `body`: no call of the caller's helps, the words say what does"),
    path: z.string().nullable(),
    body: z.unknown(),
  })
  .openapi("ExplainedFix");

export const explanation = z
  .strictObject({
    action: z.string(),
    allow: z.boolean(),
    rule: z.string().describe("`ok`, or the rule that denies first"),
    reasons: z.array(z.string()),
    role,
    roles_allowed: z.array(z.enum(roleNames)),
    facts: z
      .record(z.string(), z.unknown())
      .nullable()
      .describe("what was decided on; null where the caller may not see all of it, or the role alone decides"),
    fixes: z
      .array(explainedFix)
      .describe(
        "the smallest set of changes that would allow it, in order; each is a call of this API, or words where no call helps",
      ),
    complete: z
      .boolean()
      .describe("false: the caller may not see every fact, so more may be in the way once this is fixed"),
    policy_sha256: z.string(),
  })
  .openapi("Explanation");
export type Explanation = z.infer<typeof explanation>;
