// The signer worker: holds the marketplace's release key, and countersigns releases that it has checked itself; holds the
// secrets of the online TUF keys, and signs tenants' targets, snapshots and timestamps. It has no route of its own: the API
// reaches it by service binding only.

import { WorkerEntrypoint } from "cloudflare:workers";
import { base64 } from "../../shared/contract/bytes.ts";
import type { SignedBundle } from "../../shared/contract/events.ts";
import type { PublishedKey } from "../../shared/contract/http-audit.ts";
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
import { importSigner, keyNotBefore, type Signer } from "../../shared/signing/keys.ts";
import {
  checkPublisherBundle,
  checkRelease,
  countersignature,
  pointerStatement,
} from "../../shared/signing/release.ts";
import type { Countersignature, PointerRequest, SignerServiceApi } from "../../shared/signing/service.ts";
import { statement } from "../../shared/signing/statement.ts";

interface Env {
  /** P-256 private key as JWK text, with `not_before`; a secret. */
  readonly RELEASE_KEY: string;
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

let signer: Promise<Signer> | undefined;

/** Cross-worker RPC for the API. Refusals are values; a missing key throws. */
export class SignerService extends WorkerEntrypoint<Env> implements SignerServiceApi, TufSignerApi {
  async countersign(publisherBundle: SignedBundle, publisherSpki: string): Promise<Countersignature> {
    const checked = await checkPublisherBundle(publisherBundle, publisherSpki);
    if (!checked.ok) return checked;
    const signed = await signStatement(
      await this.#signer(),
      statement(await countersignature(publisherBundle, checked.release)),
    );
    return { ok: true, bundle: signed };
  }

  async pointer(request: PointerRequest): Promise<Countersignature> {
    const own = await this.#signer();
    const checked = await checkRelease(
      {
        publisher: request.publisher_bundle,
        marketplace: request.marketplace_bundle,
        publisherSpki: request.publisher_spki,
      },
      new Map([[own.kid, base64(own.spki)]]),
    );
    if (!checked.ok) return checked;
    const { manifest, artifact_sha256 } = checked.release;
    const { channel, sequence, moved_at } = request;
    const pointer = { package: manifest.name, channel, version: manifest.version, sequence, moved_at, artifact_sha256 };
    return { ok: true, bundle: await signStatement(own, statement(pointerStatement(pointer))) };
  }

  async keys(): Promise<PublishedKey[]> {
    const { kid, spki } = await this.#signer();
    return [
      {
        kid,
        use: "release",
        algorithm: "ECDSA-P256-SHA256",
        spki: base64(spki),
        not_before: keyNotBefore(this.env.RELEASE_KEY),
      },
    ];
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

  #signer(): Promise<Signer> {
    // A failed import is not remembered: the next call tries again.
    signer ??= importSigner(this.env.RELEASE_KEY, "P-256").catch((error: unknown) => {
      signer = undefined;
      throw error;
    });
    return signer;
  }
}

export default {
  fetch: () => new Response(null, { status: 404 }),
} satisfies ExportedHandler<Env>;
