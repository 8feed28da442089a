// Keys, encodings and bundles: known answers, and what must be refused.

import { createPublicKey, verify as nodeVerify } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { sampledPlaces } from "../../test/support/sampled.ts";
import { base64, base64Bytes, hex, hexBytes, sha256Hex, utf8 } from "../contract/bytes.ts";
import { canonicalJson, type SignedBundle } from "../contract/events.ts";
import { preAuthEncoding, signStatement, statementPayloadType, verifyBundle } from "./bundle.ts";
import { derFromP1363, p1363FromDer } from "./ecdsa-der.ts";
import { importSigner, importVerifyKey, verifySignature, type Signer } from "./keys.ts";
import { keyFor, readRetiredKeys } from "./published.ts";
import { statement, type Statement } from "./statement.ts";

const jwkOf = async (algorithm: "P-256" | "Ed25519"): Promise<Record<string, unknown>> => {
  const parameters = algorithm === "P-256" ? { name: "ECDSA", namedCurve: "P-256" } : { name: "Ed25519" };
  const pair = (await crypto.subtle.generateKey(parameters, true, ["sign", "verify"])) as CryptoKeyPair;
  return { ...(await crypto.subtle.exportKey("jwk", pair.privateKey)) };
};

const claim: Statement = statement({
  subject: [{ name: "exe_1/output", digest: { sha256: "ab".repeat(32) } }],
  predicateType: "https://maestro-conductor.dev/attestations/test/v1",
  predicate: { outcome: "succeeded", units: 3 },
});

let signer: Signer;
let key: CryptoKey;
let bundle: SignedBundle;
beforeAll(async () => {
  signer = await importSigner(JSON.stringify(await jwkOf("P-256")), "P-256");
  key = (await importVerifyKey(signer.spki, "P-256"))!;
  bundle = await signStatement(signer, claim);
});
const keyOf = (kid: string): CryptoKey | null => (kid === signer.kid ? key : null);
type Envelope = SignedBundle["dsseEnvelope"];
const withEnvelope = (change: Partial<Envelope>): SignedBundle => ({
  ...bundle,
  dsseEnvelope: { ...bundle.dsseEnvelope, ...change },
});

describe("ECDSA encodings", () => {
  test("go from P1363 to DER and back, whatever the leading bytes", () => {
    const scalars = [
      "00".repeat(31) + "01",
      "7f" + "00".repeat(31),
      "80" + "00".repeat(31),
      "ff".repeat(32),
      "00" + "80".repeat(31),
    ];
    for (const r of scalars) {
      for (const s of scalars) expect(hex(p1363FromDer(derFromP1363(hexBytes(r + s)))!)).toBe(r + s);
    }
    expect(hex(derFromP1363(hexBytes(`${"00".repeat(31)}0180${"00".repeat(31)}`)))).toBe(
      `302602010102210080${"00".repeat(31)}`,
    );
    expect(() => derFromP1363(new Uint8Array(63))).toThrow("64 bytes");
  });

  test.each([
    ["nothing", ""],
    ["a long length", "308106020101020101"],
    ["a rest behind the sequence", "300602010102010100"],
    ["a rest inside of the sequence", "30080201010201010000"],
    ["a negative integer", "3006020181020101"],
    ["a spare leading zero", "300702020001020101"],
    ["an empty integer", "30050200020101ff"],
    ["another tag", "3006030101020101"],
    ["33 bytes without a leading zero", `30260221${"01".repeat(33)}020101`],
    ["a third integer", "3009020101020101020101"],
    ["cut short", "3006020101"],
  ])("refuse DER with %s", (_, text) => {
    expect(p1363FromDer(hexBytes(text))).toBeNull();
  });
});

