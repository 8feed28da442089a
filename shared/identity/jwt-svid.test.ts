import { beforeAll, describe, expect, test } from "vitest";
import { bundleDocument, jwtEntry, jwtOf, newKeys, type KeyPair } from "../../test/support/svid.ts";
import { jwtAuthorityKid } from "./authorities.ts";
import { skewSeconds, verifyJwtSvid } from "./jwt-svid.ts";
import { parseTrustDomain } from "./spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";

const seconds = Date.UTC(2026, 3, 13, 16) / 1_000;
const header = { alg: "ES256", kid: "k1", typ: "JWT" };
const claims = { sub: "spiffe://td.example/api", aud: ["maestro", "other"], exp: seconds + 300, iat: seconds };
let keys: KeyPair;
let stranger: KeyPair;
let large: KeyPair;
let bundle: TrustBundle;

beforeAll(async () => {
  [keys, stranger, large] = await Promise.all([newKeys("P-256"), newKeys("P-256"), newKeys("P-384")]);
  const name = parseTrustDomain("td.example");
  if (!name.ok) throw new Error(name.refusal.reason);
  const parsed = await parseTrustBundle(name.value, bundleDocument([jwtEntry(keys, "k1"), jwtEntry(large, "k2")]));
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  bundle = parsed.value;
});

async function outcomeOf(token: string, at = seconds, audience = "maestro"): Promise<string> {
  const verified = await verifyJwtSvid(token, bundle, { audience, now: at * 1_000 });
  return verified.ok ? "taken" : verified.refusal.section;
}
const withClaims = (changed: object): Promise<string> => jwtOf(keys, header, { ...claims, ...changed });

test("a good one holds, and says whose it is, for whom and until when", async () => {
  const token = await jwtOf(keys, header, claims);
  expect(await verifyJwtSvid(token, bundle, { audience: "other", now: seconds * 1_000 })).toEqual({
    ok: true,
    value: {
      id: { uri: "spiffe://td.example/api", trustDomain: "td.example", path: "/api" },
      audience: ["maestro", "other"],
      untilMs: (seconds + 300) * 1_000,
      authority: await jwtAuthorityKid(bundle.jwtKeys.get(header.kid)!),
    },
  });
  expect(await outcomeOf(await jwtOf(large, { alg: "ES384", kid: "k2" }, { ...claims, aud: "maestro" }))).toBe("taken");
  expect(await outcomeOf(await jwtOf(keys, { ...header, typ: "JOSE" }, claims))).toBe("taken");
});

