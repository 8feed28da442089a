// Wire shapes of the fleet: what a fetcher reports of itself, and what the board says of all of them.

import { z } from "@hono/zod-openapi";
import { idPattern } from "./ids.ts";
import { policyName } from "./http-policies.ts";
import { channel, sha256Digest, timestamp } from "./names.ts";

/** A fetcher reports so often, and at once where what it runs or refuses has changed. */
export const reportEveryMs = 10_000;
/** Three reports that did not come. */
export const silentMs = 35_000;
/** An instance that lacks the newest revision for longer is stale. */
export const staleMs = 5_000;
export const reportPoliciesMax = 200;
export const reportProvidersMax = 16;

export const fetcherId = z
  .string()
  .regex(idPattern("fetcher"), "fet_ and 26 characters of Crockford's base32")
  .openapi({ example: "fet_01k9x6f6c8a0b1c2d3e4f5g6h7" });
/** A single report that says more would fill what all of them are added up in. */
const count = z
  .int()
  .min(0)
  .max(2 ** 40);
const total = z.int().min(0);
const version = z
  .int()
  .min(1)
  .max(2 ** 40);
const providerName = z
  .string()
  .max(32)
  .regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/, "a provider's name is lower-case letters, digits and single dashes")
  .openapi({ example: "a" });
const machineWord = z
  .string()
  .regex(/^[a-z0-9_]{1,64}$/, "a machine word")
  .openapi({ example: "wrong_digest" });

export const fetcherCounts = z
  .strictObject({
    refreshes: count,
    activated: count,
    fetches: count.describe("of bundles and statements"),
    failovers: count,
    hedges: count,
    behind: count.describe("answers of providers that were older than what is held"),
    refusals: count,
    mismatches: count.describe("answers with other bytes than their name or the signed metadata says"),
    deltas_applied: count,
    deltas_failed: count.describe("each followed by the whole bundle"),
    delta_bytes: count.describe("of deltas that came"),
    whole_bytes: count.describe("of whole bundles that came"),
    stale_ms: count.describe("time in which no provider's metadata was found fresh for over 5 s"),
  })
  .openapi("FetcherCounts");
export type FetcherCounts = z.infer<typeof fetcherCounts>;
const fetcherTotals = z
  .strictObject({
    refreshes: total,
    activated: total,
    fetches: total,
    failovers: total,
    hedges: total,
    behind: total,
    refusals: total,
    mismatches: total,
    deltas_applied: total,
    deltas_failed: total,
    delta_bytes: total,
    whole_bytes: total,
    stale_ms: total,
  })
  .openapi("FetcherTotals");
export const countNames = Object.keys(fetcherCounts.shape) as (keyof FetcherCounts)[];

const refusal = z.strictObject({
  code: machineWord,
  provider: providerName.nullable().describe("null: it is no single provider's"),
  since: timestamp,
});

const runs = {
  revision: z.int().min(1),
  tar_sha256: sha256Digest,
  activated_at: timestamp,
  expires_at: timestamp.describe("the end of the metadata that named it last: it is not served from then on"),
  provider: providerName.describe("that the bytes came from"),
};

const reportedPolicy = z.strictObject({
  policy: policyName,
  channel,
  active: z.strictObject(runs).nullable().describe("null: nothing yet"),
  refusal: refusal.nullable().describe("what the last refresh refused of it; null where it refused nothing"),
});
export type ReportedPolicy = z.infer<typeof reportedPolicy>;

const metadata = z.strictObject({
  root_version: version,
  targets_version: version,
  timestamp_version: version,
  timestamp_expires_at: timestamp,
  verified_at: timestamp.describe("when a provider's metadata was last found fresh, by the fetcher's clock"),
  provider: providerName,
});

const reportedProvider = z.strictObject({
  name: providerName,
  breaker: z.enum(["closed", "half_open", "open"]),
  latency_ms: count,
  cache_hits: count.describe("answers that the provider's edge had without reading its store (Cache-Status)"),
  cache_misses: count,
  mismatches: count,
});
export type ReportedProvider = z.infer<typeof reportedProvider>;

const isUnique = (names: readonly string[]): boolean => new Set(names).size === names.length;

export const reportedSvid = z
  .strictObject({
    spiffe_id: z
      .string()
      .max(2_048)
      .regex(/^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/[A-Za-z0-9._-]+)+$/, "a SPIFFE ID with a path")
      .openapi({ example: "spiffe://acme.example/fetcher/edge-17" }),
    authority: z.string().min(1).max(256).describe("the `kid` that the JWT-SVID names: who signed it"),
    issued_at: timestamp,
    expires_at: timestamp,
  })
  .openapi("ReportedSvid");
export type ReportedSvid = z.infer<typeof reportedSvid>;

