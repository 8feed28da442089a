// Wire shapes of the marketplace's public side: publisher keys, releases and their review, packages, channels.

import { z } from "@hono/zod-openapi";
import { signedBundle } from "./events.ts";
import { idPattern } from "./ids.ts";
import { channel, packageName, sha256Digest, timestamp, version } from "./names.ts";

/** The largest artifact: 64 MiB. */
export const artifactBytesMax = 64 * 1024 * 1024;

/** `maestro.json` at the top of a package's tar.gz: what the package is and what it may do. */
export const packageManifest = z
  .strictObject({
    name: packageName,
    version,
    channel,
    entry_point: z
      .string()
      .max(200)
      .regex(
        /^[A-Za-z0-9_-][A-Za-z0-9._-]*(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/,
        "a relative path without dot segments",
      )
      .describe("an ES module that Node runs: argv[2] is the input file, stdout is the output"),
    permissions: z
      .strictObject({ read_input: z.boolean().default(true) })
      .describe("what the run may touch beside its own files"),
    privacy_units: z.int().min(0).max(1_000_000).describe("micro-epsilon that one run spends"),
    limits: z.strictObject({
      wall_ms: z.int().min(100).max(600_000),
      output_bytes: z
        .int()
        .min(1)
        .max(64 * 1024 * 1024),
      unpacked_bytes: z
        .int()
        .min(1)
        .max(256 * 1024 * 1024),
    }),
    description: z.string().max(500).optional().describe("what the package does, for those who search"),
    changelog: z.string().max(4_000).default(""),
  })
  .openapi("PackageManifest");
export type PackageManifest = z.infer<typeof packageManifest>;

/** The in-toto predicate that a publisher signs: the manifest and the size; the statement's subject is the artifact. */
export const releasePredicateType = "https://maestro-conductor.dev/attestations/release/v1";
export const releasePredicate = z.strictObject({
  manifest: packageManifest,
  artifact_bytes: z.int().min(1).max(artifactBytesMax),
});

export const publisherKeyRequest = z
  .strictObject({ spki: z.string().max(400).describe("P-256 public key, SubjectPublicKeyInfo DER in base64") })
  .openapi("PublisherKeyRequest");
export const publisherKey = z
  .strictObject({
    key_id: sha256Digest.describe("SHA-256 of the SPKI DER"),
    spki: z.string(),
    created_at: timestamp,
    revoked_at: timestamp.nullable(),
  })
  .openapi("PublisherKey");
export type PublisherKey = z.infer<typeof publisherKey>;

export const releaseStates = ["draft", "in_review", "published", "rejected", "yanked"] as const;
export const releaseState = z.enum(releaseStates);

/** Why something was done, in a person's words: kept beside the row, never in the log. */
export const reason = z.string().max(500);

export const release = z
  .strictObject({
    id: z.string().regex(idPattern("release")),
    package: packageName,
    version,
    channel: channel.describe("the first channel, as the publisher signed it"),
    state: releaseState,
    artifact_sha256: sha256Digest,
    artifact_bytes: z.int(),
    units: z.int(),
    manifest: packageManifest,
    publisher_bundle: signedBundle,
    marketplace_bundle: signedBundle
      .nullable()
      .describe("the marketplace's countersignature over the publisher's statement; null before the review"),
    publisher_key: z
      .string()
      .describe("the publisher's P-256 key, SPKI DER in base64; its SHA-256 is the bundle's hint"),
    uploaded_at: timestamp,
    submitted_at: timestamp.nullable(),
    reviewed_at: timestamp.nullable(),
    review_reason: reason.nullable().describe("what the reviewer said; for the publisher and reviewers"),
    published_at: timestamp.nullable(),
    yanked_at: timestamp.nullable(),
    yank_reason: reason.nullable(),
  })
  .openapi("Release");
export type Release = z.infer<typeof release>;

/** A release that was countersigned: what may be installed, run and verified. */
export type PublishedRelease = Release & { readonly marketplace_bundle: z.infer<typeof signedBundle> };

export const releaseId = z.string().regex(idPattern("release")).openapi({ example: "rel_01k9x6f6c8a0b1c2d3e4f5g6h7" });

export const releaseList = z
  .strictObject({ releases: z.array(release), next_cursor: z.string().nullable() })
  .openapi("ReleaseList");

export const reviewRequest = z.strictObject({ reason: reason.default("") }).openapi("ReviewRequest");
export const rejectRequest = z.strictObject({ reason: reason.min(1) }).openapi("RejectRequest");
export const yankRequest = z.strictObject({ reason: reason.min(1) }).openapi("YankRequest");

/** A file of a package's archive. */
export const releaseFile = z
  .strictObject({ path: z.string().max(255), bytes: z.int().min(0), sha256: sha256Digest })
  .openapi("ReleaseFile");
export type ReleaseFile = z.infer<typeof releaseFile>;

/** What differs between a release under review and the one before it: the newest published version below its own. */
export const releaseDifference = z
  .strictObject({
    before: z.strictObject({ release_id: releaseId, version, artifact_sha256: sha256Digest }).nullable(),
    manifest: z
      .array(z.strictObject({ path: z.string(), before: z.unknown(), after: z.unknown() }))
      .describe("changed members of maestro.json, by JSON Pointer; all of them where there is no release before"),
    files: z.strictObject({
      added: z.array(releaseFile),
      removed: z.array(releaseFile),
      changed: z.array(z.strictObject({ path: z.string(), before: releaseFile, after: releaseFile })),
      unchanged_count: z.int().min(0),
    }),
    unpacked_bytes: z.strictObject({ before: z.int().nullable(), after: z.int() }),
    same_publisher_key: z
      .boolean()
      .nullable()
      .describe("whether the same key signed both; null without a release before"),
    asks_for_more: z
      .array(z.string().max(200))
      .describe("sentences on what the new release may do or spends that the one before did not"),
  })
  .openapi("ReleaseDifference");
export type ReleaseDifference = z.infer<typeof releaseDifference>;

export const review = z.strictObject({ release, difference: releaseDifference }).openapi("Review");

export const channelPointer = z
  .strictObject({
    package: packageName,
    channel,
    version,
    release_id: releaseId,
    artifact_sha256: sha256Digest,
    sequence: z.int().min(1).describe("counts the moves of this channel"),
    moved_at: timestamp,
    bundle: signedBundle.describe("the marketplace's statement of this pointer"),
  })
  .openapi("ChannelPointer");
export type ChannelPointer = z.infer<typeof channelPointer>;
export const channelList = z.strictObject({ channels: z.array(channelPointer) }).openapi("ChannelList");

/** The in-toto predicate of a channel pointer; the statement's subject is the release's artifact. */
export const channelPredicateType = "https://maestro-conductor.dev/attestations/channel-pointer/v1";
export const channelPredicate = z.strictObject({
  package: packageName,
  channel,
  version,
  sequence: z.int().min(1),
  moved_at: timestamp,
});

export const channelMove = z
  .strictObject({
    package: packageName,
    channel,
    version,
    down: z.boolean().default(false).describe("true: yes, to an older version than the channel points to now"),
  })
  .openapi("ChannelMove");

export const packageSummary = z
  .strictObject({
    name: packageName,
    description: z.string(),
    stable: version.nullable(),
    canary: version.nullable(),
    release_count: z.int().min(0).describe("published ones"),
    published_at: timestamp.describe("of the newest release"),
  })
  .openapi("PackageSummary");
export type PackageSummary = z.infer<typeof packageSummary>;
export const packageList = z
  .strictObject({ packages: z.array(packageSummary), next_cursor: z.string().nullable() })
  .openapi("PackageList");