describe("keys", () => {
  test("sign so that another implementation verifies", async () => {
    const message = utf8("a message");
    const spki = createPublicKey({ key: Buffer.from(signer.spki), format: "der", type: "spki" });
    expect(nodeVerify("sha256", message, spki, await signer.sign(message))).toBe(true);
    const ed = await importSigner(JSON.stringify(await jwkOf("Ed25519")), "Ed25519");
    const edSpki = createPublicKey({ key: Buffer.from(ed.spki), format: "der", type: "spki" });
    expect(nodeVerify(null, message, edSpki, await ed.sign(message))).toBe(true);
    expect(ed.kid).toBe(await sha256Hex(ed.spki));
  });

  test("RFC 8032, test 2: Ed25519 makes exactly this signature", async () => {
    const url = (text: string): string => Buffer.from(text, "hex").toString("base64url");
    const jwk = {
      kty: "OKP",
      crv: "Ed25519",
      d: url("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
      x: url("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"),
    };
    const known = await importSigner(JSON.stringify(jwk), "Ed25519");
    expect(hex(await known.sign(hexBytes("72")))).toBe(
      "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
  });

  test("of another kind, public, broken or mixed from two are refused without telling the key", async () => {
    const [one, two, ed] = [await jwkOf("P-256"), await jwkOf("P-256"), await jwkOf("Ed25519")];
    const { d: _, ...publicOnly } = one;
    for (const value of [ed, publicOnly, { ...one, d: two["d"] }, { ...one, crv: "P-384" }, []]) {
      const refusal = importSigner(JSON.stringify(value), "P-256");
      await expect(refusal).rejects.toThrow(TypeError);
      await expect(refusal).rejects.not.toThrow(String(one["d"]));
    }
    await expect(importSigner("not json", "P-256")).rejects.toThrow("not JSON");
    await expect(importSigner(JSON.stringify({ ...ed, x: (await jwkOf("Ed25519"))["x"] }), "Ed25519")).rejects.toThrow(
      TypeError,
    );
  });

  test("a public key is exactly its SPKI, and a point of its curve", async () => {
    expect(await importVerifyKey(signer.spki, "Ed25519")).toBeNull();
    expect(await importVerifyKey(new Uint8Array([...signer.spki, 0]), "P-256")).toBeNull();
    const off = new Uint8Array(signer.spki);
    off[off.length - 1]! ^= 1;
    expect(await importVerifyKey(off, "P-256")).toBeNull();
  });

  test("a published key counts for its use and under its own digest only", async () => {
    const entry = {
      kid: signer.kid,
      use: "manifest" as const,
      algorithm: "ECDSA-P256-SHA256" as const,
      spki: base64(signer.spki),
      not_before: "2026-01-01T00:00:00.000Z",
    };
    const set = { origin_prefix: "maestro.test/log", keys: [entry] };
    expect(await keyFor(set, "manifest")(signer.kid)).not.toBeNull();
    expect(await keyFor(set, "receipt")(signer.kid)).toBeNull();
    const kid = "0".repeat(64);
    expect(await keyFor({ ...set, keys: [{ ...entry, kid }] }, "manifest")(kid)).toBeNull();
  });
});

test("a list of retired keys is taken whole: each has its end and its own kid, or none is published", async () => {
  const entry = {
    kid: signer.kid,
    use: "manifest",
    algorithm: "ECDSA-P256-SHA256",
    spki: base64(signer.spki),
    not_before: "2026-01-01T00:00:00.000Z",
    not_after: "2026-02-01T00:00:00.000Z",
  };
  const read = (...entries: object[]): Promise<unknown> => readRetiredKeys(JSON.stringify(entries));
  expect(await read()).toEqual([]);
  expect(await read(entry)).toEqual([entry]);
  await expect(read(entry, { ...entry, not_after: undefined })).rejects.toThrow("not_after");
  await expect(read(entry, { ...entry, kid: "0".repeat(64) })).rejects.toThrow("another kid");
  await expect(readRetiredKeys("{}")).rejects.toThrow("expected array");
});

describe("bundles", () => {
  test("DSSE's own example of the pre-authentication encoding", () => {
    expect(Buffer.from(preAuthEncoding("http://example.com/HelloWorld", utf8("hello world"))).toString()).toBe(
      "DSSEv1 29 http://example.com/HelloWorld 11 hello world",
    );
  });

  test("verify, and give back what was signed", async () => {
    expect(await verifyBundle(JSON.parse(JSON.stringify(bundle)), keyOf)).toEqual({
      ok: true,
      kid: signer.kid,
      statement: claim,
    });
  });

  test("the signature is over the payload's bytes, for any other tool", async () => {
    const { payload, signatures } = bundle.dsseEnvelope;
    const spki = createPublicKey({ key: Buffer.from(signer.spki), format: "der", type: "spki" });
    const signed = preAuthEncoding(statementPayloadType, base64Bytes(payload));
    expect(nodeVerify("sha256", signed, spki, Buffer.from(signatures[0]!.sig, "base64"))).toBe(true);
  });

  test("a flipped bit anywhere in payload or signature is refused", async () => {
    const { payload, signatures } = bundle.dsseEnvelope;
    const flipped = (text: string, bit: number): string => {
      const bytes = base64Bytes(text);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      return base64(bytes);
    };
    for (const bit of sampledPlaces(base64Bytes(payload).length * 8, 41)) {
      expect((await verifyBundle(withEnvelope({ payload: flipped(payload, bit) }), keyOf)).ok).toBe(false);
    }
    const [signature] = signatures;
    for (const bit of sampledPlaces(base64Bytes(signature!.sig).length * 8, 23)) {
      const sig = flipped(signature!.sig, bit);
      expect((await verifyBundle(withEnvelope({ signatures: [{ ...signature!, sig }] }), keyOf)).ok).toBe(false);
    }
  });

  test("each other reading is refused with its reason", async () => {
    const { payload, signatures } = bundle.dsseEnvelope;
    const signature = signatures[0]!;
    const refusals: [unknown, RegExp][] = [
      [null, /shape/],
      [{ ...bundle, extra: 1 }, /shape/],
      [JSON.parse(JSON.stringify(bundle).replace("{", '{"__proto__":{},')), /shape/],
      [{ ...bundle, mediaType: "application/vnd.dev.sigstore.bundle+json;version=0.2" }, /shape/],
      [withEnvelope({ payloadType: "text/plain" }), /payload type/],
      [withEnvelope({ signatures: [] }), /shape/],
      [withEnvelope({ signatures: [signature, signature] }), /one signature/],
      [withEnvelope({ signatures: [{ ...signature, keyid: "0".repeat(64) }] }), /different keys/],
      [withEnvelope({ payload: `${payload}\n` }), /base64/],
      [withEnvelope({ payload: payload.slice(0, -4) }), /signature does not verify|base64/],
      [{ ...bundle, verificationMaterial: { publicKey: { hint: "x" } } }, /different keys/],
    ];
    for (const [value, reason] of refusals) {
      expect(await verifyBundle(value, keyOf)).toEqual({ ok: false, reason: expect.stringMatching(reason) });
    }
    expect(await verifyBundle(bundle, () => null)).toEqual({ ok: false, reason: expect.stringMatching(/not known/) });
    const other = await importSigner(JSON.stringify(await jwkOf("P-256")), "P-256");
    const otherKey = (await importVerifyKey(other.spki, "P-256"))!;
    expect(await verifyBundle(bundle, () => otherKey)).toEqual({
      ok: false,
      reason: expect.stringMatching(/does not verify/),
    });
    const ed = await importSigner(JSON.stringify(await jwkOf("Ed25519")), "Ed25519");
    const edKey = (await importVerifyKey(ed.spki, "Ed25519"))!;
    expect(await verifyBundle(bundle, () => edKey)).toEqual({
      ok: false,
      reason: expect.stringMatching(/not for statements/),
    });
    expect(await verifySignature(edKey, new Uint8Array(64), utf8("x"))).toBe(false);
    await expect(signStatement(ed, claim)).rejects.toThrow("P-256");
  });

  test("a signed payload with a member twice, unknown members, or no statement is refused: it must have one meaning", async () => {
    const sign = async (text: string): Promise<SignedBundle> => {
      const payload = utf8(text);
      const sig = base64(await signer.sign(preAuthEncoding(statementPayloadType, payload)));
      return withEnvelope({ payload: base64(payload), signatures: [{ sig, keyid: signer.kid }] });
    };
    const text = canonicalJson(claim);
    expect((await verifyBundle(await sign(text), keyOf)).ok).toBe(true);
    const refusals: [string, RegExp][] = [
      [`{"_type":"x",${text.slice(1)}`, /canonical/],
      [` ${text}`, /canonical/],
      [canonicalJson({ ...claim, more: 1 }), /statement/],
      [canonicalJson({ ...claim, subject: [] }), /statement/],
      [canonicalJson({ ...claim, _type: "https://in-toto.io/Statement/v0.1" }), /statement/],
      ["not json", /JSON/],
      // Schemas, strict ones too, pass over this member, which is signed all the same.
      [text.replace('"predicate":{', '"predicate":{"__proto__":{"a":1},'), /statement/],
      [text.replace('"predicate":', '"__proto__":{},"predicate":'), /canonical|statement/],
      [text.replace('"outcome":"succeeded"', '"outcome":"\\ud800"'), /canonical/],
    ];
    for (const [signed, reason] of refusals) {
      expect(await verifyBundle(await sign(signed), keyOf)).toEqual({
        ok: false,
        reason: expect.stringMatching(reason),
      });
    }
  });
});
