// The desk under a flood: strangers' SVIDs are looked at so fast and no faster, the rest is shed, and what was verified before passes
// beside them.

import { beforeAll, expect, test } from "vitest";
import {
  authorityEntry,
  bundleDocument,
  jwtEntry,
  jwtOf,
  leafExtensions,
  madeAtMs,
  minuteMs,
  newAuthority,
  newKeys,
  newLeaf,
  type Authority,
  type KeyPair,
} from "../../test/support/svid.ts";
import { Problem } from "../contract/problems.ts";
import { alternativeNames, uri } from "./issue/certificate-writer.ts";
import { claimedIdOfToken } from "./claimed-id.ts";
import { Admission } from "./admission.ts";
import { JwtSvidCache, keyOfToken } from "./jwt-svid-cache.ts";
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

/** Whoever waits goes on when `after` is told of a later time. */
function stopwatch(): { readonly pause: (ms: number) => Promise<void>; after(ms: number): Promise<void> } {
  let nowMs = 0;
  let waiting: { readonly untilMs: number; readonly go: () => void }[] = [];
  return {
    pause: (ms) => new Promise((go) => void waiting.push({ untilMs: nowMs + ms, go })),
    async after(ms) {
      const endMs = nowMs + ms;
      for (;;) {
        await new Promise((resolve) => setImmediate(resolve));
        const next = waiting.toSorted((one, other) => one.untilMs - other.untilMs)[0];
        if (next === undefined || next.untilMs > endMs) break;
        nowMs = next.untilMs;
        waiting = waiting.filter((other) => other !== next);
        next.go();
      }
      nowMs = endMs;
    },
  };
}

test("requests that come at once with one new SVID share one place, and the next stranger finds his own", async () => {
  const watch = stopwatch();
  const desk = new SvidDesk({
    audience: "a",
    pause: watch.pause,
    pace: { atOnceMax: 2, everyMs: 100, waitMsMax: 0 },
  });
  const renewed: PresentedSvid = { kind: "x509", chain: [await newLeaf(root, id.uri)] };
  await desk.admit(renewed, id, now);
  const others = Array.from({ length: 40 }, () => codeOf(desk.admit(renewed, id, now)));
  expect(await codeOf(desk.admit(stranger(1), id, now))).toBe("done");
  expect(await codeOf(desk.admit(stranger(2), id, now))).toBe("identity_busy");
  await watch.after(20);
  expect((await desk.verify(renewed, bundle, now)).ok).toBe(true);
  await watch.after(40);
  expect(await Promise.all(others)).toEqual(Array.from({ length: 40 }, () => "done"));
});

test("those that share a place with a bad SVID wait no longer than its last look, and are strangers then", async () => {
  const watch = stopwatch();
  const admission = new Admission({ atOnceMax: 1, everyMs: 150, waitMsMax: 0 }, 4, watch.pause);
  const asked = (): Promise<boolean> => admission.admit("bad", 0, () => false);
  expect(await asked()).toBe(true);
  const sharers = Array.from({ length: 4 }, asked);
  // There is room for four: the fifth is shed at once.
  expect(await asked()).toBe(false);
  let isOver = false;
  void Promise.race(sharers).then(() => (isOver = true));
  await watch.after(199);
  expect(isOver).toBe(false);
  await watch.after(1);
  expect(await Promise.all(sharers)).toEqual([true, false, false, false]);
});

test("sharers that have gone make room, and a place whose looks are over is shared by nobody", async () => {
  const watch = stopwatch();
  const admission = new Admission({ atOnceMax: 1, everyMs: 1_000, waitMsMax: 0 }, 2, watch.pause);
  for (const begin of [0, 2_000, 4_000]) {
    expect(await admission.admit("bad", begin, () => false)).toBe(true);
    const sharers = [1, 2].map(() => admission.admit("bad", begin, () => false));
    let isOver = false;
    void Promise.race(sharers).then(() => (isOver = true));
    await watch.after(199);
    expect(isOver).toBe(false);
    await watch.after(1);
    expect(await Promise.all(sharers)).toEqual([false, false]);
  }
  // Shed at once: it waits for no look.
  expect(await admission.admit("bad", 4_200, () => false)).toBe(false);
});

