// SPIFFE's vectors, read where they stand (MAESTRO_VECTORS, else ../shared/vectors), and go-spiffe both ways: what Go makes holds
// here, what we make holds there.

import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { base64Bytes, hexBytes } from "../../shared/contract/bytes.ts";
import { certificateOf } from "../../shared/identity/certificate.ts";
import { isSignedBy, keyOf } from "../../shared/identity/certificate-key.ts";
import { verifyJwtSvid } from "../../shared/identity/jwt-svid.ts";
import { certificatesInPem } from "../../shared/identity/pem.ts";
import { checkedNow } from "../../shared/identity/refusal.ts";
import { parseSpiffeId, parseTrustDomain, type TrustDomain } from "../../shared/identity/spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "../../shared/identity/trust-bundle.ts";
import { verifyX509Svid } from "../../shared/identity/x509-svid.ts";
import { ask, buildGoSpiffe, type GoSpiffe } from "../support/go-spiffe.ts";
import {
  authorityEntry,
  bundleDocument,
  jwtAlgorithms,
  jwtEntry,
  jwtOf,
  madeAtMs,
  newAuthority,
  newKeys,
  newLeaf,
  type KeyType,
} from "../support/svid.ts";
import { tool } from "../support/tools.ts";

const vectors = process.env["MAESTRO_VECTORS"] ?? join(import.meta.dirname, "../../../shared/vectors");
const isHere = existsSync(join(vectors, "spiffe"));
const read = (...path: string[]): string => readFileSync(join(vectors, ...path), "utf8");

function domain(name: string): TrustDomain {
  const parsed = parseTrustDomain(name);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}

async function bundleOf(name: string, document: string): Promise<TrustBundle> {
  const parsed = await parseTrustBundle(domain(name), document);
  if (!parsed.ok) throw new Error(`${parsed.refusal.section}: ${parsed.refusal.reason}`);
  return parsed.value;
}

interface Ids {
  readonly trustDomainChars: string;
  readonly pathChars: string;
  readonly accept: readonly (readonly [string, string, string])[];
  readonly reject: readonly string[];
}

