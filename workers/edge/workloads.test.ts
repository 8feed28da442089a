// Fetchers with SVIDs, through the whole app over a store in memory and a clock that the test sets.

import { beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { base64, sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import { statedKey, trustKey, workloadKey } from "../../shared/edge/serving-path.ts";
import { statedText } from "../../shared/edge/stated.ts";
import { parseSpiffeId, spiffeIdOf } from "../../shared/identity/spiffe-id.ts";
import { apiKeyDigest } from "../../shared/tenancy/api-key.ts";
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
import { createEdge, type Edge } from "./app.ts";
import { fetcherMsMax } from "./fetcher-keys.ts";
import { GoodLately } from "./good-lately.ts";
import { trustMsMax } from "./trust.ts";
import { Verdicts } from "./verdicts.ts";
import { edgeAudience, workloadMsMax } from "./workloads.ts";
import { allBounds, eachBounds, WorkBudget } from "./work-budget.ts";

const id = "spiffe://td.example/tenant/acme/fetcher/one";
const second = "spiffe://td.example/tenant/acme/fetcher/two";
const key = `mk_${"a".repeat(32)}`;
const path = `/policies/acme/${await sha256Hex(utf8("bundle"))}.tar.gz`;
let root: Authority;
let keys: KeyPair;
let other: KeyPair;
let objects: Map<string, Uint8Array>;
let now: number;
let edge: Edge;
let presented: unknown;
let logged: string[];

beforeAll(async () => {
  root = await newAuthority("td.example");
  keys = await newKeys("P-256");
  other = await newKeys("P-256");
});

const bundle = (
  sequence: number,
  entries: readonly object[] = [authorityEntry(root), jwtEntry(keys, "k1")],
): Uint8Array => utf8(bundleDocument(entries, { spiffe_sequence: sequence }));
const workloadOf = (spiffe_id: string): Uint8Array =>
  utf8(JSON.stringify({ fetcher_id: "pri_x", tenant: "acme", spiffe_id, trust_domain: "td.example" }));

beforeEach(async () => {
  now = madeAtMs + minuteMs;
  presented = undefined;
  logged = [];
  objects = new Map([
    [`fetchers/${await apiKeyDigest(key)}.json`, utf8('{"fetcher_id":"key_x","tenant":"acme","expires_at":null}')],
    [workloadKey(await sha256Hex(utf8(id))), workloadOf(id)],
    [workloadKey(await sha256Hex(utf8(second))), workloadOf(second)],
    [trustKey("acme", "td.example"), bundle(1)],
    [path.slice(1), utf8("bundle")],
  ]);
  edge = createEdge({
    provider: "a",
    store: {
      async get(name) {
        const bytes = objects.get(name);
        return bytes === undefined ? null : { size: bytes.length, body: new Blob([new Uint8Array(bytes)]).stream() };
      },
    },
    api: { fetch: () => Promise.reject(new Error("no API here")), origin: null, secret: "" },
    metricsKey: "operator",
    tlsClientAuth: () => presented,
    keepAlive: () => {},
    clock: () => now,
    random: (byteCount) => new Uint8Array(byteCount),
    log: (_, message, fields = {}) => void logged.push(`${message} ${JSON.stringify(fields)}`),
  });
});

interface TokenOptions {
  readonly sub?: string;
  readonly aud?: string;
  readonly by?: KeyPair;
  readonly kid?: string;
  readonly minutes?: number;
  readonly jti?: string;
  readonly nbf?: number;
}
const token = ({
  sub = id,
  aud = edgeAudience,
  by = keys,
  kid = "k1",
  minutes = 5,
  jti = "",
  nbf,
}: TokenOptions = {}) =>
  jwtOf(by, { alg: "ES256", kid }, { sub, aud: [aud], exp: Math.floor(now / 1_000) + minutes * 60, jti, nbf });

const ask = (bearer: string | null, headers: Record<string, string> = {}): Promise<Response> =>
  edge.fetch(
    new Request(`https://edge.test${path}`, {
      headers: { ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }), ...headers },
    }),
  );
