// What the signer does for the API: countersigns releases and channel pointers that it has checked itself, signs tenants' TUF
// documents, and takes the steps of rotations. Called through the door of SignerService (index.ts), which asks for an SVID.

import type { SignedBundle } from "../../shared/contract/events.ts";
import { tenantId as tenantIdShape } from "../../shared/contract/names.ts";
import type { Clock } from "../../shared/contract/ports.ts";
import type { SignedTuf, TufSignerApi } from "../../shared/edge/service.ts";
import {
  lifeMs,
  onlineRoles,
  onlineSigned,
  type OnlineRole,
  type OnlineSigned,
  type TufKey,
} from "../../shared/edge/tuf.ts";
import { tenantSigner, tufSecret, type TufSigner } from "../../shared/edge/tuf-keys.ts";
import type { RingSigners } from "../../shared/rotation/ring-signers.ts";
import type { RingKeys, RotatedKeys, RotatingKeysApi } from "../../shared/rotation/service.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { believedReleaseKeys } from "../../shared/signing/published.ts";
import {
  checkPublisherBundle,
  checkRelease,
  countersignature,
  pointerStatement,
} from "../../shared/signing/release.ts";
import type { Countersignature, PointerRequest, SignerServiceApi } from "../../shared/signing/service.ts";
import { statement, type StatementParts } from "../../shared/signing/statement.ts";

/** A document that is good for longer than its role's life, but for clocks that differ, is not signed. */
const clockSkewMs = 60_000;
export const releaseSlot = "release";

export interface SignerParts {
  readonly clock: Clock;
  readonly ring: RotatingKeysApi;
  /** Of the ring: by the key that signs now. */
  readonly signers: RingSigners;
  /** The text of the secret of each role. */
  readonly tufSecrets: Readonly<Record<OnlineRole, string>>;
}

/** Refusals are values; a missing key throws. */
export class Signer implements SignerServiceApi, TufSignerApi, RotatingKeysApi {
  readonly #parts: SignerParts;

  constructor(parts: SignerParts) {
    this.#parts = parts;
  }

  async countersign(publisherBundle: SignedBundle, publisherSpki: string): Promise<Countersignature> {
    const checked = await checkPublisherBundle(publisherBundle, publisherSpki);
    if (!checked.ok) return checked;
    const now = this.#parts.clock();
    const signedAt = new Date(now).toISOString();
    return {
      ok: true,
      bundle: await this.#sign(await countersignature(publisherBundle, checked.release, signedAt), now),
    };
  }

  async pointer(request: PointerRequest): Promise<Countersignature> {
    const movedAtMs = Date.parse(request.moved_at);
    if (Number.isNaN(movedAtMs)) return { ok: false, reason: "the time of the move is none" };
    const checked = await checkRelease(
      {
        publisher: request.publisher_bundle,
        marketplace: request.marketplace_bundle,
        publisherSpki: request.publisher_spki,
      },
      believedReleaseKeys((await this.#parts.ring.publishedKeys()).keys),
    );
    if (!checked.ok) return checked;
    const { manifest, artifact_sha256 } = checked.release;
    const { channel, sequence, moved_at } = request;
    const pointer = { package: manifest.name, channel, version: manifest.version, sequence, moved_at, artifact_sha256 };
    // The key does not end before the time that it signs, though the caller's clock be ahead.
    const at = Math.max(this.#parts.clock(), movedAtMs);
    return { ok: true, bundle: await this.#sign(pointerStatement(pointer), at) };
  }

  prepareKeys(rotation: string, slots: readonly string[]): Promise<RotatedKeys> {
    return this.#parts.ring.prepareKeys(rotation, slots);
  }

  publishKeys(rotation: string): Promise<void> {
    return this.#parts.ring.publishKeys(rotation);
  }

  activateKeys(rotation: string): Promise<void> {
    return this.#parts.ring.activateKeys(rotation);
  }

  taintKeys(rotation: string): Promise<void> {
    return this.#parts.ring.taintKeys(rotation);
  }

  revokeKeys(rotation: string, compromised: boolean): Promise<void> {
    return this.#parts.ring.revokeKeys(rotation, compromised);
  }

  withdrawKeys(rotation: string): Promise<RotatedKeys> {
    return this.#parts.ring.withdrawKeys(rotation);
  }

  publishedKeys(): Promise<RingKeys> {
    return this.#parts.ring.publishedKeys();
  }

  async tufKeys(tenantId: string): Promise<Record<OnlineRole, TufKey>> {
    const [targets, snapshot, timestamp] = await Promise.all(
      onlineRoles.map((role) => this.#tufSigner(role, tenantId)),
    );
    return { targets: targets!.key, snapshot: snapshot!.key, timestamp: timestamp!.key };
  }

  /** Well-formed documents of the three online roles, within their life, under the keys of the tenant named: nothing else. */
  async signTuf(tenantId: string, document: OnlineSigned): Promise<SignedTuf> {
    const parsed = onlineSigned.safeParse(document);
    if (!parsed.success) return { ok: false, reason: "it is no targets, snapshot or timestamp" };
    const signed = parsed.data;
    const leftMs = Date.parse(signed.expires) - this.#parts.clock();
    if (leftMs <= 0 || leftMs > lifeMs[signed._type] + clockSkewMs)
      return { ok: false, reason: `it expires at ${signed.expires}, not within its role's life` };
    return { ok: true, signature: await (await this.#tufSigner(signed._type, tenantId)).sign(signed) };
  }

  async #tufSigner(role: OnlineRole, tenantId: string): Promise<TufSigner> {
    return await tenantSigner(tufSecret(this.#parts.tufSecrets[role]), role, tenantIdShape.parse(tenantId));
  }

  /** By the key that signs now; `at`: ms since 1970, of what is signed. */
  #sign(parts: StatementParts, at: number): Promise<SignedBundle> {
    return this.#parts.signers.sign(at, (signerOf) => signStatement(signerOf(releaseSlot), statement(parts)));
  }
}