describe.skipIf(!isHere)("SPIFFE's vectors", () => {
  test("every ID is taken or refused as they say, and split where they say; so is every character in either part", () => {
    const ids = JSON.parse(read("spiffe", "ids.json")) as Ids;
    for (const [text, trustDomain, path] of ids.accept) {
      expect(parseSpiffeId(text), text).toEqual({ ok: true, value: { uri: text, trustDomain, path } });
    }
    for (const text of ids.reject) expect(parseSpiffeId(text).ok, text).toBe(false);
    for (let code = 0; code < 256; code += 1) {
      const letter = String.fromCharCode(code);
      if (letter === "/") continue;
      const taken = [
        parseSpiffeId(`spiffe://trustdomain${letter}/path`).ok,
        parseSpiffeId(`spiffe://trustdomain/path${letter}`).ok,
      ];
      expect(taken, `code point ${code}`).toEqual([
        ids.trustDomainChars.includes(letter),
        ids.pathChars.includes(letter),
      ]);
    }
  });

  const certificates = (name: string) => certificatesInPem(read("spiffe", "x509svid", name));

  test("of the X.509-SVIDs the good ones get as far as their missing authority, and each wrong one has its own section", async () => {
    const empty = await bundleOf("example.org", `{"keys":[]}`);
    const sections: Record<string, string> = {};
    for (const name of [
      "good-leaf-and-intermediate",
      "good-leaf-only",
      "wrong-intermediate-no-ca",
      "wrong-intermediate-no-key-cert-sign",
      "wrong-leaf-ca-true",
      "wrong-leaf-cert-sign",
      "wrong-leaf-crl-sign",
      "wrong-leaf-empty-id",
      "wrong-leaf-no-digital-signature",
    ]) {
      const chain = certificates(`${name}.pem`);
      if (!chain.ok) throw new Error(`${name}: ${chain.refusal.reason}`);
      const verified = await verifyX509Svid(chain.value, empty, Date.UTC(2020, 2, 24, 14, 30));
      sections[name] = verified.ok ? "taken" : verified.refusal.section;
    }
    expect(sections).toEqual({
      "good-leaf-and-intermediate": "X509-SVID 5.1",
      "good-leaf-only": "RFC 5280 4.1.2.5", // of a week later
      "wrong-intermediate-no-ca": "X509-SVID 4.1",
      "wrong-intermediate-no-key-cert-sign": "X509-SVID 4.3",
      "wrong-leaf-ca-true": "X509-SVID 4.1",
      "wrong-leaf-cert-sign": "X509-SVID 4.3",
      "wrong-leaf-crl-sign": "X509-SVID 4.3",
      "wrong-leaf-empty-id": "X509-SVID 2",
      "wrong-leaf-no-digital-signature": "X509-SVID 4.3",
    });
    const corrupt = certificates("corrupt-cert.pem");
    expect(certificates("not-pem").ok).toBe(false);
    expect(corrupt.ok && checkedNow(() => certificateOf(corrupt.value[0]!)).ok).toBe(false);
  });

  test("the good chain holds against the intermediate's own key as an authority, in its time and not after it", async () => {
    const chain = certificates("good-leaf-and-intermediate.pem");
    if (!chain.ok) throw new Error(chain.refusal.reason);
    const [leaf, authority] = chain.value;
    const jwk = await crypto.subtle.exportKey(
      "jwk",
      await crypto.subtle.importKey("spki", spkiIn(authority!), { name: "ECDSA", namedCurve: "P-384" }, true, [
        "verify",
      ]),
    );
    const { kty, crv, x, y } = jwk;
    const entry = { use: "x509-svid", kty, crv, x, y, x5c: [Buffer.from(authority!).toString("base64")] };
    const bundle = await bundleOf("example.org", bundleDocument([entry]));
    const at = Date.UTC(2020, 2, 24, 14, 30);
    expect(await verifyX509Svid([leaf!], bundle, at)).toMatchObject({
      ok: true,
      value: { id: { uri: "spiffe://example.org/workload-1" }, leafUntilMs: Date.UTC(2020, 2, 24, 15, 7, 40) },
    });
    expect((await verifyX509Svid([leaf!], bundle, at + 3_600_000)).ok).toBe(false);
  });

  test("every bundle is taken or refused as its name says; a document without `keys` is none", async () => {
    const seen: Record<string, string> = {};
    for (const [folder, name] of [
      ["spiffebundle", "spiffebundle_valid_1"],
      ["spiffebundle", "spiffebundle_valid_2"],
      ["spiffebundle", "spiffebundle_valid_with_wit"],
      ["spiffebundle", "spiffebundle_no_keys"],
      ["spiffebundle", "spiffebundle_missing_kid"],
      ["spiffebundle", "spiffebundle_multiple_x509"],
      ["jwtbundle", "jwks_valid_1"],
      ["jwtbundle", "jwks_valid_2"],
      ["jwtbundle", "jwks_missing_kid"],
    ] as const) {
      const document = JSON.parse(read("spiffe", folder, `${name}.json`)) as { keys?: object[] };
      // Those of JWT bundles are plain JWK sets: in a SPIFFE bundle each key has its use.
      if (folder === "jwtbundle") document.keys = document.keys?.map((key) => ({ ...key, use: "jwt-svid" })) ?? [];
      const parsed = await parseTrustBundle(domain("domain.test"), JSON.stringify(document));
      seen[name] = parsed.ok
        ? `${parsed.value.authorities.length} X.509, ${parsed.value.jwtKeys.size} JWT`
        : parsed.refusal.section;
    }
    expect(seen).toEqual({
      spiffebundle_valid_1: "1 X.509, 1 JWT",
      spiffebundle_valid_2: "1 X.509, 6 JWT",
      spiffebundle_valid_with_wit: "1 X.509, 2 JWT",
      spiffebundle_no_keys: "SPIFFE Trust Domain and Bundle 4.1.3",
      spiffebundle_missing_kid: "JWT-SVID 2.2",
      spiffebundle_multiple_x509: "X509-SVID 6.1",
      jwks_valid_1: "0 X.509, 1 JWT",
      jwks_valid_2: "0 X.509, 2 JWT",
      jwks_missing_kid: "JWT-SVID 2.2",
    });
  });

  test("files of certificates are read as PEM where they are; those in them are of version 1, and no authorities", () => {
    const seen = ["cert.pem", "certs.pem", "corrupted.pem", "empty.pem", "not-pem.pem"].map((name) => {
      const parsed = certificatesInPem(read("spiffe", "x509bundle", name));
      if (!parsed.ok) return parsed.refusal.section;
      return parsed.value.map((der) => {
        const certificate = checkedNow(() => certificateOf(der));
        return certificate.ok ? "taken" : certificate.refusal.section;
      });
    });
    const version = "RFC 5280 4.1.2.1";
    expect(seen).toEqual([[version], [version, version], [version], "RFC 7468 2", "RFC 7468 2"]);
  });

  test("Wycheproof's P-256 and Ed25519 signatures are taken or refused on our way through a certificate's signature", async () => {
    interface Suite {
      readonly testGroups: readonly {
        readonly publicKeyDer: string;
        readonly tests: readonly {
          readonly tcId: number;
          readonly msg: string;
          readonly sig: string;
          readonly result: string;
        }[];
      }[];
    }
    const wrong: string[] = [];
    let count = 0;
    for (const [file, algorithm] of [
      ["ecdsa_secp256r1_sha256_test.json", { name: "ECDSA", hash: "SHA-256" }],
      ["ed25519_test.json", { name: "Ed25519", hash: null }],
    ] as const) {
      for (const { publicKeyDer, tests } of (JSON.parse(read("wycheproof", file)) as Suite).testGroups) {
        const spki = hexBytes(publicKeyDer);
        for (const { tcId, msg, sig, result } of tests) {
          count += 1;
          const signed = { algorithm, bytes: hexBytes(msg), signature: hexBytes(sig) };
          if ((await isSignedBy(spki, keyOf(spki), signed)) !== (result === "valid")) wrong.push(`${file} ${tcId}`);
        }
      }
    }
    expect([count, wrong]).toEqual([635, []]);
  });
});