const told = async (answer: Response): Promise<{ code: string; detail: string }> => await answer.json();
async function counted(name: string, ...labels: string[]): Promise<number> {
  const answer = await edge.fetch(
    new Request("https://edge.test/metrics", { headers: { authorization: "Bearer operator" } }),
  );
  return (await answer.text())
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) && labels.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}
const verifications = (): Promise<number> => counted("mc_edge_svid_verifications_total");

test("a JWT-SVID opens what a key opens, and its signature is looked at once", async () => {
  const mine = await token();
  for (let times = 0; times < 5; times += 1) expect((await ask(mine)).status).toBe(200);
  expect(await verifications()).toBe(1);
  expect(await counted("mc_edge_credentials_total", 'credential="jwt_svid"', 'outcome="known"')).toBe(5);
  // Of another tenant it opens nothing, there or not.
  objects.set("tuf/other/timestamp.json", utf8("{}"));
  const elsewhere = new Request("https://edge.test/tuf/other/timestamp.json", {
    headers: { authorization: `Bearer ${mine}` },
  });
  expect((await edge.fetch(elsewhere)).status).toBe(404);
});

test("a verdict ends with its SVID, 60 s after its exp at the latest, and not before", async () => {
  const mine = await token({ minutes: 1 });
  expect((await ask(mine)).status).toBe(200);
  now += 120_000 - 1;
  expect((await ask(mine)).status).toBe(200);
  now += 1;
  const late = await ask(mine);
  expect([late.status, (await told(late)).detail]).toEqual([
    401,
    "The SVID was refused (JWT-SVID 3.3): the token has expired.",
  ]);
});

test("a verdict does not outlive a clock that is put back before the SVID was valid", async () => {
  const seconds = now / 1_000;
  const early = await token({ nbf: seconds + 30 });
  expect((await ask(early)).status).toBe(200);
  now -= 31_000;
  expect((await told(await ask(early))).detail).toContain("lies ahead");
});

test("verdicts are so many at most, the longest unused goes first", async () => {
  const verdicts = new Verdicts(3);
  const parsed = parseSpiffeId(id);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  const verdict = { id: parsed.value, bundleDigest: "b", fromMs: 0, untilMs: 10 };
  for (const digest of ["one", "two", "three"]) verdicts.keep(digest, verdict);
  expect(verdicts.holds("one", "b", 1)).toBe(true);
  verdicts.keep("four", verdict);
  expect(["one", "two", "three", "four"].filter((digest) => verdicts.idOf(digest) !== null)).toEqual([
    "one",
    "three",
    "four",
  ]);
});

test("an authority that was taken out of the bundle is believed for 5 s more, and never again", async () => {
  const mine = await token();
  expect((await ask(mine)).status).toBe(200);
  objects.set(trustKey("acme", "td.example"), bundle(2, [jwtEntry(other, "k2")]));
  now += trustMsMax - 1;
  expect((await ask(mine)).status).toBe(200);
  now += 1;
  expect((await ask(mine)).status).toBe(401);
  // The bundle from before it, again in the store: neither it nor its authority is taken.
  objects.set(trustKey("acme", "td.example"), bundle(1));
  now += trustMsMax;
  const back = await ask(mine);
  expect([back.status, back.headers.get("retry-after")]).toEqual([503, "1"]);
  for (let times = 0; times < 3; times += 1) expect((await ask(mine)).status).toBe(503);
  expect(logged.filter((line) => line.includes("not taken"))).toEqual([expect.stringContaining("before 2")]);
  objects.set(trustKey("acme", "td.example"), bundle(3));
  now += trustMsMax;
  expect((await ask(mine)).status).toBe(200);
});

/** What the store has from now on: a bundle, and of which statement it is. */
async function place(document: Uint8Array, statedMs: number | null, of = document): Promise<void> {
  objects.set(trustKey("acme", "td.example"), document);
  if (statedMs === null) objects.delete(statedKey("acme", "td.example"));
  else {
    const text = statedText({ bundle_sha256: await sha256Hex(of), stated_ms: statedMs });
    objects.set(statedKey("acme", "td.example"), utf8(text));
  }
  now += trustMsMax;
}
const status = async (): Promise<number> => (await ask(await token())).status;

