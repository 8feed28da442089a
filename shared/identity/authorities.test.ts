// What authorities are called: the standard's own example, and that a name is of the key and of nothing around it.

import { expect, test } from "vitest";
import { authorityEntry, bundleDocument, jwtEntry, newAuthority, newKeys } from "../../test/support/svid.ts";
import { base64, hexBytes, sha256Hex } from "../contract/bytes.ts";
import { authoritiesOf, isAmong, jwtAuthorityKid } from "./authorities.ts";
import { parseTrustDomain } from "./spiffe-id.ts";
import { parseTrustBundle } from "./trust-bundle.ts";

test("a JWT key is called as RFC 7638 3.1 has it", async () => {
  const n =
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst" +
    "n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n" +
    "91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
  const kid = await jwtAuthorityKid({ kty: "RSA", n, e: "AQAB" });
  expect(base64(hexBytes(kid)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")).toBe(
    "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
  );
});

test("a certificate made anew and another kid leave an authority's name as it is; another key does not", async () => {
  const domain = parseTrustDomain("td.example");
  const named = async (...entries: object[]) => {
    const parsed = domain.ok ? await parseTrustBundle(domain.value, bundleDocument(entries)) : domain;
    return parsed.ok ? await authoritiesOf(parsed.value) : [];
  };
  const [first, jwt, other] = [await newAuthority("td.example"), await newKeys("P-256"), await newKeys("P-256")];
  const again = await newAuthority("td.example", { keys: first.keys, name: "renewed" });
  const names = await named(authorityEntry(first), jwtEntry(jwt, "one"));
  expect(names).toEqual([
    { slot: "x509", kid: await sha256Hex(first.keys.spki) },
    { slot: "jwt", kid: expect.stringMatching(/^[0-9a-f]{64}$/) as string },
  ]);
  expect(await named(authorityEntry(first), authorityEntry(again), jwtEntry(jwt, "two"))).toEqual(names);
  // One of the other kind is none of them, whatever it is called.
  expect([isAmong(names, names[0]!), isAmong(names, { ...names[0]!, slot: "jwt" })]).toEqual([true, false]);
  expect(await named(authorityEntry(again), jwtEntry(other, "one"))).toEqual([
    names[0],
    expect.not.objectContaining(names[1]!),
  ]);
});
