// Packs and quick links over HTTP: from a finished run to a pack that verifies offline; and what holders of links get wrong.

import { createHash } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { loadSecrets } from "../../scripts/stack/state.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { DisclosureLink } from "../../shared/contract/http-executions.ts";
import { readArchive } from "../../shared/disclosure/archive.ts";
import { linkLifeMs, signLink } from "../../shared/disclosure/link.ts";
import { verifyPack } from "../../shared/disclosure/verify.ts";
import { importSigner } from "../../shared/signing/keys.ts";
import { localApi } from "../support/api.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import {
  freshKey,
  installPackage,
  jsonCall,
  manifestOf,
  must,
  publishRelease,
  registeredSigner,
} from "../support/publisher.ts";
import { askForLink, finishedRun, linkOf } from "../support/runs.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const name = "disclosure/probe";
const costly = "disclosure/costly";
const hash = (bytes: Uint8Array) => new Uint8Array(createHash("sha256").update(bytes).digest());
let api: Contract;
let tenant: SeededTenant;
let stranger: SeededTenant;
let keys: PublishedKeys;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("disclosure");
  stranger = await stack.seedTenant("disclosure-stranger");
  await installPackage(api, tenant, name);
  keys = (await api.fetch("/api/audit/keys")).json;
});

const run = () => finishedRun(api, tenant, name);
const link = async (id: string, query = "") => linkOf(api, tenant.keys.auditor, id, query);
const pathOf = ({ url }: { url: string }): string => url.slice(stack.apiUrl.length);
const opened = (of: DisclosureLink, headers: Record<string, string> = {}) => api.fetch(pathOf(of), { headers });
const refusal = async (of: DisclosureLink, headers: Record<string, string> = {}) => {
  const { status, json } = await opened(of, headers);
  return [status, json?.code ?? null];
};
const revoke = (id: string, who = tenant, headers: Record<string, string> = {}) =>
  api.fetch(`/api/disclosures/grants/${id}`, jsonCall(who.keys.auditor, "DELETE", undefined, headers));
const json = (files: ReadonlyMap<string, Uint8Array>, file: string) =>
  JSON.parse(new TextDecoder().decode(files.get(file))) as Record<string, never>;

