// Wire shapes of edge policy: what a publisher signs of an OPA bundle, revisions on channels, what each CDN provider has.

import { z } from "@hono/zod-openapi";
import { channel, sha256Digest, timestamp } from "./names.ts";

/** The largest bundle as it is uploaded: 64 MiB of tar.gz. */
export const bundleBytesMax = 64 * 1024 * 1024;
/** What a bundle inflates to at most: 256 MiB of tar. */
export const tarBytesMax = 256 * 1024 * 1024;

/** `keys` and `root` are paths of the API beside the policies' names. */
const reservedNames: ReadonlySet<string> = new Set(["keys", "root", "bundles"]);

/** A policy's name as events have it; what may be published is `policyName`. */
export const policyNameInEvents = z
  .string()
  .max(64)
  .regex(
    /^[a-z0-9]+(?:[.-][a-z0-9]+)*$/,
    "a policy's name is [a-z0-9] with single dots or dashes inside, up to 64 characters",
  );

export const policyName = policyNameInEvents
  .refine((name) => !reservedNames.has(name), "this name is a path of the API: take another")
  .openapi({ example: "gateway" });

/** What a bundle's `.manifest` says as `revision`: printable, so that it is one text in every spelling of JSON. */
export const policyVersion = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._+:@/-]{0,127}$/,
    "a revision is 1 to 128 letters, digits and . _ + : @ / -, and begins with a letter or digit",
  )
  .openapi({ example: "2026-04-13.1" });

export const bundleBytes = z.int().min(1).max(bundleBytesMax);
export const tarBytes = z.int().min(1).max(tarBytesMax);

/** The in-toto predicate that a publisher signs of a bundle; the statement's subjects are its tar.gz and its tar. */
export const policyPredicateType = "https://maestro-conductor.dev/attestations/policy-bundle/v1";
export const policyPredicate = z.strictObject({
  policy: policyName,
  version: policyVersion,
  bundle_bytes: bundleBytes,
  tar_bytes: tarBytes,
});
/** Names of the statement's two subjects, in their order. */
export const policySubjects = ["bundle.tar.gz", "bundle.tar"] as const;

export const policyOutcomes = ["published", "promoted", "rolled_back"] as const;

export const policyRevision = z
  .strictObject({
    policy: policyName,
    channel,
    revision: z.int().min(1).describe("counts the changes of this policy on this channel, also those that go back"),
    version: policyVersion.describe("what the bundle's .manifest says as its revision"),
    bundle_sha256: sha256Digest,
    bundle_bytes: bundleBytes,
    tar_sha256: sha256Digest.describe("of the uncompressed tar: what a delta has to lead to"),
    tar_bytes: tarBytes,
    statement_sha256: sha256Digest.describe("of the publisher's signed statement, as the edge serves it"),
    published_at: timestamp,
    outcome: z.enum(policyOutcomes),
  })
  .openapi("PolicyRevision");
export type PolicyRevision = z.infer<typeof policyRevision>;

export const providerState = z
  .strictObject({
    name: z.string().max(64),
    state: z.enum(["current", "behind"]).describe("`current`: what it serves is the newest that was signed"),
    root_version: z.int().min(0),
    targets_version: z.int().min(0),
    timestamp_version: z.int().min(0).describe("of the timestamp that was read back from it; 0 before the first"),
    behind_since: timestamp.nullable().describe("since when it does not take what it should; it is tried again"),
    attempts: z.int().min(0).describe("that failed since then"),
    reason: z.string().max(64).nullable().describe("a machine word: why the last attempt failed"),
  })
  .openapi("PolicyProvider");
export type ProviderState = z.infer<typeof providerState>;
const providers = z.array(providerState).describe("what each CDN provider has of it");

const channels = z.strictObject({ stable: policyRevision.nullable(), canary: policyRevision.nullable() });

/** What a change answers: the revision that the channel has now. */
export const policyChanged = z.strictObject({ ...policyRevision.shape, providers }).openapi("PolicyChanged");
export type PolicyChanged = z.infer<typeof policyChanged>;

/** What a removal answers: the last revision of each channel. */
export const policyRemoved = z
  .strictObject({
    policy: policyName,
    stable_revision: z.int().min(1).nullable().describe("what the channel had; null: nothing"),
    canary_revision: z.int().min(1).nullable(),
    targets_version: z.int().min(1).describe("of the targets without it"),
    providers,
  })
  .openapi("PolicyRemoved");
export type PolicyRemoved = z.infer<typeof policyRemoved>;

export const policyPromotion = z
  .strictObject({ from: channel.default("canary"), to: channel.default("stable") })
  .refine(({ from, to }) => from !== to, "`from` and `to` are two channels")
  .openapi("PolicyPromotion");
export const policyRollback = z
  .strictObject({
    channel: channel.default("stable"),
    revision: z
      .int()
      .min(1)
      .nullable()
      .default(null)
      .describe("whose bundle it gets again; null: the newest before that had another bundle"),
  })
  .openapi("PolicyRollback");

export const policy = z
  .strictObject({
    name: policyName,
    channels,
    revisions: z.array(policyRevision).describe("of both channels, the newest first, at most 100"),
    providers,
  })
  .openapi("Policy");
export type Policy = z.infer<typeof policy>;

export const signingReasons = ["signer_unavailable", "signer_refused", "keys_changed"] as const;
export const policySigning = z
  .strictObject({
    failing_since: timestamp.nullable().describe("since when nothing is signed; null: what was asked last was signed"),
    reason: z
      .enum(signingReasons)
      .nullable()
      .describe(
        "`signer_unavailable`: it does not answer; `signer_refused`: what was asked is not what it signs; " +
          "`keys_changed`: the root does not name its keys, `maestro policy root rotate` does",
      ),
    expires: z.string().nullable().describe("when fetchers stop believing what was signed last; null before the first"),
  })
  .openapi("PolicySigning");
export type PolicySigning = z.infer<typeof policySigning>;
/** What lies between two tars now; all that a publisher learns of it. */
export const policyDelta = z
  .strictObject({
    from: sha256Digest.describe("of the tar that it starts from"),
    to: sha256Digest.describe("of the tar that it leads to"),
    bytes: z.int().min(1),
    sha256: sha256Digest.describe("of the delta that is kept: the first one that came"),
  })
  .openapi("PolicyDelta");
export type PolicyDelta = z.infer<typeof policyDelta>;

export const policyList = z
  .strictObject({
    root: z
      .strictObject({ version: z.int().min(1), expires: z.string() })
      .nullable()
      .describe("null: there is none yet"),
    signing: policySigning,
    policies: z.array(z.strictObject({ name: policyName, channels })),
    providers,
  })
  .openapi("PolicyList");
export type PolicyList = z.infer<typeof policyList>;
