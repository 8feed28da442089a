// Wire shapes of the marketplace: publisher keys, releases, entitlements, installs.

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

export const release = z
  .strictObject({
    id: z.string().regex(idPattern("release")),
    package: packageName,
    version,
    channel: channel.describe("the first channel, as the publisher signed it"),
    artifact_sha256: sha256Digest,
    artifact_bytes: z.int(),
    units: z.int(),
    manifest: packageManifest,
    publisher_bundle: signedBundle,
    marketplace_bundle: signedBundle.describe("the marketplace's countersignature over the publisher's statement"),
    publisher_key: z
      .string()
      .describe("the publisher's P-256 key, SPKI DER in base64; its SHA-256 is the bundle's hint"),
    published_at: timestamp,
  })
  .openapi("Release");
export type Release = z.infer<typeof release>;

export const entitlement = z
  .strictObject({ package: packageName, channel, allowed: z.boolean() })
  .openapi("Entitlement");
export type Entitlement = z.infer<typeof entitlement>;

export const entitlementSet = z
  .strictObject({
    version: z.int().min(0).describe('changes with each PUT; also the ETag, as "v<version>"'),
    entitlements: z.array(entitlement),
  })
  .openapi("EntitlementSet");
export type EntitlementSet = z.infer<typeof entitlementSet>;

export const entitlementUpsert = z
  .strictObject({
    entitlements: z.array(entitlement).min(1).max(100).describe("rows to add or change; rows not named stay"),
    reason: z.string().max(500).default(""),
  })
  .openapi("EntitlementUpsert");
export type EntitlementUpsert = z.infer<typeof entitlementUpsert>;

export const installRequest = z
  .strictObject({ package: packageName, channel: channel.default("stable") })
  .openapi("InstallRequest");
export const install = z
  .strictObject({
    id: z.string().regex(idPattern("install")),
    package: packageName,
    version,
    channel,
    artifact_sha256: sha256Digest,
    units: z.int(),
    release_id: z.string().regex(idPattern("release")),
    changed_at: timestamp,
  })
  .openapi("Install");
export type Install = z.infer<typeof install>;
export const installList = z.strictObject({ installs: z.array(install) }).openapi("InstallList");
