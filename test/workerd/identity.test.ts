// SVIDs of each key type, made and verified inside workerd: the same answers as on Node, with its own cryptography.

import { expect, test } from "vitest";
import { verifyJwtSvid } from "../../shared/identity/jwt-svid.ts";
import { parseTrustDomain } from "../../shared/identity/spiffe-id.ts";
import { SvidCache } from "../../shared/identity/svid-cache.ts";
import { parseTrustBundle } from "../../shared/identity/trust-bundle.ts";
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

const id = "spiffe://td.example/api";
const now = madeAtMs + 1_000;

test.each<KeyType>(["P-256", "P-384", "P-521", "RSA-2048", "RSA-PSS", "Ed25519"])(
  "%s: a chain and a token hold, and do not with a bit of their signature flipped",
  async (type) => {
    const root = await newAuthority("td.example", { type });
    const between = await newAuthority("td.example", { type }, root);
    const chain = [await newLeaf(between, id, { type }), between.der];
    const jwtKeys = await newKeys(type === "Ed25519" ? "P-256" : type);
    const name = parseTrustDomain("td.example");
    if (!name.ok) throw new Error(name.refusal.reason);
    const bundle = await parseTrustBundle(name.value, bundleDocument([authorityEntry(root), jwtEntry(jwtKeys, "k1")]));
    if (!bundle.ok) throw new Error(bundle.refusal.reason);
    const cache = new SvidCache({ entriesMax: 10, bytesMax: 100_000 });
    const taken = async (certificates: readonly Uint8Array[]): Promise<string> => {
      const verified = await cache.verify(certificates, bundle.value, now);
      return verified.ok ? verified.value.id.uri : verified.refusal.section;
    };
    expect([await taken(chain), await taken(chain), cache.size.hits]).toEqual([id, id, 1]);
    const flipped = chain.map((der) => der.with(der.length - 3, der.at(-3)! ^ 1));
    expect(await taken([flipped[0]!, chain[1]!])).toBe("RFC 5280 6.1.3");
    expect(await taken([chain[0]!, flipped[1]!])).toBe("RFC 5280 6.1.3");

    const claims = { sub: id, aud: "maestro", exp: now / 1_000 + 60 };
    const token = await jwtOf(jwtKeys, { alg: jwtAlgorithms[jwtKeys.type], kid: "k1" }, claims);
    const held = await verifyJwtSvid(token, bundle.value, { audience: "maestro", now });
    expect(held).toMatchObject({ ok: true, value: { id: { uri: id } } });
    const broken = await jwtOf(await newKeys(jwtKeys.type), { alg: jwtAlgorithms[jwtKeys.type], kid: "k1" }, claims);
    expect((await verifyJwtSvid(broken, bundle.value, { audience: "maestro", now })).ok).toBe(false);
  },
);
