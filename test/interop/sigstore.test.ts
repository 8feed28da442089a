// Sigstore's own verifier (the JavaScript one that npm uses) on our bundles: the publisher's, the marketplace's over it, and
// a channel's pointer. Key-signed and without Rekor, so the thresholds for logs and timestamps are zero.

import { createPublicKey } from "node:crypto";
import { bundleFromJSON } from "@sigstore/bundle";
import { toSignedEntity, Verifier } from "@sigstore/verify";
import { describe, expect, test } from "vitest";
import { base64, base64Bytes } from "../../shared/contract/bytes.ts";
import type { SignedBundle } from "../../shared/contract/events.ts";
import { signStatement, statementPayloadType } from "../../shared/signing/bundle.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { checkPublisherBundle, countersignature, pointerStatement } from "../../shared/signing/release.ts";
import { statement } from "../../shared/signing/statement.ts";
import { manifestOf, newSigner, packageOf, signRelease } from "../support/publisher.ts";

/** Throws what the stock verifier does not accept; it trusts `signer` alone, under the hint that the bundle gives. */
function verify(bundle: unknown, signer: Signer): void {
  const publicKey = createPublicKey({ key: Buffer.from(signer.spki), format: "der", type: "spki" });
  const verifier = new Verifier(
    {
      certificateAuthorities: [],
      timestampAuthorities: [],
      tlogs: [],
      ctlogs: [],
      publicKey: (hint) => {
        if (hint !== signer.kid) throw new Error(`no key ${hint}`);
        return { publicKey, validFor: () => true };
      },
    },
    { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 },
  );
  verifier.verify(toSignedEntity(bundleFromJSON(bundle)));
}

/** Publisher's, marketplace's and pointer, each with who signed it. */
async function bundles(): Promise<(readonly [what: string, bundle: SignedBundle, signer: Signer])[]> {
  const [publisher, marketplace] = await Promise.all([newSigner(), newSigner()]);
  const manifest = manifestOf("interop/sigstore", { version: "1.2.3" });
  const published = await signRelease(publisher, manifest, await packageOf(manifest));
  const checked = await checkPublisherBundle(published, base64(publisher.spki));
  if (!checked.ok) throw new Error(checked.reason);
  const { artifact_sha256 } = checked.release;
  const moved_at = "2026-01-01T00:00:00.000Z";
  const counter = await countersignature(published, checked.release, moved_at);
  const countersigned = await signStatement(marketplace, statement(counter));
  const move = { package: manifest.name, channel: manifest.channel, version: manifest.version, sequence: 1, moved_at };
  const pointer = await signStatement(marketplace, statement(pointerStatement({ ...move, artifact_sha256 })));
  return [
    ["publisher", published, publisher],
    ["marketplace", countersigned, marketplace],
    ["pointer", pointer, marketplace],
  ];
}

describe("Sigstore's verifier", () => {
  test("accepts the bundles of a release, and none by another key, with another payload or another signature", async () => {
    for (const [what, bundle, signer] of await bundles()) {
      expect(() => verify(bundle, signer), what).not.toThrow();
      const stranger = await newSigner();
      expect(() => verify(bundle, { ...stranger, kid: signer.kid }), what).toThrow("signature verification failed");
      const payload = base64Bytes(bundle.dsseEnvelope.payload);
      payload[20] = payload[20]! ^ 1;
      const bent = { ...bundle, dsseEnvelope: { ...bundle.dsseEnvelope, payload: base64(payload) } };
      expect(() => verify(bent, signer), what).toThrow("signature verification failed");
      const retyped = { ...bundle, dsseEnvelope: { ...bundle.dsseEnvelope, payloadType: "text/plain" } };
      expect(() => verify(retyped, signer), what).toThrow("signature verification failed");
      const sig = base64Bytes(bundle.dsseEnvelope.signatures[0]!.sig);
      sig[10] = sig[10]! ^ 1;
      const resigned = {
        ...bundle,
        dsseEnvelope: { ...bundle.dsseEnvelope, signatures: [{ keyid: signer.kid, sig: base64(sig) }] },
      };
      expect(() => verify(resigned, signer), what).toThrow("signature verification failed");
    }
  });

  test("reads from a bundle the very statement that we signed", async () => {
    for (const [, bundle] of await bundles()) {
      const read = bundleFromJSON(bundle);
      if (read.content.$case !== "dsseEnvelope") throw new Error("no DSSE envelope");
      expect(new Uint8Array(read.content.dsseEnvelope.payload)).toEqual(base64Bytes(bundle.dsseEnvelope.payload));
      expect(read.content.dsseEnvelope.payloadType).toBe(statementPayloadType);
    }
  });
});
