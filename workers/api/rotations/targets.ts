// The kinds of keys that the API rotates: the release keys of the signer, which the API verifies with itself, and the keys of the
// audit worker. Called by the KeyRotation objects (shared/rotation/rotations.ts), each call as often as it takes.

import type { AuditServiceApi } from "../../../shared/audit/service.ts";
import { openCheckpoint, parseCheckpoint } from "../../../shared/audit/checkpoint.ts";
import { base64Bytes } from "../../../shared/contract/bytes.ts";
import type { RotationKind } from "../../../shared/contract/http-rotations.ts";
import type { Clock } from "../../../shared/contract/ports.ts";
import * as store from "../../../shared/market/release-key-store.ts";
import type { RotatedKeys, RotatingKeysApi } from "../../../shared/rotation/service.ts";
import type { RotationTarget } from "../../../shared/rotation/target.ts";
import { readEndorsement } from "../../../shared/signing/endorsement.ts";
import { checkChannelPointer, type ReleaseKeys } from "../../../shared/signing/release.ts";
import type { SignerServiceApi } from "../../../shared/signing/service.ts";
import type { Database } from "../../../shared/tenancy/database.ts";

/** Signatures that are made anew in one step: the next ones follow in the next. */
const signedAnewMax = 25;

export interface TargetParts {
  readonly clock: Clock;
  readonly database: Database;
  readonly audit: Pick<AuditServiceApi, "checkpoint"> & RotatingKeysApi;
  readonly signer: Pick<SignerServiceApi, "countersign" | "pointer"> & RotatingKeysApi;
  readonly platform: PlatformIdentities;
  /** Those that signatures are believed by now. */
  readonly releaseKeys: () => Promise<ReleaseKeys>;
}

/** The workers of the platform, as far as rotating their authority's keys goes. */
export interface PlatformIdentities {
  readonly authority: Omit<RotatingKeysApi, "prepareKeys" | "revokeKeys" | "publishedKeys"> & {
    prepareKeys(rotation: string): Promise<RotatedKeys>;
    revokeKeys(rotation: string): Promise<void>;
  };
  /** Of each worker: the kids that it believes, and those of the SVIDs that it presents. As they are now. */
  readonly identities: () => Promise<
    readonly {
      readonly name: string;
      readonly holds: readonly string[];
      readonly presents: readonly (string | null)[];
    }[]
  >;
  /** Resolves when no worker can hold a bundle from before any more. */
  readonly waitOutLease: () => Promise<void>;
}

export const rotationTarget = (parts: TargetParts, kind: RotationKind, tenantId: string): RotationTarget =>
  kind === "release"
    ? releaseTarget(parts, tenantId)
    : kind === "worker"
      ? workerTarget(parts.platform)
      : auditTarget(parts, kind, tenantId);

/** From `acknowledged` on the ring may have been told to switch, whatever came back. */
const beforeTheSwitch = ["prepare", "published"] as const;

const kids = (keys: RotatedKeys["new"]): string[] => keys.map(({ kid }) => kid);

