// The desk under a flood: strangers' SVIDs are looked at so fast and no faster, the rest is shed, and what was verified before passes
// beside them.

import { beforeAll, expect, test } from "vitest";
import {
  authorityEntry,
  bundleDocument,
  jwtEntry,
  jwtOf,
  madeAtMs,
  minuteMs,
  newAuthority,
  newKeys,
  newLeaf,
  type Authority,
  type KeyPair,
} from "../../test/support/svid.ts";
import { Problem } from "../contract/problems.ts";
import { claimedIdOfToken } from "./claimed-id.ts";
import { JwtSvidCache } from "./jwt-svid-cache.ts";
import { parseSpiffeId, parseTrustDomain, type SpiffeId, type TrustDomain } from "./spiffe-id.ts";
import { claimedId, SvidDesk, type PresentedSvid } from "./svid-desk.ts";
import { parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";
import { VerificationPace } from "./verification-pace.ts";
import { verifyX509Svid } from "./x509-svid.ts";

const now = madeAtMs + minuteMs;
let domain: TrustDomain;
let id: SpiffeId;
let root: Authority;
let keys: KeyPair;
let bundle: TrustBundle;

const must = <T>(checked: { readonly ok: true; readonly value: T } | { readonly ok: false }): T => {
  if (!checked.ok) throw new Error("refused");
  return checked.value;
};
const bundleOf = async (sequence: number, entries: readonly object[]): Promise<TrustBundle> =>
  must(await parseTrustBundle(domain, bundleDocument(entries, { spiffe_sequence: sequence })));

beforeAll(async () => {
  domain = must(parseTrustDomain("td.example"));
  id = must(parseSpiffeId("spiffe://td.example/a"));
  [root, keys] = await Promise.all([newAuthority("td.example"), newKeys("P-256")]);
  bundle = await bundleOf(1, [authorityEntry(root), jwtEntry(keys, "k")]);
});

const stranger = (at: number): PresentedSvid => ({ kind: "x509", chain: [new Uint8Array([at >> 8, at & 255])] });
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "done",
    (error: unknown) => (error instanceof Problem ? error.code : "thrown"),
  );

test("of a thousand strangers at once so many are looked at, so many wait, and the rest is shed; who is known passes", async () => {
  const waits: number[] = [];
  let verified = 0;
  const desk = new SvidDesk({
    audience: "maestro-api",
    pause: (ms) => {
      waits.push(ms);
      return Promise.resolve();
    },
    pace: { atOnceMax: 10, everyMs: 4, waitMsMax: 100 },
    verifyX509: (...args) => {
      verified += 1;
      return verifyX509Svid(...args);
    },
  });
  const known: PresentedSvid = { kind: "x509", chain: [await newLeaf(root, id.uri)] };
  await desk.admit(known, id, now - 1_000);
  expect((await desk.verify(known, bundle, now - 1_000)).ok).toBe(true);
  const outcomes = await Promise.all(
    Array.from({ length: 1_000 }, (_, at) => codeOf(desk.admit(stranger(at), id, now))),
  );
  expect(outcomes.filter((outcome) => outcome === "done")).toHaveLength(10 + 25);
  expect(outcomes.filter((outcome) => outcome === "identity_busy")).toHaveLength(1_000 - 35);
  expect([waits.length, Math.max(...waits)]).toEqual([25, 100]);
  for (let count = 0; count < 100; count += 1) {
    expect(await codeOf(desk.admit(known, id, now))).toBe("done");
    expect((await desk.verify(known, bundle, now)).ok).toBe(true);
  }
  expect([waits.length, verified]).toEqual([25, 1]);
  // Who is shed takes nobody's place: a moment later the next one is let in.
  expect(await codeOf(desk.admit(stranger(2_000), id, now + 8))).toBe("done");
});

test("a clock that went back sheds nobody for longer than the wait itself", () => {
  const pace = new VerificationPace({ atOnceMax: 2, everyMs: 10, waitMsMax: 20 });
  expect([pace.admit(1_000_000), pace.admit(1_000_000), pace.admit(1_000_000)]).toEqual([0, 0, 10]);
  expect(pace.admit(5_000)).toBeNull();
  expect(pace.admit(5_011)).not.toBeNull();
});

test("a certificate that is known is verified anew under another bundle, and passes the flood all the same", async () => {
  const desk = new SvidDesk({
    audience: "a",
    pause: () => Promise.resolve(),
    pace: { atOnceMax: 1, everyMs: 1_000, waitMsMax: 0 },
  });
  const known: PresentedSvid = { kind: "x509", chain: [await newLeaf(root, id.uri)] };
  await desk.admit(known, id, now);
  await desk.verify(known, bundle, now);
  expect(await codeOf(desk.admit(stranger(1), id, now))).toBe("identity_busy");
  expect(await codeOf(desk.admit(known, id, now))).toBe("done");
  expect((await desk.verify(known, await bundleOf(2, []), now)).ok).toBe(false);
});

test("a JWT-SVID that was verified is looked at again for its time and its bundle at each hit, and pushed out by later ones", async () => {
  const exp = now / 1_000 + 60;
  const token = (n: number): Promise<string> =>
    jwtOf(keys, { alg: "ES256", kid: "k" }, { sub: id.uri, aud: "a", exp, n });
  const cache = new JwtSvidCache("a", 2);
  const [first, second, third] = await Promise.all([token(1), token(2), token(3)]);
  expect((await cache.verify(first, bundle, now)).ok).toBe(true);
  expect(await cache.has(first)).toBe(true);
  expect((await cache.verify(first, bundle, (exp + 59) * 1_000)).ok).toBe(true);
  expect((await cache.verify(first, bundle, (exp + 61) * 1_000)).ok).toBe(false);
  expect(await cache.has(first)).toBe(false);
  await cache.verify(first, bundle, now);
  expect((await cache.verify(first, await bundleOf(2, [authorityEntry(root)]), now)).ok).toBe(false);
  for (const each of [first, second, third]) expect((await cache.verify(each, bundle, now)).ok).toBe(true);
  expect([await cache.has(first), await cache.has(second), await cache.has(third)]).toEqual([false, true, true]);
});

test("a token that says spiffe:// as its sub is a JWT-SVID, and nothing else is", async () => {
  const jwt = (sub: unknown): Promise<string> => jwtOf(keys, { alg: "ES256" }, { sub });
  expect(must(claimedId({ kind: "jwt", token: await jwt(id.uri) })).uri).toBe(id.uri);
  for (const token of [await jwt("admin@acme"), await jwt(1), "a.b.c", "a", "", "x".repeat(9_000), "a.bnVsbA.c"]) {
    expect(claimedIdOfToken(token)).toBeNull();
    expect(claimedId({ kind: "jwt", token }).ok).toBe(false);
  }
  expect(claimedId({ kind: "x509", chain: [] }).ok).toBe(false);
});