const go = tool("go");

describe.skipIf(go === null)("go-spiffe", () => {
  let goSpiffe: GoSpiffe;
  beforeAll(() => {
    goSpiffe = buildGoSpiffe(go!);
  }, 300_000);
  afterAll(() => goSpiffe.remove());

  test("what Go makes with each kind of key holds here: bundle, leaf under an intermediate, and token", async () => {
    const now = Date.now();
    const minted = goSpiffe.mint();
    for (const { name, chain, bundle: document, token } of minted) {
      const bundle = await bundleOf("go.example", document);
      expect([bundle.sequence, bundle.refreshHint], name).toEqual([7, 60]);
      const verified = await verifyX509Svid(chain.map(base64Bytes), bundle, now);
      expect(verified, name).toMatchObject({ ok: true, value: { id: { path: "/workload" } } });
      if (token === "") continue;
      const held = await verifyJwtSvid(token, bundle, { audience: "api", now });
      expect(held, name).toMatchObject({ ok: true, value: { id: { path: "/workload" }, audience: ["api"] } });
    }
    expect(minted.length).toBe(10);
  });

  test("what we make with each kind of key holds there: bundle, leaf under an intermediate, and token", async () => {
    const seconds = Math.floor(Date.now() / 1_000);
    for (const type of [
      "P-256",
      "P-384",
      "P-521",
      "RSA-2048",
      "RSA-PSS",
      "Ed25519",
    ] as const satisfies readonly KeyType[]) {
      const root = await newAuthority("td.example", { type });
      const between = await newAuthority("td.example", { type }, root);
      const leaf = await newLeaf(between, "spiffe://td.example/workload", { type });
      const jwtKeys = await newKeys(type === "Ed25519" ? "P-256" : type);
      const document = bundleDocument([authorityEntry(root), jwtEntry(jwtKeys, "k1")], {
        spiffe_sequence: 3,
        spiffe_refresh_hint: 60,
      });
      const token = await jwtOf(
        jwtKeys,
        { alg: jwtAlgorithms[jwtKeys.type], kid: "k1", typ: "JWT" },
        { sub: "spiffe://td.example/workload", aud: ["api"], exp: seconds + 60, iat: seconds },
      );
      const chain = [leaf, between.der];
      const taken = await goSpiffe.answers([
        ask.bundle("td.example", document),
        ask.time(madeAtMs + 1_000),
        ask.chain(chain),
        ask.token("api", token),
        ask.token("other", token),
      ]);
      expect(taken, type).toEqual([true, true, true, true, false]);
      const bundle = await bundleOf("td.example", document);
      expect((await verifyX509Svid(chain, bundle, madeAtMs + 1_000)).ok, type).toBe(true);
      expect((await verifyJwtSvid(token, bundle, { audience: "api", now: seconds * 1_000 })).ok, type).toBe(true);
    }
  });
});

/** The public key of a certificate, found by Node. */
function spkiIn(der: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new X509Certificate(der).publicKey.export({ type: "spki", format: "der" }));
}