test("a trust domain that is stated anew begins anew, whatever sequence and distrusts it had; the one of before is never taken again", async () => {
  const distrusting = utf8(
    bundleDocument([authorityEntry(root), jwtEntry(keys, "k1")], { spiffe_sequence: 9, maestro_distrusts: 2 }),
  );
  await place(distrusting, 1_000);
  expect(await status()).toBe(200);
  await place(bundle(3), 2_000);
  expect(await status()).toBe(200);
  // As it was before it, whole: a store that shows it goes back.
  await place(distrusting, 1_000);
  expect(await status()).toBe(503);
  expect(logged.at(-1)).toContain("as it was stated before");
  await place(bundle(4), 2_000);
  expect(await status()).toBe(200);
});

test("within one statement no bundle goes back, whatever stands beside it", async () => {
  await place(bundle(9), 1_000);
  expect(await status()).toBe(200);
  const older = bundle(8);
  // Its own statement; none; another bundle's; one that is no statement at all.
  for (const [statedMs, of] of [
    [1_000, older],
    [null, older],
    [2_000, bundle(9)],
  ] as const) {
    await place(older, statedMs, of);
    expect(await status()).toBe(503);
  }
  objects.set(statedKey("acme", "td.example"), utf8('{"stated_ms":"2000"}'));
  now += trustMsMax;
  expect(await status()).toBe(503);
  // Stated anew with the same bytes, it is the new statement that nothing goes back in.
  await place(bundle(9), 2_000);
  expect(await status()).toBe(200);
  await place(older, 2_000);
  expect(await status()).toBe(503);
});

test("a statement that comes a moment after its bundle counts once it is there", async () => {
  await place(bundle(9), 1_000);
  expect(await status()).toBe(200);
  await place(bundle(1), 1_000, bundle(9));
  expect(await status()).toBe(503);
  await place(bundle(1), 2_000);
  expect(await status()).toBe(200);
});

test("an API that says of no bundle which statement it is of is one whose bundles do not go back", async () => {
  await place(bundle(2), null);
  expect(await status()).toBe(200);
  await place(bundle(1), null);
  expect(await status()).toBe(503);
  // A newer API says so of the bundle that is held, and then of one that is stated anew.
  await place(bundle(2), 1_000);
  expect(await status()).toBe(200);
  await place(bundle(1), 2_000);
  expect(await status()).toBe(200);
});

test("an empty bundle refuses all, a broken or missing one lets nobody in", async () => {
  const mine = await token();
  objects.set(trustKey("acme", "td.example"), bundle(2, []));
  expect((await ask(mine)).status).toBe(401);
  objects.set(trustKey("acme", "td.example"), utf8("{"));
  now += trustMsMax;
  expect((await ask(mine)).status).toBe(503);
  objects.delete(trustKey("acme", "td.example"));
  now += trustMsMax;
  expect((await ask(mine)).status).toBe(401);
});

test("a workload that was taken out is a stranger after 5 s", async () => {
  const mine = await token();
  expect((await ask(mine)).status).toBe(200);
  objects.delete(workloadKey(await sha256Hex(utf8(id))));
  now += workloadMsMax - 1;
  expect((await ask(mine)).status).toBe(200);
  now += 1;
  expect((await told(await ask(mine))).detail).toContain("There is no key or SVID");
});

test("who is not registered hears what everybody hears, whatever is wrong with the SVID", async () => {
  const strange = "spiffe://td.example/tenant/acme/fetcher/none";
  const foreign = "spiffe://elsewhere.example/fetcher";
  const answers = await Promise.all(
    [
      "garbage",
      await token({ sub: strange }),
      await token({ sub: strange, minutes: -10 }),
      await token({ sub: foreign }),
      await token({ sub: "spiffe://td.example" }),
      await token({ sub: "somebody" }),
    ].map(async (bearer) => await told(await ask(bearer))),
  );
  for (const { code, detail } of answers)
    expect({ code, detail }).toEqual({
      code: "fetcher_key_needed",
      detail: "There is no key or SVID in the request, or it is unknown, expired or revoked.",
    });
  expect(await verifications()).toBe(0);
});

