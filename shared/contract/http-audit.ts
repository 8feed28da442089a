// Wire shapes of the log's public side: keys, manifests. Checkpoints, tiles and segments are served as they are.

import { z } from "@hono/zod-openapi";
import { signedBundle } from "./events.ts";
import { timestamp } from "./names.ts";

export const keyUses = ["checkpoint", "manifest", "receipt", "pack", "link", "release"] as const;

/** A verifying key of ours: what it may sign, and since when. */
export const publishedKey = z
  .strictObject({
    kid: z.string().describe("lower-case hex SHA-256 of the SPKI DER"),
    use: z.enum(keyUses),
    algorithm: z.enum(["Ed25519", "ECDSA-P256-SHA256"]),
    spki: z.string().describe("SubjectPublicKeyInfo DER in base64"),
    not_before: timestamp,
    not_after: timestamp
      .optional()
      .describe("of a retired key: what it signed until then stays valid, nothing else is"),
    revoked_at: timestamp
      .optional()
      .describe(
        "of a key that others may have: no release, channel or link is believed by its signature, and it endorses nothing. In the " +
          "log what it signed until `not_after` stands, since the log's tree holds it",
      ),
  })
  .openapi("PublishedKey");
export type PublishedKey = z.infer<typeof publishedKey>;

/** A ring publishes the newest so many. */
export const endorsementsMax = 200;

export const publishedKeys = z
  .strictObject({
    origin_prefix: z.string(),
    keys: z
      .array(publishedKey)
      .describe("of each use the key that signs now comes first; the one that is to take its place may follow it"),
    endorsements: z
      .array(signedBundle)
      .max(2 * endorsementsMax)
      .optional()
      .describe("what a key signed of the one that took its place: who trusts the one may trust the other"),
  })
  .openapi("PublishedKeys");
export type PublishedKeys = z.infer<typeof publishedKeys>;

/** `{from:020}-{to:020}`, half-open. */
export const segmentRange = z.string().regex(/^\d{20}-\d{20}$/);
export const manifestList = z
  .strictObject({
    ranges: z.array(segmentRange).describe("sealed ranges in order, each with a manifest and a segment"),
    next_after: segmentRange.nullable(),
  })
  .openapi("ManifestList");

/** A head of the tenant's log as it stands in the anchor log, under a checkpoint that witnesses cosigned. */
export const anchoring = z
  .strictObject({
    body: z.string().max(4096).describe("the anchor log's `mc.log.head` event, as it was hashed"),
    proof: z.string().max(65_536).describe("a C2SP tlog-proof; `extra` is the leaf's salt"),
  })
  .openapi("Anchoring");
export type Anchoring = z.infer<typeof anchoring>;

export const anchoringsMax = 16;
export const anchoringList = z
  .strictObject({
    anchorings: z
      .array(anchoring)
      .min(1)
      .max(anchoringsMax)
      .describe("newest first; an older one follows only where more witnesses cosigned it"),
  })
  .openapi("AnchoringList");
