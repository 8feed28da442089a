// What a release is, and when it may be accepted: the publisher's signed statement, held against the artifact. Pure;
// called by the publish and install routes, by the signer worker and by the CLI.

import { hex, sha256, base64Bytes, toBytes } from "../contract/bytes.ts";
import type { SignedBundle } from "../contract/events.ts";
import {
  channelPredicate,
  channelPredicateType,
  releasePredicate,
  releasePredicateType,
  type PackageManifest,
} from "../contract/http-market.ts";
import { timestamp, type Channel } from "../contract/names.ts";
import { verifyBundle } from "./bundle.ts";
import { importVerifyKey } from "./keys.ts";
import type { Statement } from "./statement.ts";

/** The in-toto predicate of the marketplace's countersignature. */
export const countersignatureType = "https://maestro-conductor.dev/attestations/release-countersignature/v1";

export interface SignedRelease {
  readonly manifest: PackageManifest;
  readonly artifact_sha256: string;
  readonly artifact_bytes: number;
  readonly publisher_kid: string;
}

export type CheckedRelease =
  | { readonly ok: true; readonly release: SignedRelease }
  | { readonly ok: false; readonly reason: string };

/** The publisher's statement, verified with the SPKI (DER in base64) of the key that it names. */
export async function checkPublisherBundle(bundle: SignedBundle, publisherSpki: string): Promise<CheckedRelease> {
  const spki = base64Bytes(publisherSpki);
  const kid = hex(await sha256(spki));
  const verified = await verifyBundle(bundle, async (wanted) =>
    wanted === kid ? await importVerifyKey(spki, "P-256") : null,
  );
  if (!verified.ok) return { ok: false, reason: `the publisher's signature: ${verified.reason}` };
  const { statement } = verified;
  if (statement.predicateType !== releasePredicateType) {
    return { ok: false, reason: `the statement's predicate type is not ${releasePredicateType}` };
  }
  const subject = onlySubject(statement);
  const predicate = releasePredicate.safeParse(statement.predicate);
  if (subject === null) return { ok: false, reason: "the statement names other than one subject" };
  if (!predicate.success) {
    const issue = predicate.error.issues[0];
    return {
      ok: false,
      reason: `the signed manifest: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "unreadable"}`,
    };
  }
  const { manifest, artifact_bytes } = predicate.data;
  if (subject.name !== `${manifest.name}@${manifest.version}`) {
    return { ok: false, reason: `the statement's subject is not ${manifest.name}@${manifest.version}` };
  }
  return {
    ok: true,
    release: { manifest, artifact_bytes, artifact_sha256: subject.digest.sha256, publisher_kid: verified.kid },
  };
}

/** A key that signatures of the marketplace are believed by. */
export interface ReleaseKey {
  /** DER in base64. */
  readonly spki: string;
  /** RFC 3339: what says that it was signed later is not believed. Null: the key signs still. */
  readonly not_after: string | null;
}
/** By kid. */
export type ReleaseKeys = ReadonlyMap<string, ReleaseKey>;

export type Countersigned = {
  readonly publisher_kid: string;
  readonly publisher_statement_sha256: string;
  /** RFC 3339. Countersignatures of before it was said have none. */
  readonly signed_at?: string;
};

/** The statement that the marketplace signs over a release that it has checked, at `signedAt` (RFC 3339). */
export async function countersignature(bundle: SignedBundle, release: SignedRelease, signedAt: string) {
  const predicate: Countersigned = {
    publisher_kid: release.publisher_kid,
    publisher_statement_sha256: hex(await sha256(base64Bytes(bundle.dsseEnvelope.payload))),
    signed_at: signedAt,
  };
  return {
    subject: [
      { name: `${release.manifest.name}@${release.manifest.version}`, digest: { sha256: release.artifact_sha256 } },
    ],
    predicateType: countersignatureType,
    predicate,
  };
}

export type CheckedCountersigned =
  | {
      readonly ok: true;
      readonly release: SignedRelease;
      /** RFC 3339; null: it does not say. */
      readonly countersigned_at: string | null;
    }
  | { readonly ok: false; readonly reason: string };