function releaseTarget(parts: TargetParts, tenantId: string): RotationTarget {
  const { clock, database, signer } = parts;
  return {
    cancellable: beforeTheSwitch,
    prepare: (rotation) => signer.prepareKeys(rotation, ["release"]),
    async publish(rotation, keys) {
      await signer.publishKeys(rotation);
      await believeNew(parts, tenantId, rotation, keys);
    },
    async consumers(keys) {
      const believed = await parts.releaseKeys();
      return [{ name: "api", holds: kids(keys.new).every((kid) => believed.has(kid)) }];
    },
    async activate(rotation, keys) {
      await signer.activateKeys(rotation);
      const { keys: published } = await signer.publishedKeys();
      for (const kid of kids(keys.old)) {
        const not_after = published.find((key) => key.kid === kid)?.not_after ?? null;
        await store.endReleaseKey(database, tenantId, kid, { not_after, revoked_at: null }, clock());
      }
    },
    taint: (rotation) => signer.taintKeys(rotation),
    async verify(_, keys, compromised) {
      for (const kid of kids(keys.old)) {
        const releases = compromised ? await countersignAnew(parts, tenantId, kid) : null;
        if (releases !== null) return releases;
        const pointers = await pointAnew(parts, tenantId, kid);
        if (pointers !== null) return pointers;
      }
      return null;
    },
    async revoke(rotation, keys, compromised) {
      // First where signatures are verified: nothing is believed by the key when the ring says that it is revoked.
      const revoked_at = compromised ? new Date(clock()).toISOString() : null;
      for (const kid of kids(keys.old))
        await store.endReleaseKey(database, tenantId, kid, { not_after: null, revoked_at }, clock());
      await signer.revokeKeys(rotation, compromised);
    },
    async withdraw(rotation) {
      const withdrawn = await signer.withdrawKeys(rotation);
      const { keys } = await signer.publishedKeys();
      // Also where the step that was to have it believed has not come to that, and comes late.
      for (const key of keys.filter(({ use, kid }) => use === "release" && kids(withdrawn.new).includes(kid)))
        await store.refuseReleaseKey(database, tenantId, rotation, key, clock());
      return withdrawn;
    },
    async breaks() {
      const { keys } = await signer.publishedKeys();
      const old = keys.find(({ not_after: end }) => end === undefined);
      if (old === undefined) return [];
      const { releases, channels } = await store.countSignedBy(database, tenantId, old.kid);
      return [
        `Signatures by the release key ${old.kid} are refused once it is revoked: ${releases} releases and ${channels} ` +
          "channels are signed anew here, and copies of the old signatures that others keep are not believed any more.",
        "The revoked key endorses nothing: who trusts it alone must accept the new one (`maestro audit keys --accept`).",
      ];
    },
  };
}

/** A key that a believed one endorsed is believed from the commit of its row on. */
async function believeNew(parts: TargetParts, tenantId: string, rotation: string, keys: RotatedKeys): Promise<void> {
  const { clock, database, signer } = parts;
  const [believed, published] = await Promise.all([parts.releaseKeys(), signer.publishedKeys()]);
  const wordOf = (kid: string) => {
    const key = believed.get(kid);
    return key === undefined ? null : ({ spki: key.spki, algorithm: "ECDSA-P256-SHA256" } as const);
  };
  for (const old of published.keys.filter(({ kid }) => kids(keys.old).includes(kid)))
    await store.insertReleaseKey(database, tenantId, rotation, { ...old, endorsement: null }, clock());
  for (const wanted of kids(keys.new)) {
    let isEndorsed = believed.has(wanted);
    for (const endorsement of isEndorsed ? [] : published.endorsements) {
      const read = await readEndorsement(endorsement, wordOf);
      if (!read.ok || read.key.kid !== wanted || !read.key.uses.includes("release")) continue;
      await store.insertReleaseKey(database, tenantId, rotation, { ...read.key, endorsement }, clock());
      isEndorsed = true;
    }
    if (!isEndorsed) throw new Error(`no release key that the API believes has endorsed ${wanted}`);
  }
}

/** Null: no live channel stands on a signature of the key. */
async function pointAnew(parts: TargetParts, tenantId: string, kid: string): Promise<string | null> {
  const { database, signer } = parts;
  const believed = await parts.releaseKeys();
  const rows = await store.pointersSignedBy(database, tenantId, kid, signedAnewMax);
  for (const row of rows) {
    const { sequence, moved_at, channel, publisher_bundle, marketplace_bundle } = row;
    const signed = await signer.pointer({
      sequence,
      moved_at,
      channel,
      publisher_bundle,
      marketplace_bundle,
      publisher_spki: row.publisher_key,
    });
    const named = `the ${channel} channel of ${row.package}`;
    if (!signed.ok) return `${named} is not signed anew: ${signed.reason}`;
    const checked = await checkChannelPointer(signed.bundle, believed);
    if (!checked.ok) return `${named} was signed anew, and does not verify: ${checked.reason}`;
    await store.replacePointerBundle(database, row, signed.bundle);
  }
  return rows.length === 0
    ? null
    : `${rows.length === 1 ? "one channel was" : `${rows.length} channels were`} signed anew; looking for more`;
}