test("a place that a clock left in the future is not waited for", async () => {
  const waits: number[] = [];
  const admission = new Admission({ atOnceMax: 1, everyMs: 10, waitMsMax: 20 }, 4, (ms) => {
    waits.push(ms);
    return Promise.resolve();
  });
  expect(await admission.admit("same", 1_000_000, () => false)).toBe(true);
  await admission.admit("same", 5_000, () => false);
  expect(Math.max(0, ...waits)).toBeLessThanOrEqual(30);
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
  const cache = new JwtSvidCache("a", { entriesMax: 2, bytesMax: 100_000 });
  const [first, second, third] = await Promise.all([token(1), token(2), token(3)]);
  expect((await cache.verify(first, bundle, now)).ok).toBe(true);
  expect(cache.has(await keyOfToken(first))).toBe(true);
  expect((await cache.verify(first, bundle, (exp + 59) * 1_000)).ok).toBe(true);
  expect((await cache.verify(first, bundle, (exp + 61) * 1_000)).ok).toBe(false);
  expect(cache.has(await keyOfToken(first))).toBe(false);
  await cache.verify(first, bundle, now);
  expect((await cache.verify(first, await bundleOf(2, [authorityEntry(root)]), now)).ok).toBe(false);
  for (const each of [first, second, third]) expect((await cache.verify(each, bundle, now)).ok).toBe(true);
  expect([
    cache.has(await keyOfToken(first)),
    cache.has(await keyOfToken(second)),
    cache.has(await keyOfToken(third)),
  ]).toEqual([false, true, true]);
});

test("a JWT-SVID that was verified is not believed by a clock that was put back before it was valid", async () => {
  const seconds = now / 1_000;
  const claims = { sub: id.uri, aud: "a", exp: seconds + 300, nbf: seconds + 30 };
  const token = await jwtOf(keys, { alg: "ES256", kid: "k" }, claims);
  const cache = new JwtSvidCache("a", { entriesMax: 2, bytesMax: 100_000 });
  expect((await cache.verify(token, bundle, now)).ok).toBe(true);
  expect((await cache.verify(token, bundle, now - 31_000)).ok).toBe(false);
});

test("JWT-SVIDs are kept within bytes, however long their IDs, and nothing of other audiences is", async () => {
  const exp = now / 1_000 + 60;
  const bytesMax = 40_000;
  const cache = new JwtSvidCache("a", { entriesMax: 1_000, bytesMax });
  const audiences = ["a", ...Array.from({ length: 20 }, (_, at) => `${at}`.padEnd(100, "x"))];
  const long = "y".repeat(1_900);
  for (let n = 0; n < 30; n += 1) {
    const token = await jwtOf(keys, { alg: "ES256", kid: "k" }, { sub: `${id.uri}/${long}`, aud: audiences, exp, n });
    const svid = must(await cache.verify(token, bundle, now));
    expect(must(await cache.verify(token, bundle, now))).toBe(svid);
    expect(JSON.stringify(svid)).not.toContain("xxx");
    expect(cache.size.bytes).toBeGreaterThan(cache.size.entries * long.length);
    expect(cache.size.bytes).toBeLessThanOrEqual(bytesMax);
  }
  expect(cache.size.entries).toBeGreaterThan(10);
  // What is forgotten is not counted any more.
  await cache.verify(await jwtOf(keys, { alg: "ES256", kid: "k" }, { sub: id.uri, aud: "a", exp }), bundle, now);
  const { entries } = cache.size;
  const token = await jwtOf(keys, { alg: "ES256", kid: "k" }, { sub: `${id.uri}/${long}`, aud: "a", exp, n: -1 });
  const before = cache.size.bytes;
  await cache.verify(token, bundle, now);
  await cache.verify(token, bundle, now + 300_000);
  expect(cache.size.bytes).toBeLessThanOrEqual(before);
  expect(cache.size.entries).toBeLessThanOrEqual(entries);
});

test("a token that says spiffe:// as its sub is a JWT-SVID, and nothing else is", async () => {
  const jwt = (sub: unknown): Promise<string> => jwtOf(keys, { alg: "ES256" }, { sub });
  expect(must(claimedId({ kind: "jwt", token: await jwt(id.uri) })).uri).toBe(id.uri);
  for (const token of [await jwt("admin@acme"), await jwt(1), "a.b.c", "a", "", "x".repeat(9_000), "a.bnVsbA.c"]) {
    expect(claimedIdOfToken(token)).toBeNull();
    expect(claimedId({ kind: "jwt", token }).ok).toBe(false);
  }
  expect(claimedIdOfToken(await jwtOf(keys, { alg: "ES256" }, { sub: id.uri, x: "x".repeat(8_000) }))).toBeNull();
  expect(claimedId({ kind: "x509", chain: [] }).ok).toBe(false);
  const two = alternativeNames([uri(id.uri), uri("spiffe://td.example/b")]);
  const leaf = await newLeaf(root, id.uri, { extensions: [...leafExtensions(id.uri).slice(0, -1), two] });
  expect(claimedId({ kind: "x509", chain: [leaf] }).ok).toBe(false);
});
