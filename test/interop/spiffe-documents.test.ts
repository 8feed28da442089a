// Bundle documents, IDs and tokens with one thing changed, judged here and by go-spiffe: what go-spiffe refuses is not taken here.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifyJwtSvid } from "../../shared/identity/jwt-svid.ts";
import { parseSpiffeId, parseTrustDomain, type TrustDomain } from "../../shared/identity/spiffe-id.ts";
import { parseTrustBundle } from "../../shared/identity/trust-bundle.ts";
import { seeded } from "../simulation/audit-events.ts";
import { ask, buildGoSpiffe, type GoSpiffe } from "../support/go-spiffe.ts";
import { authorityEntry, bundleDocument, jwtEntry, jwtOf, newAuthority, newKeys } from "../support/svid.ts";
import { tool } from "../support/tools.ts";

const go = tool("go");

/** What a member may be instead; null leaves it out. */
const values: readonly unknown[] = [
  null,
  "",
  "x",
  0,
  -1,
  1.5,
  2 ** 53,
  true,
  [],
  ["x"],
  {},
  "jwt-svid",
  "x509-svid",
  "EC",
  "RSA",
  "P-256",
  "P-384",
  "AAAA",
  "AQAB",
];

describe.skipIf(go === null)("go-spiffe takes what is taken here", () => {
  let goSpiffe: GoSpiffe;
  let domain: TrustDomain;
  beforeAll(() => {
    goSpiffe = buildGoSpiffe(go!);
    const parsed = parseTrustDomain("td.example");
    if (!parsed.ok) throw new Error(parsed.refusal.reason);
    domain = parsed.value;
  }, 300_000);
  afterAll(() => goSpiffe.remove());

  test("of bundle documents with any one member changed, added or left out", async () => {
    const [root, ed, rsa] = await Promise.all([
      newAuthority("td.example"),
      newAuthority("td.example", { type: "Ed25519", name: "ed" }),
      newAuthority("td.example", { type: "RSA-2048", name: "rsa" }),
    ]);
    const [ec, large, tall] = await Promise.all([newKeys("P-256"), newKeys("RSA-2048"), newKeys("P-521")]);
    const keys = [
      authorityEntry(root),
      authorityEntry(ed),
      authorityEntry(rsa),
      jwtEntry(ec, "a"),
      jwtEntry(large, "b"),
      jwtEntry(tall, "c"),
    ];
    const documents: [label: string, document: string][] = [
      ["whole", bundleDocument(keys)],
      ["empty", bundleDocument([])],
    ];
    for (const name of ["keys", "spiffe_sequence", "spiffe_refresh_hint", "other"]) {
      for (const value of values) {
        const document = JSON.stringify({ spiffe_sequence: 1, keys, [name]: value ?? undefined });
        documents.push([`${name}: ${JSON.stringify(value)}`, document]);
      }
    }
    for (const [at, key] of keys.entries()) {
      for (const name of [...Object.keys(key), "d", "k", "alg", "key_ops", "x5t#S256"]) {
        for (const value of values) {
          // An unknown kind of key is passed over here, as the standard says (4.2.1); go-jose refuses the document.
          if (name === "kty" && typeof value === "string" && value !== "EC" && value !== "RSA") continue;
          const document = bundleDocument(keys.with(at, { ...key, [name]: value ?? undefined }));
          documents.push([`${at} ${name}: ${JSON.stringify(value)}`, document]);
        }
      }
      for (const [from, other] of keys.entries()) {
        documents.push([`${at} with ${from}`, bundleDocument(keys.with(at, { ...key, ...other }))]);
        documents.push([`${at} under ${from}`, bundleDocument(keys.with(at, { ...other, ...key }))]);
      }
    }
    const there = await goSpiffe.answers(documents.map(([, document]) => ask.bundle("td.example", document)));
    const seen = { both: 0, here: [] as string[] };
    for (const [at, [label, document]] of documents.entries()) {
      if (!(await parseTrustBundle(domain, document)).ok) continue;
      if (there[at] === true) seen.both += 1;
      else seen.here.push(label);
    }
    expect(seen.here).toEqual([]);
    expect(seen.both).toBeGreaterThan(50);
  });

  test("of IDs with any letters changed", async () => {
    const next = seeded(7);
    const parts = [
      "spiffe://",
      "td.example",
      "/",
      "//",
      ".",
      "..",
      "a",
      "Z",
      "%2e",
      ":",
      "@",
      "?",
      "#",
      "_",
      "-",
      "é",
      " ",
      "\\",
      "\0",
      "[",
      "~",
      "+",
    ];
    const texts = Array.from({ length: 5_000 }, () => {
      const rest = Array.from(
        { length: 1 + Math.floor(next() * 6) },
        () => parts[Math.floor(next() * parts.length)]!,
      ).join("");
      return next() < 0.9 ? `spiffe://td${rest}` : rest;
    });
    const there = await goSpiffe.answers(texts.map(ask.id));
    const here = texts.map((text) => parseSpiffeId(text).ok);
    expect(texts.filter((_, at) => here[at] !== there[at])).toEqual([]);
    expect(here.filter(Boolean).length).toBeGreaterThan(200);
  });

  test("of tokens with any one header or claim changed", async () => {
    const keys = await newKeys("P-256");
    const document = bundleDocument([jwtEntry(keys, "k1")]);
    const bundle = await parseTrustBundle(domain, document);
    if (!bundle.ok) throw new Error(bundle.refusal.reason);
    const seconds = Math.floor(Date.now() / 1_000);
    const header = { alg: "ES256", kid: "k1", typ: "JWT" };
    const claims = { sub: "spiffe://td.example/api", aud: ["maestro"], exp: seconds + 600, iat: seconds, nbf: seconds };
    const more = [
      ...values,
      "ES384",
      "none",
      "JOSE",
      "jwt",
      "maestro",
      ["maestro", "x"],
      ["maestro", 1],
      seconds,
      seconds + 300,
      seconds - 300,
      seconds + 30.5,
      1e300,
      "spiffe://td.example",
      "spiffe://td.example/a/",
      "spiffe://other.example/a",
    ];
    const changed = (names: readonly string[]): [name: string, value: unknown][] =>
      names.flatMap((name) => more.map((value): [string, unknown] => [name, value]));
    const headers = changed([...Object.keys(header), "crit", "b64", "jwk", "x5c"]);
    const others = changed([...Object.keys(claims), "iss", "jti"]);
    const labels = [...headers, ...others].map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
    const tokens = await Promise.all([
      ...headers.map(([name, value]) => jwtOf(keys, { ...header, [name]: value ?? undefined }, claims)),
      ...others.map(([name, value]) => jwtOf(keys, header, { ...claims, [name]: value ?? undefined })),
    ]);
    const there = await goSpiffe.answers([
      ask.bundle("td.example", document),
      ...tokens.map((token) => ask.token("maestro", token)),
    ]);
    const seen = { both: 0, here: [] as string[] };
    for (const [at, token] of tokens.entries()) {
      if (!(await verifyJwtSvid(token, bundle.value, { audience: "maestro", now: Date.now() })).ok) continue;
      if (there[at + 1] === true) seen.both += 1;
      else seen.here.push(labels[at]!);
    }
    expect(seen.here).toEqual([]);
    expect(seen.both).toBeGreaterThan(20);
  });
});
