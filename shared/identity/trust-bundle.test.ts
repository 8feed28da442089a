// Bundle documents of our own make, good and broken; test/interop has go-spiffe's.

import { beforeAll, expect, test } from "vitest";
import { base64, concat, hexBytes } from "../contract/bytes.ts";
import { basicConstraints, keyUsage } from "./issue/certificate-writer.ts";
import {
  authorityEntry,
  bundleDocument,
  jwtEntry,
  newAuthority,
  newKeys,
  type Authority,
  type KeyPair,
} from "../../test/support/svid.ts";
import { parseTrustDomain, type TrustDomain } from "./spiffe-id.ts";
import { bundleBytesMax, parseTrustBundle } from "./trust-bundle.ts";

let root: Authority;
let other: Authority;
let jwtKeys: KeyPair;
let trustDomain: TrustDomain;
beforeAll(async () => {
  root = await newAuthority("td.example");
  other = await newAuthority("td.example", { type: "Ed25519", name: "other" });
  jwtKeys = await newKeys("P-384");
  const parsed = parseTrustDomain("td.example");
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  trustDomain = parsed.value;
});

async function outcomeOf(document: string): Promise<string> {
  const parsed = await parseTrustBundle(trustDomain, document);
  if (!parsed.ok) return parsed.refusal.section;
  return `${parsed.value.authorities.length} X.509, ${parsed.value.jwtKeys.size} JWT`;
}

test("authorities, JWT keys by kid, sequence and hint are read; the digest is the document's", async () => {
  const document = bundleDocument([authorityEntry(root), authorityEntry(other), jwtEntry(jwtKeys, "k1")], {
    spiffe_sequence: 12,
    spiffe_refresh_hint: 60,
  });
  const parsed = await parseTrustBundle(trustDomain, document);
  expect(parsed).toMatchObject({
    ok: true,
    value: {
      trustDomain: "td.example",
      sequence: 12,
      refreshHint: 60,
      digest: expect.stringMatching(/^[0-9a-f]{64}$/),
    },
  });
  expect(parsed.ok && parsed.value.authorities.map(({ der }) => base64(der))).toEqual([
    base64(root.der),
    base64(other.der),
  ]);
  const { kty, crv, x, y } = jwtKeys.jwk;
  expect(parsed.ok && [...parsed.value.jwtKeys]).toEqual([["k1", { kty, crv, x, y }]]);
});

test("an empty list of keys is a bundle, and revokes all; no list is none (4.1.3)", async () => {
  expect(await outcomeOf(`{"keys":[]}`)).toBe("0 X.509, 0 JWT");
  for (const document of [`{}`, `{"keys":null}`, `{"keys":{}}`, `{"keys":[1]}`]) {
    expect(await outcomeOf(document), document).toBe("SPIFFE Trust Domain and Bundle 4.1.3");
  }
});

test("unknown kinds and uses are passed over, whatever else they say (4.2.1, 4.2.2)", async () => {
  const good = authorityEntry(root);
  const passedOver = [
    { ...good, use: "wit-svid" },
    { ...good, use: "X509-SVID" },
    { ...good, use: undefined },
    { kty: "oct", use: "jwt-svid", kid: "secret", k: "AAAA" },
    { kty: "AKP", use: "x509-svid", x5c: ["no"] },
    { kty: "constructor", use: "jwt-svid", kid: "k" },
    jwtEntry(other.keys, "no algorithm of a JWT-SVID uses Ed25519"),
  ];
  expect(await outcomeOf(bundleDocument([good, ...passedOver]))).toBe("1 X.509, 0 JWT");
});

test("a member twice refuses the document, at any depth and in any spelling", async () => {
  for (const document of [
    `{"keys":[],"keys":[]}`,
    `{"keys":[{"kty":"EC","kty":"EC"}]}`,
    `{"keys":[],"a":{"b":1,"\\u0062":2}}`,
    `{"spiffe_sequence":1,"keys":[],"spiffe_sequence":2}`,
  ]) {
    expect(await outcomeOf(document), document).toBe("SPIFFE Trust Domain and Bundle 4.1");
  }
  expect(await outcomeOf(`{"keys":[],"a":[{"b":1},{"b":2}],"b":{"a":"keys"}}`)).toBe("0 X.509, 0 JWT");
});

test("what is not JSON, too long or too deep is no document", async () => {
  expect(await outcomeOf("")).toBe("SPIFFE Trust Domain and Bundle 4.1");
  expect(await outcomeOf(`[]`)).toBe("SPIFFE Trust Domain and Bundle 4.1");
  expect(await outcomeOf(`{"keys":[],}`)).toBe("SPIFFE Trust Domain and Bundle 4.1");
  expect(await outcomeOf(`{"keys":[]}`.padEnd(bundleBytesMax))).toBe("0 X.509, 0 JWT");
  expect(await outcomeOf(`{"keys":[]}`.padEnd(bundleBytesMax + 1))).toBe("bounds");
  expect(await outcomeOf(`{"keys":[],"a":${"[".repeat(15)}${"]".repeat(15)}}`)).toBe("0 X.509, 0 JWT");
  expect(await outcomeOf(`{"keys":[],"a":${"[".repeat(16)}${"]".repeat(16)}}`)).toBe("bounds");
  expect(await outcomeOf(JSON.stringify({ keys: Array.from({ length: 257 }, () => ({ kty: "x" })) }))).toBe("bounds");
});

