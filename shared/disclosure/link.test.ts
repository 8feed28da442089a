// What opens a quick link: the token that was signed, within its time, for this use, and nothing else.

import { SignJWT } from "jose";
import { base64, sha256Hex } from "../contract/bytes.ts";
import type { PublishedKey, PublishedKeys } from "../contract/http-audit.ts";
import { beforeAll, expect, test } from "vitest";
import { importSigner, type Signer } from "../signing/keys.ts";
import { linkAudience, linkLifeMs, openLink, signLink, tokenLengthMax } from "./link.ts";

const now = Date.UTC(2026, 3, 13, 16, 0, 0, 500);
const claims = {
  sub: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
  jti: `grt_${"0".repeat(26)}`,
  execution_id: `exe_${"0".repeat(26)}`,
  sha256: "a".repeat(64),
  pack_version: 3 as const,
};
let pair: CryptoKeyPair;
let signer: Signer;
let foreign: CryptoKeyPair;
let published: PublishedKeys;
let kid: string;

beforeAll(async () => {
  const make = () => crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  [pair, foreign] = await Promise.all([make(), make()]);
  signer = await importSigner(JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey)), "P-256");
  const spki = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey));
  kid = await sha256Hex(spki);
  const algorithm = "ECDSA-P256-SHA256";
  const key = { kid, use: "link", algorithm, spki: base64(spki), not_before: new Date(now).toISOString() } as const;
  published = { origin_prefix: "maestro.test/log", keys: [key] };
});

const sign = (given = {}) => signLink(signer, { ...claims, ...given }, now);
const open = (token: string, at = now, keys = published) => openLink(keys, token, at);
/** The set of keys with its one key changed. */
const keysWith = (change: Partial<PublishedKey>): PublishedKeys => ({
  ...published,
  keys: published.keys.map((key) => ({ ...key, ...change })),
});

test("a link opens from when it was made until its expiry, to the second, and then says that it has expired", async () => {
  const { token, expires_at } = await sign();
  expect(Date.parse(expires_at)).toBe(Math.floor(now / 1_000) * 1_000 + linkLifeMs);
  const end = Date.parse(expires_at);
  expect(await open(token)).toMatchObject({ ok: true, claims: { ...claims, aud: linkAudience } });
  expect(await open(token, end - 1)).toMatchObject({ ok: true });
  for (const at of [end, end + linkLifeMs]) expect(await open(token, at)).toEqual({ ok: false, code: "link_expired" });
});

test("a link that was signed before its key was retired works until its expiry; one that the key signs later never does, nor any of a revoked key", async () => {
  const { token, expires_at } = await sign();
  const end = Date.parse(expires_at);
  const retired = keysWith({ not_after: new Date(now + 1_000).toISOString() });
  expect(await open(token, end - 1, retired)).toMatchObject({ ok: true });
  expect(await open(token, end, retired)).toEqual({ ok: false, code: "link_expired" });
  const later = await signLink(signer, claims, now + 2_000);
  expect(await open(later.token, now + 2_000, retired)).toEqual({ ok: false, code: "link_invalid" });
  expect(await open(later.token, now + 2_000)).toMatchObject({ ok: true });
  const revoked = keysWith({ revoked_at: new Date(now + 1_000).toISOString() });
  expect(await open(token, now, revoked)).toEqual({ ok: false, code: "link_invalid" });
  for (const keys of [keysWith({ use: "receipt" }), keysWith({ kid: "0".repeat(64) }), { ...published, keys: [] }])
    expect(await open(token, now, keys)).toEqual({ ok: false, code: "link_invalid" });
});

test("a link for one principal names it, any other none", async () => {
  const audience = `pri_${"0".repeat(26)}`;
  expect(await open((await sign({ audience })).token)).toMatchObject({ ok: true, claims: { audience } });
  const opened = await open((await sign()).token);
  expect(opened.ok && "audience" in opened.claims).toBe(false);
});

test("a token for another use, by another key, in another algorithm, or with claims that no link has is no link", async () => {
  const token = (change: Record<string, unknown>, key: CryptoKey | Uint8Array = pair.privateKey, alg = "ES256") => {
    const iat = Math.floor(now / 1_000);
    return new SignJWT({ ...claims, aud: linkAudience, iat, exp: iat + 60, ...change })
      .setProtectedHeader({ alg, kid, typ: "JWT" })
      .sign(key);
  };
  expect(await open(await token({}))).toMatchObject({ ok: true });
  const forged = [
    token({ aud: "maestro" }),
    token({ aud: [linkAudience, "maestro"] }),
    token({ aud: undefined }),
    token({ exp: undefined }),
    token({ iat: undefined }),
    token({ jti: undefined }),
    token({ sub: "someone" }),
    token({ pack_version: 1 }),
    token({ sha256: "A".repeat(64) }),
    token({ audience: "someone" }),
    token({ more: true }),
    token({}, foreign.privateKey),
    token({}, new TextEncoder().encode("x".repeat(32)), "HS256"),
    Promise.resolve("x".repeat(tokenLengthMax + 1)),
    Promise.resolve("a.b.c"),
    Promise.resolve(""),
  ];
  for (const one of await Promise.all(forged))
    expect(await open(one), one).toEqual({ ok: false, code: "link_invalid" });
});