/** Everything that counts is since the boot. Of two reports of one boot the one with the higher `sequence` is the newer. */
export const edgeReport = z
  .strictObject({
    instance: fetcherId.describe("chosen by the fetcher, and kept in its folder"),
    boot: z.int().min(1).describe("counts the starts of this instance"),
    boot_id: z
      .string()
      .regex(/^[0-9a-f]{32}$/, "16 random bytes in hex")
      .describe("new for each start")
      .openapi({ example: "0f8e4d7c6b5a49382716051423324150" }),
    sequence: z.int().min(1),
    sent_at: timestamp.describe("by the fetcher's clock"),
    policies: z
      .array(reportedPolicy)
      .min(1)
      .max(reportPoliciesMax)
      .refine((list) => isUnique(list.map((one) => `${one.policy}/${one.channel}`)), "a policy stands twice"),
    metadata: metadata.nullable().describe("null: no metadata was verified yet"),
    providers: z
      .array(reportedProvider)
      .max(reportProvidersMax)
      .refine((list) => isUnique(list.map(({ name }) => name)), "a provider stands twice"),
    counts: fetcherCounts,
    svid: reportedSvid
      .nullable()
      .default(null)
      .describe("of the SVIDs that the fetcher holds the one that was issued first; null: it comes with a key"),
  })
  .openapi("EdgeReport");
export type EdgeReport = z.infer<typeof edgeReport>;

export const edgeReportAnswer = z
  .strictObject({
    outcome: z.enum(["noted", "repeated"]).describe("`repeated`: this one, or a newer one, was noted before"),
    multicdn: z
      .boolean()
      .nullable()
      .describe(
        "the flag edge_multicdn; null where it cannot be read now. To be believed from the API's own address alone",
      ),
    next_report_ms: z.int().min(1),
  })
  .openapi("EdgeReportAnswer");

/** Of one policy at one instance, the first that fits: of an instance, the worst of its policies. */
export const fleetStates = ["silent", "expired", "unknown", "refusing", "behind", "current"] as const;
const fleetState = z
  .enum(fleetStates)
  .describe(
    "`silent`: no report for 35 s. `expired`: the metadata that named it has ended, nothing is served. `unknown`: it runs what " +
      "was never published here. `refusing`: it does not believe what it is served. `behind`: a newer revision is published.",
  );
export type FleetState = (typeof fleetStates)[number];

const stateCounts = z.strictObject({
  total,
  silent: total,
  expired: total,
  unknown: total,
  refusing: total,
  behind: total,
  current: total,
});
export type StateCounts = z.infer<typeof stateCounts>;

const fleetPolicy = z.strictObject({
  policy: policyName,
  channel,
  state: fleetState,
  revision: z.int().min(1).nullable().describe("that it runs; null: none"),
  head_revision: z.int().min(1).nullable().describe("the publisher's newest; null: the policy is not published"),
  behind_revisions: total,
  behind_ms: total.describe("since the first revision that it lacks was published; 0 where it lacks none"),
  refusal: refusal.nullable(),
  proof: z
    .strictObject({ ...runs, verified_ms_ago: total })
    .nullable()
    .describe("what it has verified and runs, and how long ago it last found that to be the newest"),
});
export type FleetPolicy = z.infer<typeof fleetPolicy>;

const fleetInstance = z.strictObject({
  instance: fetcherId,
  principal: z.string().describe("of the fetcher's key"),
  state: fleetState,
  first_seen_at: timestamp,
  reported_at: timestamp.describe("by the API's clock"),
  boot: z.int().min(1),
  clock_ahead_ms: z.int().describe("of the fetcher's clock before the API's at the last report, its way included"),
  policies: z.array(fleetPolicy),
  metadata: z
    .strictObject({
      root_version: version,
      targets_version: version,
      timestamp_version: version,
      timestamp_signed_at: timestamp,
      timestamp_expires_at: timestamp,
      verified_ms_ago: total,
      provider: providerName,
    })
    .nullable()
    .describe("the signed metadata that it trusts"),
  providers: z.array(reportedProvider),
  counts: fetcherTotals.describe("over all of its boots"),
  svid: reportedSvid.nullable().describe("that it held at its last report; null: it comes with a key"),
});
export type FleetInstance = z.infer<typeof fleetInstance>;

const fleetProvider = z.strictObject({
  name: providerName,
  instances: total.describe("that report about it and are not silent"),
  breakers_open: total,
  breakers_half_open: total,
  latency_ms: total.describe("the median of what they measure"),
  cache_hits: total,
  cache_misses: total,
  hit_ratio: z.number().min(0).max(1).nullable().describe("null: nothing was asked yet"),
  mismatches: total,
});
export type FleetProvider = z.infer<typeof fleetProvider>;

export const fleetSummary = z
  .strictObject({
    all_current: z.boolean().describe("every policy of every instance is; false where there is no instance"),
    instances: stateCounts,
    policies: stateCounts.describe("of each instance"),
    stale_rate: z
      .number()
      .min(0)
      .max(1)
      .nullable()
      .describe("the share of `policies`, without silent ones, that has lacked the newest revision for over 5 s"),
    heads: z.array(
      z.strictObject({
        policy: policyName,
        channel,
        revision: z.int().min(1),
        tar_sha256: sha256Digest,
        published_at: timestamp,
      }),
    ),
    counts: fetcherTotals.describe("over all instances that ever reported"),
    providers: z.array(fleetProvider),
  })
  .openapi("FleetSummary");
export type FleetSummary = z.infer<typeof fleetSummary>;

export const edgeFleet = z
  .strictObject({
    as_of: timestamp,
    summary: fleetSummary,
    instances: z.array(fleetInstance).describe("the worst state first, then by id"),
    next_cursor: z.string().nullable(),
  })
  .openapi("EdgeFleet");
export type EdgeFleet = z.infer<typeof edgeFleet>;

export const fleetPageMax = 100;