describe("a pack", () => {
  test("MC-AUD-1912: the quick link comes within 60 s of the finish, and its pack verifies offline, the same one each time", async () => {
    const id = await run();
    const finishedAt = Date.now();
    const first = await link(id);
    expect(Date.now() - finishedAt).toBeLessThan(60_000);
    const pack = await opened(first);
    expect([pack.status, pack.bytes.length]).toEqual([200, first.bytes]);
    expect(createHash("sha256").update(pack.bytes).digest("hex")).toBe(first.sha256);
    expect(await verifyPack(pack.bytes, keys, hash)).toMatchObject({
      ok: true,
      facts: { pack_version: 3, tenant_id: tenant.tenant_id, execution_id: id, outcome: "succeeded", not_proven: [] },
    });
    const again = await Promise.all([link(id), link(id)]);
    expect(again.map(({ sha256 }) => sha256)).toEqual([first.sha256, first.sha256]);
  });

  test("tells the decision, the entitlement and who reviewed it, the release, the budget and what the run spent, each proven", async () => {
    const signer = await registeredSigner(api, tenant);
    const release = await publishRelease(api, tenant, signer, manifestOf(costly, { privacy_units: 10 }));
    const { keys: of, principals } = tenant;
    const put = { limit_units: 1_000, leak_units_per_hour: 0 };
    must(200, await api.fetch("/api/privacy/budget", jsonCall(of.admin, "PUT", put)));
    const proposal = { entitlements: [{ package: costly, channel: "stable", allowed: true }], reason: "a test" };
    const changes = "/api/market/entitlement-changes";
    const { id: change } = must(201, await api.fetch(changes, jsonCall(of.operator, "POST", proposal))).json;
    must(200, await api.fetch(`${changes}/${change}/approve`, jsonCall(of.admin, "POST")));
    must(200, await api.fetch(`${changes}/${change}/apply`, jsonCall(of.admin, "POST")));
    must(201, await api.fetch("/api/market/installs", jsonCall(of.operator, "POST", { package: costly })));
    const id = await finishedRun(api, tenant, costly);
    const { bytes } = await opened(await link(id));
    expect(await verifyPack(bytes, keys, hash)).toMatchObject({ ok: true });
    const read = readArchive(bytes);
    if (!read.ok) throw new Error(read.reason);
    const types = (folder: string) =>
      [...read.files.keys()]
        .filter((file) => file.startsWith(`${folder}/`) && file.endsWith(".json"))
        .map((file) => String(json(read.files, file)["type"]))
        .toSorted();
    expect(types("events")).toEqual([
      "mc.execution.finished",
      "mc.execution.started",
      "mc.policy.decision",
      "mc.privacy.reserved",
      "mc.privacy.settled",
      "mc.receipt.signed",
    ]);
    expect(types("context")).toEqual([
      "mc.entitlement.changed",
      ...Array<string>(3).fill("mc.entitlement.reviewed"),
      "mc.privacy.budget_set",
      "mc.release.published",
      "mc.release.reviewed",
      "mc.release.submitted",
    ]);
    expect(json(read.files, "appendix/privacy-budget.json")).toMatchObject({
      declared: { units: 10 },
      budget: { limit_units: 1_000 },
      reserved: { units: 10, remaining_units: 990 },
      settled: { units: 10, remaining_units: 990 },
      refunded: null,
      remaining: { units: 990 },
    });
    expect(json(read.files, "appendix/access-reviews.json")).toMatchObject({
      entitlement: { outcome: "granted" },
      entitlement_reviews: [
        { outcome: "proposed", principal: principals.operator, change_id: change },
        { outcome: "approved", principal: principals.admin, change_id: change },
        { outcome: "applied", principal: principals.admin, change_id: change },
      ],
      release_reviews: [{ outcome: "in_review" }, { outcome: "approved" }, { type: "mc.release.published" }],
    });
    const index = json(read.files, "index.json") as unknown as { dsseEnvelope: { payload: string } };
    const { predicate } = JSON.parse(Buffer.from(index.dsseEnvelope.payload, "base64").toString()) as {
      predicate: { policies: { sha256: string }[]; release: { sha256: string } };
    };
    expect(predicate.release.sha256).toBe(release.artifact_sha256);
    expect(predicate.policies).toHaveLength(2);
    expect(new Set(predicate.policies.map(({ sha256 }) => sha256)).size).toBe(1);
  });

  test("does not verify by keys that the verifier does not trust, nor with any byte of a file changed", async () => {
    const { bytes } = await opened(await link(await run()));
    expect(await verifyPack(bytes, { ...keys, keys: [] }, hash)).toMatchObject({ ok: false, file: "index.json" });
    expect(await verifyPack(bytes, { ...keys, origin_prefix: "elsewhere/log" }, hash)).toMatchObject({ ok: false });
    for (const needle of ['"mc.execution.finished"', "c2sp.org/tlog-proof", "How to check it", "dsseEnvelope"]) {
      const at = Buffer.from(bytes).indexOf(needle);
      expect(at, needle).toBeGreaterThan(0);
      const forged = bytes.slice();
      forged[at + 2] = forged[at + 2]! ^ 1;
      expect((await verifyPack(forged, keys, hash)).ok, needle).toBe(false);
    }
    expect(await verifyPack(bytes.slice(0, -30), keys, hash)).toMatchObject({ ok: false });
    expect(await verifyPack(new Uint8Array(100), keys, hash)).toMatchObject({ ok: false });
  });

  test("of a run that does not run here is the 404 of one that never was, and of one that still runs a 409", async () => {
    const id = await run();
    const { id: running } = (
      await api.fetch("/api/executions", jsonCall(tenant.keys.operator, "POST", { package: name }))
    ).json;
    const bare = async (key: string, of: string) => ({ ...(await askForLink(api, key, of)).json, request_id: "" });
    expect(await bare(stranger.keys.auditor, id)).toEqual(await bare(stranger.keys.auditor, `exe_${"0".repeat(26)}`));
    expect((await askForLink(api, tenant.keys.auditor, running)).json.code).toBe("execution_running");
  });

  test("is measured once a run, from its finish to its first link, in the histogram mc_disclosure_link_tat_ms", async () => {
    const metrics = async () =>
      new TextDecoder().decode((await api.fetch("/api/metrics", jsonCall(tenant.keys.viewer, "GET"))).bytes);
    const sample = (text: string, series: string): number =>
      Number(
        text
          .split("\n")
          .find((line) => line.startsWith(`${series} `))
          ?.slice(series.length + 1) ?? 0,
      );
    const before = await metrics();
    const ids = [await run(), await run()];
    for (const id of [...ids, ...ids]) await link(id);
    const after = await metrics();
    const grown = (series: string) => sample(after, series) - sample(before, series);
    expect(grown("mc_disclosure_link_tat_ms_count")).toBe(2);
    expect(grown('mc_disclosure_link_tat_ms_bucket{le="+Inf"}')).toBe(2);
    expect(grown('mc_disclosure_link_tat_ms_bucket{le="60000"}')).toBe(2);
    expect(grown("mc_disclosure_link_tat_ms_sum")).toBeLessThan(120_000);
    expect(after).toContain("# TYPE mc_disclosure_link_tat_ms histogram\n");
    const ends = [...after.matchAll(/_tat_ms_bucket\{le="([^"]+)"\} (\d+)/g)].map((match) => Number(match[2]));
    expect(ends).toEqual(ends.toSorted((left, right) => left - right));
  });
});

describe("a link", () => {
  let id: string;
  beforeAll(async () => {
    id = await run();
  });

  test("resumes by Range: from a byte on, between two, the last ones; a range beyond the end says how long the pack is", async () => {
    const of = await link(id);
    const whole = (await opened(of)).bytes;
    const size = whole.length;
    for (const [range, from, to] of [
      ["bytes=100-", 100, size - 1],
      ["bytes=10-19", 10, 19],
      ["bytes=-30", size - 30, size - 1],
      [`bytes=-${size + 5}`, 0, size - 1],
      [`bytes=${size - 1}-${size + 5}`, size - 1, size - 1],
    ] as const) {
      const part = await opened(of, { range });
      expect([part.status, part.headers.get("content-range")], range).toEqual([206, `bytes ${from}-${to}/${size}`]);
      expect(part.bytes, range).toEqual(whole.slice(from, to + 1));
    }
    for (const range of [`bytes=${size}-`, `bytes=${size}-${size + 1}`, "bytes=-0"]) {
      const beyond = await fetch(of.url, { headers: { range } });
      expect([beyond.status, beyond.headers.get("content-range")], range).toEqual([416, `bytes */${size}`]);
    }
    // What is no single range of bytes is as if it were not there (RFC 9110, 14.2).
    for (const range of ["bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-"]) {
      expect((await opened(of, { range })).status, range).toBe(200);
    }
  });

  test("resumes with If-Range only what is the same pack still", async () => {
    const of = await link(id);
    const range = "bytes=7-9";
    const answers = [`"${of.sha256}"`, `"${"0".repeat(64)}"`, `W/"${of.sha256}"`, "Wed, 21 Oct 2026 07:28:00 GMT"].map(
      (ifRange) => opened(of, { range, "if-range": ifRange }),
    );
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([206, 200, 200, 200]);
  });

  test("altered in any part of it, or never made, is refused alike, and tells nothing", async () => {
    const token = pathOf(await link(id)).slice("/api/disclosures/".length);
    const [head, payload, signature] = token.split(".") as [string, string, string];
    const decoded = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>;
    const header = JSON.parse(Buffer.from(head, "base64url").toString()) as Record<string, unknown>;
    const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const claims = (change: object) => `${head}.${encoded({ ...decoded, ...change })}.${signature}`;
    const flipped = signature.startsWith("A") ? `B${signature.slice(1)}` : `A${signature.slice(1)}`;
    const forged = [
      `${head}.${payload}.${flipped}`,
      `${head}.${payload}.`,
      `${head}.${payload}`,
      claims({ sub: stranger.tenant_id }),
      claims({ exp: Number(decoded["exp"]) + 1 }),
      claims({ sha256: "0".repeat(64) }),
      claims({ jti: `grt_${"0".repeat(26)}` }),
      claims({ audience: stranger.principals.auditor }),
      `${encoded({ ...header, alg: "none" })}.${payload}.`,
      `${encoded({ ...header, kid: "0".repeat(64) })}.${payload}.${signature}`,
      "not-a-token",
    ];
    const told = new Set<string>();
    for (const one of forged) {
      const answer = await api.fetch(`/api/disclosures/${one}`);
      expect([answer.status, answer.json.code], one).toEqual([403, "link_invalid"]);
      told.add(JSON.stringify({ ...answer.json, request_id: "" }));
      expect((await fetch(`${stack.apiUrl}/api/disclosures/${one}`, { method: "HEAD" })).status).toBe(403);
    }
    expect(told.size).toBe(1);
  });

  test("that has expired says so, and no more", async () => {
    const { worker_keys } = await loadSecrets(stack.folder);
    const signer = await importSigner(worker_keys.LINK_KEY, "P-256");
    const of = await link(id);
    const [, payload] = pathOf(of).split(".");
    const claims = JSON.parse(Buffer.from(payload!, "base64url").toString()) as Parameters<typeof signLink>[1];
    const { sub, jti, execution_id, sha256, pack_version } = claims;
    const sign = (at: number) => signLink(signer, { sub, jti, execution_id, sha256, pack_version }, at);
    const fresh = await api.fetch(`/api/disclosures/${(await sign(Date.now())).token}`);
    expect(fresh.status).toBe(200);
    const expired = await api.fetch(`/api/disclosures/${(await sign(Date.now() - linkLifeMs - 1_000)).token}`);
    expect([expired.status, expired.json]).toEqual([410, expect.objectContaining({ code: "link_expired" })]);
    expect(JSON.stringify(expired.json)).not.toMatch(new RegExp(`${id}|${of.sha256}|${tenant.tenant_id}`));
  });

  test("is revoked by who may give links, at once and for good, and by no other tenant; again it is the same answer", async () => {
    const of = await link(id);
    expect((await revoke(of.grant_id, stranger)).status).toBe(404);
    expect((await opened(of)).status).toBe(200);
    const denied = await api.fetch(`/api/disclosures/grants/${of.grant_id}`, jsonCall(tenant.keys.viewer, "DELETE"));
    expect([denied.status, denied.json.code]).toEqual([403, "role_too_low"]);
    const key = { "idempotency-key": freshKey() };
    const revoked = must(200, await revoke(of.grant_id, tenant, key)).json;
    const replayed = await revoke(of.grant_id, tenant, key);
    expect([replayed.headers.get("idempotency-replayed"), replayed.json]).toEqual(["true", revoked]);
    expect(revoked).toMatchObject({ grant_id: of.grant_id, execution_id: id });
    expect((await revoke(of.grant_id)).json).toEqual(revoked);
    for (const headers of [{}, { range: "bytes=5-" }, { range: `bytes=${of.bytes}-` }]) {
      expect(await refusal(of, headers)).toEqual([410, "link_revoked"]);
    }
    expect((await fetch(of.url, { method: "HEAD" })).status).toBe(410);
    const missing = await revoke(`grt_${"0".repeat(26)}`);
    expect([missing.status, missing.json.code]).toEqual([404, "not_found"]);
    expect((await opened(await link(id))).status).toBe(200);
  });

  test("for one time is used up by the first whole download; what broke is resumed, a replay is refused", async () => {
    const of = await link(id, "?one_time=true");
    expect([of.one_time, of.audience]).toEqual([true, null]);
    expect((await fetch(of.url, { method: "HEAD" })).status).toBe(200);
    expect((await opened(of, { range: "bytes=0-0" })).status).toBe(206);
    const both = await Promise.all([opened(of), opened(of)]);
    expect(both.map(({ status }) => String(status)).toSorted()).toEqual(["200", "410"]);
    expect((await opened(of, { range: `bytes=${of.bytes - 10}-` })).bytes).toHaveLength(10);
    expect(await refusal(of)).toEqual([410, "link_used"]);
    expect(await refusal(of, { range: "bytes=1-" })).toEqual([410, "link_used"]);
  });

  test("for one principal works with their credential alone: nobody's and another's are told nothing of it", async () => {
    const audience = stranger.principals.auditor;
    const of = await link(id, `?audience=${audience}`);
    expect(of.audience).toBe(audience);
    const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
    expect(await refusal(of)).toEqual([401, "unauthenticated"]);
    expect(await refusal(of, bearer(tenant.keys.admin))).toEqual([403, "link_audience"]);
    expect(await refusal(of, bearer("mk_nobody"))).toEqual([401, "unauthenticated"]);
    const whole = await opened(of, bearer(stranger.keys.auditor));
    expect([whole.status, whole.bytes.length]).toEqual([200, of.bytes]);
    expect((await opened(of, { ...bearer(stranger.keys.auditor), range: "bytes=0-9" })).bytes).toHaveLength(10);
  });

  test.each(["?one_time=yes", "?audience=someone", "?audience=", "?more=1", "?one_time=true&one_time=false"])(
    "asked for with %s is refused",
    async (query) => {
      const answer = await askForLink(api, tenant.keys.auditor, id, query);
      expect([answer.status, answer.json.code]).toEqual([400, "invalid_request"]);
    },
  );

  test("HEAD tells a pack's size and digest, with no body, whatever Range it names", async () => {
    const of = await link(id);
    const head = await fetch(of.url, { method: "HEAD", headers: { range: "bytes=0-0" } });
    expect([head.status, head.headers.get("content-length"), head.headers.get("etag")]).toEqual([
      200,
      String(of.bytes),
      `"${of.sha256}"`,
    ]);
    expect((await head.arrayBuffer()).byteLength).toBe(0);
  });

  test("is in the log with what was done by it: made, downloaded once with what resumes and repeats it, revoked", async () => {
    const own = await run();
    const of = await link(own);
    const path = pathOf(of);
    await fetch(of.url, { method: "HEAD" });
    await api.fetch(path);
    await api.fetch(path, { headers: { range: "bytes=5-" } });
    await Promise.all(Array.from({ length: 20 }, () => api.fetch(path, { headers: { range: "bytes=0-0" } })));
    await fetch(of.url, { method: "HEAD" });
    must(200, await revoke(of.grant_id));
    const query = `FIND events WHERE execution_id = "${own}" TOP 20 BY type SINCE 1h`;
    const asked = () => api.fetch("/api/pql", jsonCall(tenant.keys.auditor, "POST", { query }));
    await expect
      .poll(
        async () =>
          (await asked()).json.groups.filter(({ name: type }: { name: string }) => type.startsWith("mc.disclosure")),
        { timeout: 20_000 },
      )
      .toEqual([
        { name: "mc.disclosure.downloaded", total: 1 },
        { name: "mc.disclosure.linked", total: 1 },
        { name: "mc.disclosure.revoked", total: 1 },
      ]);
  });
});

test("where the audit worker does not answer, its callers are told to ask again, and why is in the log", async () => {
  const id = await run();
  const broken = () => Promise.reject(new Error("a bucket that is down"));
  const audit = { disclosureLink: broken, disclosureDownload: broken, disclosureRevoke: broken };
  const local = await localApi(stack, { audit });
  for (const [path, init] of [
    [`/api/executions/${id}/disclosure:link`, jsonCall(tenant.keys.auditor, "GET")],
    [`/api/disclosures/grants/grt_${"0".repeat(26)}`, jsonCall(tenant.keys.auditor, "DELETE")],
    ["/api/disclosures/token", {}],
  ] as const) {
    const answer = await local.fetch(path, init);
    expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(await answer.json()).toMatchObject({ code: "audit_unavailable" });
  }
  expect(local.logged.filter(({ message }) => message === "the audit worker did not answer")).toHaveLength(3);
  expect(JSON.stringify(local.logged)).not.toContain("a bucket that is down");
});

describe("the flag audit_rt_export", () => {
  const flag = async (enabled: boolean) =>
    must(
      200,
      await api.fetch("/api/flags", jsonCall(stranger.keys.admin, "PUT", { flag: "audit_rt_export", enabled })),
    );
  const packVersion = async () => {
    const answer = await askForLink(api, stranger.keys.auditor, ready);
    return answer.status === 200 ? answer.json.pack_version : answer.status;
  };
  let ready: string;

  test("off: packs are of version 2, and a link to what is not exported yet waits for the end of the period; on: both as before", async () => {
    const own = "disclosure/periodic";
    await installPackage(api, stranger, own);
    ready = await finishedRun(api, stranger, own);
    const third = await linkOf(api, stranger.keys.auditor, ready);
    expect(third.pack_version).toBe(3);
    await flag(false);
    await expect.poll(packVersion, { timeout: 20_000 }).toBe(2);
    // What was sealed before is exported already: its pack comes at once, without proofs.
    const second = await linkOf(api, stranger.keys.auditor, ready);
    const { bytes } = await opened(second);
    const verdict = await verifyPack(bytes, keys, hash);
    expect(verdict).toMatchObject({ ok: true, facts: { pack_version: 2, execution_id: ready, context_count: 0 } });
    expect(verdict.ok && verdict.facts.not_proven).toHaveLength(3);

    // What was due to be sealed before the switch still is, within a second; and the period must not end just now.
    const periodS = 120;
    const leftS = () => periodS - ((Date.now() / 1_000) % periodS);
    await pause(leftS() < 15 ? 16_000 : 1_500);
    const waiting = await finishedRun(api, stranger, own);
    const answer = await askForLink(api, stranger.keys.auditor, waiting);
    expect([answer.status, answer.json.state]).toEqual([202, "building"]);
    const waitS = Number(answer.headers.get("retry-after"));
    expect(answer.json.retry_after_s).toBe(waitS);
    expect(waitS).toBeGreaterThanOrEqual(Math.floor(leftS()));
    expect(waitS).toBeLessThanOrEqual(Math.ceil(leftS()) + 15);
    await flag(true);
    await expect.poll(packVersion, { timeout: 20_000 }).toBe(3);
    const after = await linkOf(api, stranger.keys.auditor, waiting);
    expect(after.pack_version).toBe(3);
    expect(await verifyPack((await opened(after)).bytes, keys, hash)).toMatchObject({ ok: true });
    // Both packs of the first run stand, each with its digest.
    expect((await linkOf(api, stranger.keys.auditor, ready)).sha256).toBe(third.sha256);
    expect((await opened(second)).status).toBe(200);
  });
});
