// The signer worker: holds the marketplace's release key, and countersigns releases that it has checked itself. It has no
// route of its own: the API reaches it by service binding only.

import { WorkerEntrypoint } from "cloudflare:workers";
import { base64 } from "../../shared/contract/bytes.ts";
import type { SignedBundle } from "../../shared/contract/events.ts";
import type { PublishedKey } from "../../shared/contract/http-audit.ts";
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
}

let signer: Promise<Signer> | undefined;

/** Cross-worker RPC for the API. Refusals are values; a missing key throws. */
export class SignerService extends WorkerEntrypoint<Env> implements SignerServiceApi {
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
