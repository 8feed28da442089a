import { expect, test } from "vitest";
import { authorityEntry, bundleDocument, jwtEntry, newAuthority, newKeys } from "../../test/support/svid.ts";
import { authoritiesOf, type AuthorityName } from "./authorities.ts";
import { withoutDistrusted } from "./distrust.ts";
import { receiveDocument } from "./receive-document.ts";
import { parseTrustDomain, type TrustDomain } from "./spiffe-id.ts";
import { bundleBytesMax, parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";

function domainOf(name: string): TrustDomain {
  const parsed = parseTrustDomain(name);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}
const domain = domainOf("td.example");

async function parsed(document: string): Promise<TrustBundle> {
  const bundle = await parseTrustBundle(domain, document);
  if (!bundle.ok) throw new Error(bundle.refusal.reason);
  return bundle.value;
}
const namesIn = async (document: string): Promise<AuthorityName[]> => authoritiesOf(await parsed(document));

test("the old key leaves under whatever name: a certificate made anew around it, another kid; the others stay, with what is unknown", async () => {
  const [old, next] = [await newKeys("P-256"), await newKeys("P-256")];
  const [jwtOld, jwtNext] = [await newKeys("P-256"), await newKeys("RSA-2048")];
  const [first, again, other] = [
    await newAuthority("td.example", { keys: old }),
    await newAuthority("td.example", { keys: old }),
    await newAuthority("td.example", { keys: next }),
  ];
  const of = (...keys: readonly object[]): string =>
    bundleDocument(keys, { spiffe_sequence: 5, spiffe_refresh_hint: 60, "x-theirs": "1.0" });
  const stolen = await namesIn(of(authorityEntry(first), jwtEntry(jwtOld, "jwt-1")));
  const unknown = { kty: "new", use: "x509-svid" };
  const document = of(
    authorityEntry(again),
    unknown,
    authorityEntry(other),
    jwtEntry(jwtOld, "renamed"),
    jwtEntry(jwtNext, "jwt-1"),
  );
  const kept = await withoutDistrusted(domain, document, stolen);
  expect(await namesIn(kept)).toEqual(await namesIn(of(authorityEntry(other), jwtEntry(jwtNext, "jwt-1"))));
  expect(await parsed(kept)).toMatchObject({ sequence: 5, refreshHint: 60, distrusts: 2 });
  expect(JSON.parse(kept)).toMatchObject({ "x-theirs": "1.0", keys: [unknown, {}, {}] });
  // One kind is not the other: the same key stays where it was not distrusted.
  expect(await namesIn(await withoutDistrusted(domain, document, stolen.slice(1)))).toHaveLength(3);
});

test("no other spelling of a distrusted key is another key: a document that has one is none", async () => {
  const key = await newKeys("RSA-2048");
  const document = bundleDocument([jwtEntry(key, "jwt-1")]);
  const [name] = await namesIn(document);
  expect(await namesIn(await withoutDistrusted(domain, document, [name!]))).toEqual([]);
  const { n } = key.jwk;
  const zeroInFront = (text: string): string =>
    Buffer.from([0, ...Buffer.from(text, "base64url")]).toString("base64url");
  for (const [member, from, to] of [
    ["e", "AQAB", zeroInFront("AQAB")],
    ["n", n!, zeroInFront(n!)],
    ["e", "AQAB", "AQAB="],
  ] as const) {
    const respelled = document.replace(`"${member}":"${from}"`, `"${member}":"${to}"`);
    expect(respelled).not.toBe(document);
    expect((await parseTrustBundle(domain, respelled)).ok, `${member} ${to.slice(0, 8)}`).toBe(false);
  }
});

test("in any order and in any number of steps it gives the same text; with nothing distrusted what came, to the byte", async () => {
  const authorities = [await newAuthority("td.example"), await newAuthority("td.example")];
  const document = JSON.stringify({ spiffe_sequence: 1, keys: authorities.map(authorityEntry) }, null, 2);
  const [one, two] = await namesIn(document);
  const whole = await withoutDistrusted(domain, document, [one!, two!]);
  const half = await withoutDistrusted(domain, document, [one!]);
  expect(await withoutDistrusted(domain, half, [two!, one!])).toBe(whole);
  expect(await withoutDistrusted(domain, document, [])).toBe(document);
});

test("whatever document is taken can be written anew without an authority: one that would grow beyond its bound is refused", async () => {
  const none = { sha256: null, sequence_max: null, sequence_max_sha256: null, distrusted: [] };
  const key = JSON.stringify(jwtEntry(await newKeys("P-256"), "k"));
  const document = (numbers: number): string =>
    `{"keys":[${key}],"x":[${Array.from({ length: numbers }, () => "1e20").join(",")}]}`;
  const [name] = await namesIn(document(0));
  const absent = { slot: "jwt", kid: "0".repeat(64) } as const;
  for (const [numbers, isTaken] of [
    [23_000, true],
    [24_000, false],
    [100_000, false],
  ] as const) {
    const text = document(numbers);
    expect((await parseTrustBundle(domain, text)).ok).toBe(true);
    const received = await receiveDocument(domain, none, text);
    expect([numbers, received.ok || received.refusal.section]).toEqual([numbers, isTaken || "bounds"]);
    if (!received.ok) continue;
    for (const distrusted of [[name!], [absent]]) {
      const without = await receiveDocument(domain, { ...none, distrusted }, text);
      expect([without.ok, without.ok && without.value.bundle.jwtKeys.size]).toEqual([
        true,
        distrusted[0] === absent ? 1 : 0,
      ]);
    }
  }
  const full = `{"keys":[${key}],"x":"${"x".repeat(bundleBytesMax)}`.slice(0, bundleBytesMax - 2) + `"}`;
  expect((await parseTrustBundle(domain, full)).ok).toBe(true);
  expect((await receiveDocument(domain, none, full)).ok).toBe(false);
});

test("a document that says itself how much was distrusted is not believed in that", async () => {
  const document = bundleDocument([authorityEntry(await newAuthority("td.example"))], { maestro_distrusts: 9 });
  expect((await parsed(await withoutDistrusted(domain, document, []))).distrusts).toBe(0);
  const [name] = await namesIn(document);
  expect((await parsed(await withoutDistrusted(domain, document, [name!]))).distrusts).toBe(1);
});