test("a file of another SPIFFE ID under the name of one's own opens nothing", async () => {
  objects.set(workloadKey(await sha256Hex(utf8(id))), workloadOf(second));
  expect((await ask(await token())).status).toBe(401);
  const good = { fetcher_id: "pri_x", tenant: "acme", spiffe_id: id, trust_domain: "td.example" };
  for (const [broken, isBroken] of [
    [{}, true],
    [{ ...good, tenant: "acme/.." }, true],
    [{ ...good, fetcher_id: "" }, true],
    [{ ...good, trust_domain: "other.example" }, false],
  ] as const) {
    logged = [];
    objects.set(workloadKey(await sha256Hex(utf8(id))), utf8(JSON.stringify(broken)));
    now += workloadMsMax;
    expect((await ask(await token())).status, JSON.stringify(broken)).toBe(401);
    expect(logged.some((line) => line.includes("a workload's file is broken"))).toBe(isBroken);
  }
  objects.set(workloadKey(await sha256Hex(utf8(id))), utf8(JSON.stringify(good)));
  now += workloadMsMax;
  expect((await ask(await token())).status).toBe(200);
});

test("whoever is registered hears which rule the SVID breaks", async () => {
  const details: Record<string, string> = {};
  for (const [name, bearer] of Object.entries({
    audience: await token({ aud: "maestro-api" }),
    expired: await token({ minutes: -10 }),
    signature: await token({ by: other }),
    authority: await token({ by: other, kid: "k2" }),
  })) {
    const answer = await ask(bearer);
    expect(answer.status).toBe(401);
    details[name] = (await told(answer)).detail;
  }
  expect(details).toEqual({
    audience: "The SVID was refused (JWT-SVID 3.2): the token is for another audience.",
    expired: "The SVID was refused (JWT-SVID 3.3): the token has expired.",
    signature: "The SVID was refused (JWT-SVID 4): the token's signature does not hold.",
    authority: "The SVID was refused (JWT-SVID 4): the bundle has no key of the token's kid.",
  });
});

test("a key whose file has no time as its end opens nothing", async () => {
  const file = `fetchers/${await apiKeyDigest(key)}.json`;
  expect((await ask(key)).status).toBe(200);
  for (const end of ["never", "", 0, "2026-99-99T00:00:00.000Z"]) {
    objects.set(file, utf8(JSON.stringify({ fetcher_id: "key_x", tenant: "acme", expires_at: end })));
    now += fetcherMsMax;
    expect((await ask(key)).status, String(end)).toBe(401);
    expect(logged.at(-1)).toContain("a fetcher's file is broken");
  }
  objects.set(
    file,
    utf8(
      JSON.stringify({
        fetcher_id: "key_x",
        tenant: "acme",
        expires_at: new Date(now + 2 * fetcherMsMax).toISOString(),
      }),
    ),
  );
  now += 2 * fetcherMsMax - 1;
  expect((await ask(key)).status).toBe(200);
  now += 1;
  expect((await ask(key)).status).toBe(401);
});

test("a client certificate counts where no Authorization came, and headers that look like one never do", async () => {
  const leaf = await newLeaf(root, id);
  const item = `:${base64(leaf)}:`;
  const forged = {
    "client-cert": item,
    "x-client-cert": item,
    "cf-client-cert-der-base64": base64(leaf),
    "x-forwarded-client-cert": item,
  };
  expect((await ask(null, forged)).status).toBe(401);
  presented = { certPresented: "1", certVerified: "FAILED:self signed certificate", certRFC9440: item };
  for (let times = 0; times < 3; times += 1) expect((await ask(null)).status).toBe(200);
  expect(await verifications()).toBe(1);
  expect((await ask("garbage")).status).toBe(401);
  expect((await ask(null, { authorization: "Basic eDp5" })).status).toBe(401);
  expect((await ask(await token())).status).toBe(200);
  now = madeAtMs + 60 * minuteMs;
  expect((await ask(null)).status).toBe(200);
  now += 1;
  expect((await told(await ask(null))).detail).toContain("RFC 5280 4.1.2.5");
});