test("sequence and hint are whole numbers, and written as such (4.1.1, 4.1.2)", async () => {
  for (const value of ["-1", "1.0", "1e3", "0.5", `"1"`, "null", "true", "[1]"]) {
    expect(await outcomeOf(`{"keys":[],"spiffe_sequence":${value}}`), value).toBe(
      "SPIFFE Trust Domain and Bundle 4.1.1",
    );
    expect(await outcomeOf(`{"keys":[],"spiffe_refresh_hint":${value}}`), value).toBe(
      "SPIFFE Trust Domain and Bundle 4.1.2",
    );
  }
  // Of the document itself: a member of the same name further in says nothing.
  for (const inner of [
    `{"keys":[],"spiffe_sequence":1.0,"a":{"spiffe_sequence":1}}`,
    `{"a":[{"spiffe_sequence":1}],"keys":[],"spiffe_sequence":1e0,"b":{"spiffe_sequence":1}}`,
  ]) {
    expect(await outcomeOf(inner), inner).toBe("SPIFFE Trust Domain and Bundle 4.1.1");
  }
  expect(await outcomeOf(`{"keys":[],"spiffe_sequence":9007199254740991}`)).toBe("0 X.509, 0 JWT");
  expect(await outcomeOf(`{"keys":[],"spiffe_sequence":9007199254740992}`)).toBe("bounds");
});

test("a key for X.509-SVIDs has one certificate, which is its own, and no kid (X509-SVID 6.1)", async () => {
  const good = authorityEntry(root) as Record<string, unknown>;
  const x5c = good["x5c"] as string[];
  const cases: [Record<string, unknown>, string][] = [
    [{ ...good, kid: "k" }, "X509-SVID 6.1"],
    [{ ...good, x5c: undefined }, "X509-SVID 6.1"],
    [{ ...good, x5c: [] }, "X509-SVID 6.1"],
    [{ ...good, x5c: [...x5c, ...x5c] }, "X509-SVID 6.1"],
    [{ ...good, x5c: [1] }, "RFC 7517 4"],
    [{ ...good, kty: undefined }, "SPIFFE Trust Domain and Bundle 4.2.1"],
    [{ ...good, use: 1 }, "RFC 7517 4"],
    [{ ...good, k: "AAAA" }, "RFC 7517 9.2"],
    [{ ...good, x5c: [`${x5c[0]}\n`] }, "RFC 7517 4.7"],
    [{ ...good, x5c: [base64(root.der.subarray(0, -1))] }, "X.690 8.1.3"],
    [{ ...authorityEntry(other), x5c }, "RFC 7517 4.7"],
    [{ ...good, "x5t#S256": "A".repeat(43) }, "RFC 7517 4.9"],
    [{ ...good, d: "AAAA" }, "RFC 7517 9.2"],
    [{ ...good, x: `${String(good["x"])}=` }, "RFC 7518 6"],
    [{ ...good, crv: "P-384" }, "RFC 7518 6.2.1.2"],
    [{ ...good, crv: "secp256k1" }, "RFC 7518 6.2.1.1"],
    [{ ...good, crv: "toString" }, "RFC 7518 6.2.1.1"],
  ];
  for (const [key, section] of cases) expect(await outcomeOf(bundleDocument([key])), JSON.stringify(key)).toBe(section);
});

test("an authority is a signing certificate (X509-SVID 3.2, 4.1, 4.3)", async () => {
  const leaf = await newAuthority("td.example", { extensions: [basicConstraints(false), keyUsage([0])] });
  const idle = await newAuthority("td.example", { extensions: [basicConstraints(true), keyUsage([0])] });
  expect(await outcomeOf(bundleDocument([authorityEntry(leaf)]))).toBe("X509-SVID 4.1");
  expect(await outcomeOf(bundleDocument([authorityEntry(idle)]))).toBe("X509-SVID 4.3");
  // A point that is on no curve: 65 bytes of 04.
  const point = new Uint8Array(32).fill(4);
  const coordinate = Buffer.from(point).toString("base64url");
  const spki = concat(root.keys.spki.subarray(0, -64), point, point);
  const jwk = { ...root.keys.jwk, x: coordinate, y: coordinate };
  const keyless = await newAuthority("td.example", { keys: { ...root.keys, spki, jwk } });
  expect(await outcomeOf(bundleDocument([authorityEntry(keyless)]))).toBe("RFC 5480 2.2");
});

test("a key for JWT-SVIDs has a kid of its own, and a key that is one (JWT-SVID 2.2)", async () => {
  const good = jwtEntry(jwtKeys, "k1") as Record<string, unknown>;
  const rsa = (n: string, e = "AQAB"): object => ({ kty: "RSA", use: "jwt-svid", kid: "k", n, e });
  const ones = (bytes: number): string => Buffer.alloc(bytes, 0xff).toString("base64url");
  const cases: [object[], string][] = [
    [[{ ...good, kid: undefined }], "JWT-SVID 2.2"],
    [[{ ...good, kid: "" }], "JWT-SVID 2.2"],
    [[{ ...good, kid: 1 }], "RFC 7517 4"],
    [[{ ...good, x5c: [] }], "SPIFFE Trust Domain and Bundle 4.2"],
    [[good, { ...jwtEntry(root.keys, "k1") }], "JWT-SVID 2.2"],
    [[{ ...good, y: good["x"] }], "RFC 7518 6.2"],
    [[rsa(ones(128))], "RFC 3279 2.3.1"],
    [[rsa(ones(256), "Aw")], "RFC 3279 2.3.1"],
    [[rsa(ones(256), "AAEAAQ")], "RFC 7518 2"],
    [[rsa(Buffer.from(hexBytes("00".repeat(256))).toString("base64url"))], "RFC 3279 2.3.1"],
    [[rsa(ones(256))], "0 X.509, 1 JWT"],
    [[good, jwtEntry(root.keys, "k2")], "0 X.509, 2 JWT"],
  ];
  for (const [keys, section] of cases)
    expect(await outcomeOf(bundleDocument(keys)), JSON.stringify(keys)).toBe(section);
});