/** Null: no release stands on a countersignature of the key. */
async function countersignAnew(parts: TargetParts, tenantId: string, kid: string): Promise<string | null> {
  const { database, signer } = parts;
  const rows = await store.releasesSignedBy(database, tenantId, kid, signedAnewMax);
  for (const row of rows) {
    const signed = await signer.countersign(row.publisher_bundle, row.publisher_key);
    if (!signed.ok) return `the release ${row.id} is not countersigned anew: ${signed.reason}`;
    await store.replaceCountersignature(database, tenantId, row.id, kid, signed.bundle);
  }
  return rows.length === 0 ? null : `${rows.length} releases were countersigned anew; looking for more`;
}

const auditSlots = { audit: ["checkpoint", "statement"], link: ["link"] } as const;

function auditTarget({ audit }: TargetParts, kind: keyof typeof auditSlots, tenantId: string): RotationTarget {
  return {
    cancellable: beforeTheSwitch,
    prepare: (rotation) => audit.prepareKeys(rotation, auditSlots[kind]),
    publish: (rotation) => audit.publishKeys(rotation),
    async consumers(keys) {
      const { keys: published } = await audit.publishedKeys();
      return [{ name: "audit", holds: kids(keys.new).every((kid) => published.some((key) => key.kid === kid)) }];
    },
    activate: (rotation) => audit.activateKeys(rotation),
    taint: (rotation) => audit.taintKeys(rotation),
    async verify(_, keys) {
      const { keys: published } = await audit.publishedKeys();
      const endless = kids(keys.old).find((kid) =>
        published.some((key) => key.kid === kid && key.not_after === undefined),
      );
      if (endless !== undefined) return `the key ${endless} has no end in the published keys yet`;
      const checkpoint = published.find(({ use, kid }) => use === "checkpoint" && kids(keys.new).includes(kid));
      if (checkpoint === undefined) return null;
      // The log of the tenant that asked has the rotation's own events to seal: its next head is by the new key.
      const note = await audit.checkpoint(tenantId);
      const origin = note === null ? null : (parseCheckpoint(note)?.origin ?? null);
      if (note === null || origin === null) return "the log has no head yet";
      const opened = await openCheckpoint(note, origin, [base64Bytes(checkpoint.spki)]);
      return opened.ok ? null : "no head of the log was signed by the new checkpoint key yet";
    },
    revoke: (rotation, _, compromised) => audit.revokeKeys(rotation, compromised),
    withdraw: (rotation) => audit.withdrawKeys(rotation),
    async breaks() {
      const { keys } = await audit.publishedKeys();
      const uses = kind === "link" ? ["link"] : ["checkpoint", "manifest"];
      const old = keys.filter(({ use, not_after: end }) => uses.includes(use) && end === undefined);
      const named = old.map(({ use, kid }) => `${use} ${kid}`).join(", ");
      return [
        kind === "link"
          ? `Links that were granted under ${named} open nothing once it is revoked, also those whose time has not ended.`
          : `What ${named} signed in the log until the switch stands; nothing that they sign later does.`,
        "A revoked key endorses nothing: who trusts it alone must accept the new one (`maestro audit keys --accept`).",
      ];
    },
  };
}

/** The authority of the platform's own workers (ADR-1240). What it signs lives for five minutes, and is renewed at once. */
function workerTarget({ authority, identities, waitOutLease }: PlatformIdentities): RotationTarget {
  return {
    cancellable: beforeTheSwitch,
    prepare: (rotation) => authority.prepareKeys(rotation),
    publish: (rotation) => authority.publishKeys(rotation),
    async consumers(keys) {
      return (await identities()).map(({ name, holds }) => ({
        name,
        holds: kids(keys.new).every((kid) => holds.includes(kid)),
      }));
    },
    activate: (rotation) => authority.activateKeys(rotation),
    taint: (rotation) => authority.taintKeys(rotation),
    async verify(_, keys) {
      const late = (await identities()).filter(
        ({ presents }) => !presents.every((kid) => kid !== null && kids(keys.new).includes(kid)),
      );
      return late.length === 0
        ? null
        : `${late.map(({ name }) => name).join(", ")} still presents an SVID of the old key`;
    },
    async revoke(rotation) {
      await authority.revokeKeys(rotation);
      await waitOutLease();
    },
    withdraw: (rotation) => authority.withdrawKeys(rotation),
    breaks: async () => [
      "Nothing that lasts: each worker of the platform takes an SVID of the new key. Whoever holds the old key can call as any worker " +
        "until it is revoked.",
    ],
  };
}