/** Both signatures over one release, and that they speak of the same artifact. */
export async function checkRelease(
  bundles: { readonly publisher: SignedBundle; readonly marketplace: SignedBundle; readonly publisherSpki: string },
  marketplaceKeys: ReleaseKeys,
): Promise<CheckedCountersigned> {
  const checked = await checkPublisherBundle(bundles.publisher, bundles.publisherSpki);
  if (!checked.ok) return checked;
  const verified = await verifyBundle(bundles.marketplace, (kid) => keyOf(marketplaceKeys, kid));
  if (!verified.ok) return { ok: false, reason: `the marketplace's countersignature: ${verified.reason}` };
  const signedAt = signedAtOf(verified.statement.predicate);
  if (signedAt === undefined)
    return { ok: false, reason: "the marketplace's countersignature says no time as its own" };
  const expected = await countersignature(bundles.publisher, checked.release, signedAt ?? "");
  const subject = onlySubject(verified.statement);
  const predicate = verified.statement.predicate as Partial<Countersigned> | null;
  if (
    verified.statement.predicateType !== countersignatureType ||
    subject?.name !== expected.subject[0]?.name ||
    subject?.digest.sha256 !== checked.release.artifact_sha256 ||
    predicate?.publisher_kid !== checked.release.publisher_kid ||
    predicate.publisher_statement_sha256 !== expected.predicate.publisher_statement_sha256
  ) {
    return { ok: false, reason: "the marketplace's countersignature is over another release" };
  }
  const late = signedAt === null ? null : whyLate(marketplaceKeys, verified.kid, signedAt);
  if (late !== null) return { ok: false, reason: `the marketplace's countersignature: ${late}` };
  return { ok: true, release: checked.release, countersigned_at: signedAt };
}

/** Null: it has none. Undefined: what it has is no time. */
function signedAtOf(predicate: unknown): string | null | undefined {
  const said = (predicate as Partial<Countersigned> | null)?.signed_at;
  return said === undefined ? null : timestamp.safeParse(said).data;
}

/** Why a key cannot have signed at `time`, or null. */
function whyLate(keys: ReleaseKeys, kid: string, time: string): string | null {
  const end = keys.get(kid)?.not_after ?? null;
  return end !== null && Date.parse(time) > Date.parse(end) ? `it says ${time}, and its key ended at ${end}` : null;
}

/** Where a channel of a package points, as the marketplace signed it. */
export interface SignedPointer {
  readonly package: string;
  readonly channel: Channel;
  readonly version: string;
  readonly sequence: number;
  readonly moved_at: string;
  readonly artifact_sha256: string;
}

/** The statement that the marketplace signs when a channel is moved. */
export const pointerStatement = ({ artifact_sha256: sha256, ...predicate }: SignedPointer) => ({
  subject: [{ name: `${predicate.package}@${predicate.version}`, digest: { sha256 } }],
  predicateType: channelPredicateType,
  predicate,
});

export type CheckedPointer =
  | { readonly ok: true; readonly pointer: SignedPointer }
  | { readonly ok: false; readonly reason: string };

/** A channel's pointer, verified. That it is the newest one is not in it: `sequence` tells which of two is newer. */
export async function checkChannelPointer(bundle: SignedBundle, marketplaceKeys: ReleaseKeys): Promise<CheckedPointer> {
  const verified = await verifyBundle(bundle, (kid) => keyOf(marketplaceKeys, kid));
  if (!verified.ok) return { ok: false, reason: `the channel pointer's signature: ${verified.reason}` };
  const { statement } = verified;
  const subject = onlySubject(statement);
  const predicate = channelPredicate.safeParse(statement.predicate);
  if (statement.predicateType !== channelPredicateType || subject === null || !predicate.success) {
    return { ok: false, reason: "the signed statement is not one of a channel pointer" };
  }
  const { package: name, version } = predicate.data;
  if (subject.name !== `${name}@${version}`) {
    return { ok: false, reason: "the channel pointer names another release than its subject" };
  }
  const late = whyLate(marketplaceKeys, verified.kid, predicate.data.moved_at);
  if (late !== null) return { ok: false, reason: `the channel pointer's signature: ${late}` };
  return { ok: true, pointer: { ...predicate.data, artifact_sha256: subject.digest.sha256 } };
}

async function keyOf(keys: ReleaseKeys, kid: string): Promise<CryptoKey | null> {
  const key = keys.get(kid);
  return key === undefined ? null : await importVerifyKey(toBytes(base64Bytes(key.spki)), "P-256");
}

function onlySubject(statement: Statement): Statement["subject"][number] | null {
  return statement.subject.length === 1 ? (statement.subject[0] ?? null) : null;
}
