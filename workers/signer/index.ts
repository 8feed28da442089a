// The signer worker: holds the marketplace's release keys in a ring, and countersigns releases that it has checked itself; holds the
// secrets of the online TUF keys, and signs tenants' targets, snapshots and timestamps. It has no route of its own: the API
// reaches it by service binding only.

import { WorkerEntrypoint } from "cloudflare:workers";
import { keyRingObject, ringName } from "../../durable-objects/key-ring.ts";
import type { SignedBundle } from "../../shared/contract/events.ts";
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
import { tenantId as tenantIdShape } from "../../shared/contract/names.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { RingSigners } from "../../shared/rotation/ring-signers.ts";
import type { RingKeys, RingSignerApi, RotatedKeys, RotatingKeysApi } from "../../shared/rotation/service.ts";
import { believedReleaseKeys } from "../../shared/signing/published.ts";
import {
  checkPublisherBundle,
  checkRelease,
  countersignature,
  pointerStatement,
} from "../../shared/signing/release.ts";
import type { Countersignature, PointerRequest, SignerServiceApi } from "../../shared/signing/service.ts";
import { statement, type StatementParts } from "../../shared/signing/statement.ts";

interface Env {
  /** P-256 private key as JWK text, with `not_before`; a secret. The ring's first key. */
  readonly RELEASE_KEY: string;
  /** What the private halves of keys that a rotation made are encrypted with: at least 32 characters. A secret; absent: no rotation. */
  readonly KEY_RING_SECRET?: string;
  readonly RELEASE_RING: DurableObjectNamespace;
  /** 32 random bytes each, as JWK text of type `oct`: what the tenants' online TUF keys are derived from. Secrets. */
  readonly TUF_TARGETS_KEY: string;
  readonly TUF_SNAPSHOT_KEY: string;
  readonly TUF_TIMESTAMP_KEY: string;
}

const tufKeyNames = {
  targets: "TUF_TARGETS_KEY",
  snapshot: "TUF_SNAPSHOT_KEY",
  timestamp: "TUF_TIMESTAMP_KEY",
} as const satisfies Record<OnlineRole, keyof Env>;
/** A document that is good for longer than its role's life, but for clocks that differ, is not signed. */
const clockSkewMs = 60_000;

const slot = "release";
const perIsolate = new WeakMap<object, RingSigners>();

export const ReleaseRing = keyRingObject<Env>((env) => ({
  clock: () => Date.now(),
  random: (byteCount) => crypto.getRandomValues(new Uint8Array(byteCount)),
  name: slot,
  secret: env.KEY_RING_SECRET,
  slots: [{ name: slot, algorithm: "P-256", uses: ["release"], firstKey: env.RELEASE_KEY }],
}));

/** Cross-worker RPC for the API. Refusals are values; a missing key throws. */
export class SignerService extends WorkerEntrypoint<Env> implements SignerServiceApi, TufSignerApi, RotatingKeysApi {
  async countersign(publisherBundle: SignedBundle, publisherSpki: string): Promise<Countersignature> {
    const checked = await checkPublisherBundle(publisherBundle, publisherSpki);
    if (!checked.ok) return checked;
    const now = Date.now();
    const signedAt = new Date(now).toISOString();
    return {
      ok: true,
      bundle: await this.#sign(await countersignature(publisherBundle, checked.release, signedAt), now),
    };
  }

  async pointer(request: PointerRequest): Promise<Countersignature> {
    const checked = await checkRelease(
      {
        publisher: request.publisher_bundle,
        marketplace: request.marketplace_bundle,
        publisherSpki: request.publisher_spki,
      },
      believedReleaseKeys((await this.#ring.publishedKeys()).keys),
    );
    if (!checked.ok) return checked;
    const { manifest, artifact_sha256 } = checked.release;
    const { channel, sequence, moved_at } = request;
    const pointer = { package: manifest.name, channel, version: manifest.version, sequence, moved_at, artifact_sha256 };
    // The key does not end before the time that it signs, though the caller's clock be ahead.
    const at = Math.max(Date.now(), Date.parse(moved_at));
    return { ok: true, bundle: await this.#sign(pointerStatement(pointer), at) };
  }

  prepareKeys(rotation: string, slots: readonly string[]): Promise<RotatedKeys> {
    return this.#ring.prepareKeys(rotation, slots);
  }

  publishKeys(rotation: string): Promise<void> {
    return this.#ring.publishKeys(rotation);
  }

  activateKeys(rotation: string): Promise<void> {
    return this.#ring.activateKeys(rotation);
  }

  taintKeys(rotation: string): Promise<void> {
    return this.#ring.taintKeys(rotation);
  }

  revokeKeys(rotation: string, compromised: boolean): Promise<void> {
    return this.#ring.revokeKeys(rotation, compromised);
  }

  publishedKeys(): Promise<RingKeys> {
    return this.#ring.publishedKeys();
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
    const leftMs = Date.parse(signed.expires) - Date.now();
    if (leftMs <= 0 || leftMs > lifeMs[signed._type] + clockSkewMs)
      return { ok: false, reason: `it expires at ${signed.expires}, not within its role's life` };
    return { ok: true, signature: await (await this.#tufSigner(signed._type, tenantId)).sign(signed) };
  }

  async #tufSigner(role: OnlineRole, tenantId: string): Promise<TufSigner> {
    return await tenantSigner(tufSecret(this.env[tufKeyNames[role]]), role, tenantIdShape.parse(tenantId));
  }

  /** By the key that signs now; `at`: ms since 1970, of what is signed. */
  #sign(parts: StatementParts, at: number): Promise<SignedBundle> {
    const signers = perIsolate.get(this.env) ?? new RingSigners(() => this.#ring);
    perIsolate.set(this.env, signers);
    return signers.sign(at, (signerOf) => signStatement(signerOf(slot), statement(parts)));
  }

  get #ring(): RingSignerApi & RotatingKeysApi {
    return this.env.RELEASE_RING.getByName(ringName) as unknown as RingSignerApi & RotatingKeysApi;
  }
}

export default {
  fetch: () => new Response(null, { status: 404 }),
} satisfies ExportedHandler<Env>;