describe("refused is", () => {
  test.each<[string, string, () => Promise<string>]>([
    ["one without sub", "JWT-SVID 3.1", () => withClaims({ sub: undefined })],
    ["one whose sub is no SPIFFE ID", "SPIFFE-ID 2", () => withClaims({ sub: "api" })],
    ["one whose sub is a trust domain", "JWT-SVID 3.1", () => withClaims({ sub: "spiffe://td.example" })],
    [
      "one of another trust domain",
      "SPIFFE Trust Domain and Bundle 3",
      () => withClaims({ sub: "spiffe://x.example/a" }),
    ],
    ["one without aud", "JWT-SVID 3.2", () => withClaims({ aud: undefined })],
    ["one with no aud in its list", "JWT-SVID 3.2", () => withClaims({ aud: [] })],
    ["one for others", "JWT-SVID 3.2", () => withClaims({ aud: ["Maestro", "maestro/"] })],
    ["one with a number among its aud", "JWT-SVID 3.2", () => withClaims({ aud: ["maestro", 1] })],
    [
      "one with more aud than 32",
      "JWT-SVID 3.2",
      () => withClaims({ aud: Array.from({ length: 33 }, (_, at) => (at === 0 ? "maestro" : `a${at}`)) }),
    ],
    ["one without exp", "JWT-SVID 3.3", () => withClaims({ exp: undefined })],
    ["one whose exp is a text", "JWT-SVID 3.3", () => withClaims({ exp: String(seconds + 300) })],
    ["one whose exp is beyond all time", "JWT-SVID 3.3", () => withClaims({ exp: 1e300 })],
    ["one whose iss is a number", "RFC 7519 4.1", () => withClaims({ iss: 1 })],
    ["one whose iat is a text", "RFC 7519 4.1", () => withClaims({ iat: "now" })],
    ["one whose nbf is null", "RFC 7519 4.1", () => withClaims({ nbf: null })],
    [
      "one with a claim twice",
      "RFC 7519 4",
      () =>
        jwtOf(
          keys,
          header,
          `{"sub":"spiffe://td.example/api","aud":"maestro","exp":${seconds + 60},"exp":${seconds + 600}}`,
        ),
    ],
    ["one whose claims are a list", "RFC 7515 5.2", () => jwtOf(keys, header, "[]")],
    ["one with a header twice", "RFC 7519 4", () => jwtOf(keys, `{"alg":"ES256","alg":"ES256","kid":"k1"}`, claims)],
    ["one of type at+jwt", "JWT-SVID 2.3", () => jwtOf(keys, { ...header, typ: "at+jwt" }, claims)],
    ["one of type jwt", "JWT-SVID 2.3", () => jwtOf(keys, { ...header, typ: "jwt" }, claims)],
    ["one whose typ is null", "JWT-SVID 2.3", () => jwtOf(keys, { ...header, typ: null }, claims)],
    ["one with another header", "JWT-SVID 2", () => jwtOf(keys, { ...header, crit: ["exp"] }, claims)],
    ["one with its own key", "JWT-SVID 2", () => jwtOf(keys, { ...header, jwk: {} }, claims)],
    ["one without alg", "JWT-SVID 2.1", () => jwtOf(keys, { kid: "k1" }, claims)],
    ["one that is not signed", "JWT-SVID 2.1", () => jwtOf(keys, { alg: "none", kid: "k1" }, claims)],
    ["one of HMAC", "JWT-SVID 2.1", () => jwtOf(keys, { alg: "HS256", kid: "k1" }, claims)],
    ["one of EdDSA", "JWT-SVID 2.1", () => jwtOf(keys, { alg: "EdDSA", kid: "k1" }, claims)],
    [
      "one whose alg is a word of JavaScript",
      "JWT-SVID 2.1",
      () => jwtOf(keys, { alg: "toString", kid: "k1" }, claims),
    ],
    ["one of another algorithm than its key's", "JWT-SVID 2.1", () => jwtOf(keys, { alg: "ES256", kid: "k2" }, claims)],
    ["one of RSA with a key that is none", "JWT-SVID 2.1", () => jwtOf(keys, { alg: "RS256", kid: "k1" }, claims)],
    ["one without kid", "JWT-SVID 4", () => jwtOf(keys, { alg: "ES256" }, claims)],
    ["one of an unknown kid", "JWT-SVID 4", () => jwtOf(keys, { alg: "ES256", kid: "k3" }, claims)],
    ["one that another key signed", "JWT-SVID 4", () => jwtOf(stranger, header, claims)],
  ])("%s (%s)", async (_, section, token) => {
    expect(await outcomeOf(await token())).toBe(section);
  });

  test("what is not in compact form, or not in its one spelling (JWT-SVID 5.1)", async () => {
    const token = await jwtOf(keys, header, claims);
    const [first = "", second = "", third = ""] = token.split(".");
    const flattened = JSON.stringify({ protected: first, payload: second, signature: third });
    for (const text of [
      "",
      flattened,
      `${first}.${second}.`,
      `${first}..${third}`,
      `${token}.x`,
      ` ${token}`,
      `${token}=`,
    ]) {
      expect(await outcomeOf(text), text).toBe("JWT-SVID 5.1");
    }
    expect(await outcomeOf(`${first}.${btoa("{}").slice(0, 2)}f.${third}`)).not.toBe("taken");
    expect(await outcomeOf(`${first}.${second}.${third}`.padEnd(8_193, "A"))).toBe("bounds");
  });

  test("one whose claims were changed after it was signed (JWT-SVID 4)", async () => {
    const [first, , third] = (await jwtOf(keys, header, claims)).split(".");
    const [, other] = (await withClaims({ sub: "spiffe://td.example/admin" })).split(".");
    expect(await outcomeOf(`${first}.${other}.${third}`)).toBe("JWT-SVID 4");
  });
});

test("clocks may be a minute apart, and no more: exp, nbf and iat", async () => {
  const token = await withClaims({ exp: seconds, nbf: undefined, iat: undefined });
  expect(await outcomeOf(token, seconds + skewSeconds - 1)).toBe("taken");
  expect(await outcomeOf(token, seconds + skewSeconds)).toBe("JWT-SVID 3.3");
  for (const name of ["nbf", "iat"]) {
    const early = await withClaims({ [name]: seconds });
    expect(await outcomeOf(early, seconds - skewSeconds), name).toBe("taken");
    expect(await outcomeOf(early, seconds - skewSeconds - 1), name).toBe("RFC 7519 4.1");
  }
});

test("nobody is nobody's audience", async () => {
  expect(await outcomeOf(await withClaims({ aud: "" }), seconds, "")).toBe("JWT-SVID 3.2");
});
