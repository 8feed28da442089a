// What a fetcher holds on to between its refreshes and its restarts: the metadata that it trusts, what is active under it,
// and what failed. Its port is implemented by cli/edge/held-folder.ts; called by edge-fetcher.ts.

import { z } from "@hono/zod-openapi";
import type { Bytes } from "../contract/bytes.ts";
import { sha256Digest, timestamp } from "../contract/names.ts";
import { targetsMax } from "./tuf.ts";

/** Bundles that failed; the oldest are forgotten first. */
export const quarantineMax = 1_000;
/** Deltas that failed; the oldest are forgotten first. */
export const failedDeltasMax = 1_000;

const activePolicy = z.strictObject({
  sha256: sha256Digest,
  bytes: z.int().min(1),
  tar_sha256: sha256Digest,
  revision: z.int().min(1),
  version: z.string(),
  statement_sha256: sha256Digest,
  published_at: timestamp,
  from: z.string().describe("the provider that the bytes came from"),
  activated_at: timestamp,
  expires_at: timestamp.describe("the end of the metadata that named it last: it is not served from then on"),
  publisher_kid: sha256Digest
    .nullable()
    .default(null)
    .describe(
      "whose statement vouched for it, SHA-256 of the SPKI; null: held since before that was kept, and not served",
    ),
  packed_sha256: sha256Digest
    .nullable()
    .default(null)
    .describe("of the tar.gz that was packed here, of the tar that a delta made; null: the published one is held"),
});
export type ActivePolicy = z.infer<typeof activePolicy>;

const quarantined = z.strictObject({
  path: z.string(),
  sha256: sha256Digest,
  statement_sha256: sha256Digest,
  provider: z.string().nullable().describe("null: the bytes themselves are bad, whoever serves them"),
  code: z.string(),
  detail: z.string(),
  at: timestamp,
  publishers_sha256: sha256Digest
    .nullable()
    .default(null)
    .describe("of the list of publishers that a statement was judged under: under another one it is judged anew"),
});
export type Quarantined = z.infer<typeof quarantined>;

const failedDelta = z.strictObject({
  path: z.string(),
  /** Digests of tars. */
  from: sha256Digest,
  to: sha256Digest,
  /** Of the delta's own file. */
  sha256: sha256Digest,
  code: z.string(),
  detail: z.string(),
  at: timestamp,
});
export type FailedDelta = z.infer<typeof failedDelta>;

/** Of the tar.gz that is held and served: its name in the store. */
export const heldSha256 = ({ sha256, packed_sha256: packed }: ActivePolicy): string => packed ?? sha256;

export const heldState = z.strictObject({
  format: z.literal("maestro-edge-held/v1"),
  /** Counts the swaps: who finds another one than it wrote is not alone on this folder. */
  generation: z.int().min(0),
  tenant: z.string(),
  /** Of the root that was pinned when this began. */
  pinned_root_sha256: sha256Digest,
  trusted: z.strictObject({
    root: z.string(),
    timestamp: z.string().nullable(),
    snapshot: z.string().nullable(),
    targets: z.string().nullable(),
  }),
  /** By target path: `{name}/{channel}/bundle.tar.gz`. */
  active: z.record(z.string(), activePolicy).refine((active) => Object.keys(active).length <= targetsMax),
  quarantine: z.array(quarantined).max(quarantineMax),
  /** Not asked for again while the metadata names them. */
  failed_deltas: z.array(failedDelta).max(failedDeltasMax).default([]),
});
export type HeldState = z.infer<typeof heldState>;

export type Kept =
  | { readonly ok: true }
  /** Nothing has changed. `reason`: a clause, like "the disk is full (ENOSPC)". */
  | { readonly ok: false; readonly reason: string };

export interface HeldStore {
  /** When it resolves with ok, the bytes are durable under their digest, whole; nothing points to them yet. */
  putBundle(sha256: string, bytes: Bytes): Promise<Kept>;
  /** When it resolves with ok, a restart finds this state; until then, and whenever it ends, the old one or this, whole. */
  swap(state: HeldState): Promise<Kept>;
  /** Null where there is none, or where its bytes have another digest. */
  bundle(sha256: string): Promise<Bytes | null>;
}
