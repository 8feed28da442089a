// The signer worker: holds the marketplace's release key, and countersigns releases that it has checked itself. It has no
// route of its own: the API reaches it by service binding only.

import { WorkerEntrypoint } from "cloudflare:workers";
import { base64 } from "../../shared/contract/bytes.ts";
import type { SignedBundle } from "../../shared/contract/events.ts";
import type { PublishedKey } from "../../shared/contract/http-audit.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { importSigner, keyNotBefore, type Signer } from "../../shared/signing/keys.ts";
import { checkPublisherBundle, countersignature } from "../../shared/signing/release.ts";
import type { Countersignature, SignerServiceApi } from "../../shared/signing/service.ts";
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