test("a certificate of another authority, and what is no certificate, open nothing", async () => {
  const stranger = await newAuthority("td.example", { name: "authority" });
  presented = { certPresented: "1", certRFC9440: `:${base64(await newLeaf(stranger, id))}:` };
  expect((await ask(null)).status).toBe(401);
  presented = { certPresented: "1", certRFC9440: ":AAAA:" };
  expect((await ask(null)).status).toBe(401);
});

test("a flood of SVIDs of one ID is shed, and holds up nobody who is known, nor another ID", async () => {
  const mine = await token();
  const theirs = await token({ sub: second });
  expect((await ask(mine)).status).toBe(200);
  // Signed by nobody: each costs the edge a signature, and the flooder none.
  const [head = "", claims = ""] = mine.split(".");
  const most = eachBounds.burstMicros / 60;
  const flood = Array.from({ length: most + 200 }, (_, index) =>
    ask(`${head}.${claims}.${Buffer.from(`${index}`.padStart(64, "0")).toString("base64url")}`),
  );
  const answers = await Promise.all(flood);
  const shed = answers.filter(({ status }) => status === 503);
  expect(shed.length).toBeGreaterThanOrEqual(200);
  expect(answers.filter(({ status }) => status === 401).length).toBeLessThanOrEqual(most);
  expect([shed[0]!.headers.get("retry-after"), (await told(shed[0]!)).code]).toEqual(["1", "identity_busy"]);
  const before = await verifications();
  expect([(await ask(mine)).status, (await ask(key)).status]).toEqual([200, 200]);
  expect(await verifications()).toBe(before);
  expect((await ask(theirs)).status).toBe(200);
  now += 1_000;
  expect((await ask(await token({ jti: "renewed" }))).status).toBe(200);
});

test("of a SPIFFE ID its digest is remembered, however long it is, but for the verdict", async () => {
  const long = `${id}/${"x".repeat(1_900)}`;
  objects.set(workloadKey(await sha256Hex(utf8(long))), workloadOf(long));
  const names = [
    vi.spyOn(WorkBudget.prototype, "take"),
    vi.spyOn(GoodLately.prototype, "has"),
    vi.spyOn(GoodLately.prototype, "note"),
  ];
  onTestFinished(() => names.forEach((spy) => spy.mockRestore()));
  expect((await ask(await token({ sub: long }))).status).toBe(200);
  const digest = await sha256Hex(utf8(long));
  expect(names.map((spy) => spy.mock.calls.map(([name]) => name))).toEqual([[digest], [digest], [digest]]);
});

test("what held is asked anew by a clock that was put back behind its beginning", () => {
  const verdicts = new Verdicts(8);
  const id = spiffeIdOf("spiffe://acme.example/fetcher/one");
  const keep = () => verdicts.keep("c0", { id, bundleDigest: "b0", fromMs: 1_000, untilMs: 2_000 });
  const holds = (now: number, bundle = "b0"): boolean => {
    keep();
    return verdicts.holds("c0", bundle, now);
  };
  expect([holds(999), holds(1_000), holds(1_999), holds(2_000), holds(1_500, "b1")]).toEqual([
    false,
    true,
    true,
    false,
    false,
  ]);
});

test("work comes back with time, and all together have a bound of their own", () => {
  const budget = new WorkBudget();
  const spend = (name: string): number => {
    let times = 0;
    while (budget.take(name, 1_000, 1_000)) times += 1;
    return times;
  };
  expect(["one", "two", "three"].map(spend)).toEqual([
    eachBounds.burstMicros / 1_000,
    (allBounds.burstMicros - eachBounds.burstMicros) / 1_000,
    0,
  ]);
  expect(budget.take("one", eachBounds.microsPerSecond, 1_999)).toBe(false);
  expect(budget.take("one", eachBounds.microsPerSecond, 2_000)).toBe(true);
  // A clock that was put back gives nothing.
  expect(budget.take("one", 1_000, 0)).toBe(false);
});
