// The platform's own workers between each other, on a stack of this file's own with one worker more: a rogue in the same account,
// which has bound all that they have bound.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { platformTrustDomain, startStack, type Stack } from "../../scripts/stack/index.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { projectFolder, workerConfigs } from "../../scripts/stack/workers.ts";
import { writeAttestation, rawSignature } from "../../shared/identity/platform/attestation.ts";
import { svidClaims } from "../../shared/identity/issue/issue-svid.ts";
import { compactJws } from "../../shared/identity/issue/jws.ts";
import type { EmergencyProposal, Rotation } from "../../shared/contract/http-rotations.ts";
import type { Issued, WorkerAnswer } from "../../shared/identity/platform/service.ts";
import { importSigner, type Signer } from "../../shared/signing/keys.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { anotherPerson } from "../support/people.ts";
import { jsonCall, manifestOf, must, publishRelease, registeredSigner } from "../support/publisher.ts";

type Answered = { readonly answer?: unknown; readonly threw?: string };

let folder: string;
let stack: Stack;
let tenant: SeededTenant;
let api: Contract;
/** The keys of the stack's secrets. */
let keys: Record<"authority" | "api" | "audit", Signer>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "maestro-workers-"));
  const rogue = join(projectFolder, "test/workerd/rogue-worker/wrangler.toml");
  stack = await startStack({
    folder,
    workerConfigs: [...workerConfigs.map((path) => join(projectFolder, path)), rogue],
  });
  tenant = await stack.seedTenant("workers");
  api = await contractOf(stack.apiUrl);
  const secrets = JSON.parse(readFileSync(join(folder, "secrets.json"), "utf8")) as {
    identity_keys: Record<keyof typeof keys, string>;
  };
  const signers = Object.entries(secrets.identity_keys).map(
    async ([name, key]) => [name, await importSigner(key, "P-256")] as const,
  );
  keys = Object.fromEntries(await Promise.all(signers)) as typeof keys;
}, 120_000);
afterAll(async () => {
  await stack.stop();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

async function rogue(binding: string, method: string, given: readonly unknown[], object?: string): Promise<Answered> {
  const worker = await stack.miniflare.getWorker("rogue");
  const body = JSON.stringify({ binding, method, given, object });
  return (await (await worker.fetch("https://rogue.test/", { method: "POST", body })).json()) as Answered;
}

test("health says of each worker when its SVID was issued and when it ends, for anyone", async () => {
  const { status, json } = await api.fetch("/healthz");
  const now = Date.now();
  expect(status).toBe(200);
  const workers = json["workers"] as { spiffe_id: string; last_rotated_at: string; ends_at: string; alarm: boolean }[];
  expect(workers.map(({ spiffe_id: id }) => id)).toEqual(
    ["api", "audit", "signer", "authority"].map((one) => idOf(one)),
  );
  for (const { last_rotated_at: issued, ends_at: ends, alarm } of workers) {
    expect(alarm).toBe(false);
    expect([Date.parse(issued) <= now, Date.parse(ends) > now]).toEqual([true, true]);
  }
});

test("health looks at the workers once in five seconds at most, and says when it did: ten seconds ago at most", async () => {
  const seen: string[] = [];
  for (let asked = 0; asked < 30; asked += 1) {
    const { workers_seen_at: at } = (await api.fetch("/healthz")).json;
    expect(Date.now() - Date.parse(String(at))).toBeLessThan(10_000);
    seen.push(String(at));
  }
  const looks = [...new Set(seen)].map((at) => Date.parse(at));
  for (const [index, at] of looks.slice(1).entries()) expect(at - looks[index]!).toBeGreaterThanOrEqual(5_000);
  expect(looks.length).toBeLessThan(seen.length);
});

const idOf = (worker: string, domain = platformTrustDomain): string => `spiffe://${domain}/platform/${worker}`;

function minted(
  by: Signer,
  from: string,
  to: string,
  untilMs = Date.now() + 300_000,
  domain?: string,
): Promise<string> {
  const claims = svidClaims(
    { spiffeId: idOf(from, domain), audience: idOf(to) },
    { fromMs: untilMs - 300_000, untilMs },
  );
  return compactJws(by.kid, claims, async (bytes) => rawSignature(await by.sign(bytes)));
}

const services = [
  { binding: "SIGNER", callee: "signer", caller: "api" },
  { binding: "AUTHORITY", callee: "authority", caller: "api" },
  { binding: "AUDIT", callee: "audit", caller: "api" },
  { binding: "METER", callee: "api", caller: "audit" },
] as const;
/** Of the Rego's table, as it stands in its source: each callee's methods. */
const methodsOf = (callee: string): string[] => {
  const text = readFileSync(join(projectFolder, "policy/rego/workers.rego"), "utf8");
  const block = new RegExp(`"${callee}": \\{"[a-z]+": \\{([^}]*)\\}\\}`).exec(text)?.[1] ?? "";
  return [...block.matchAll(/"([A-Za-z]+)"/g)].map(([, name]) => name!);
};

describe("a rogue worker that binds all that the platform's workers have bound", () => {
  test.each(services)(
    "calls no method of $callee: without an SVID, with a forged, foreign or expired one, of another audience, domain or ID",
    async ({ binding, callee, caller }) => {
      const stranger = await importSigner(await strangersKey(), "P-256");
      const svids: [string, unknown, string][] = [
        ["none", undefined, "svid_refused"],
        ["foreign", await minted(stranger, caller, callee), "svid_refused"],
        ["of the caller's own key", await minted(keys.api, caller, callee), "svid_refused"],
        ["expired", await minted(keys.authority, caller, callee, Date.now() - 61_000), "svid_refused"],
        ["of another audience", await minted(keys.authority, caller, "edge"), "svid_refused"],
        ["of another domain", await minted(keys.authority, caller, callee, undefined, "mc.local"), "svid_refused"],
        ["of an ID that may not", await minted(keys.authority, "edge", callee), "denied"],
        ["of the callee itself", await minted(keys.authority, callee, callee), "denied"],
      ];
      const methods = methodsOf(callee);
      expect(methods.length).toBeGreaterThan(1);
      for (const method of methods) {
        for (const [what, svid, code] of svids) {
          const { answer } = await rogue(binding, "call", [svid, method, []]);
          expect([method, what, answer]).toMatchObject([method, what, { ok: false, refusal: { code } }]);
        }
      }
    },
  );

  test.each(services)(
    "finds nothing at $callee past its door: each method by its own name is no method of the entrypoint",
    async ({ binding, callee }) => {
      for (const method of [...methodsOf(callee), "env", "ctx", "constructor"])
        expect(await rogue(binding, method, [])).toMatchObject({ threw: expect.any(String) as string });
    },
  );

  test("gets no SVID: with no key, a foreign one, or an attestation that is stale", async () => {
    const stranger = await importSigner(await strangersKey(), "P-256");
    const ask = { self: "api", audience: "signer" } as const;
    const given = [
      undefined,
      "api",
      await writeAttestation(stranger, platformTrustDomain, ask, Date.now()),
      await writeAttestation(keys.audit, platformTrustDomain, ask, Date.now()),
      await writeAttestation(keys.api, platformTrustDomain, ask, Date.now() - 200_000),
    ];
    const reasons: unknown[] = [];
    for (const attestation of given) {
      const { answer } = await rogue("AUTHORITY", "issue", [attestation]);
      expect(answer).toMatchObject({ ok: false });
      reasons.push((answer as Extract<Issued, { ok: false }>).reason);
    }
    expect(reasons).toEqual([
      "the attestation is no short text",
      expect.stringContaining("does not hold") as string,
      "no worker is known by the attestation's key",
      "the attestation's key is another worker's than its sub",
      "the attestation is stale",
    ]);
  });

  test("signs nothing with the rings, which it can bind as objects", async () => {
    for (const binding of ["RELEASE_RING", "WORKER_AUTHORITY", "AUDIT_RING"]) {
      for (const method of ["current", "sign", "publishedKeys", "slotKeys", "revokeKeys", "withdrawKeys"]) {
        for (const pass of [undefined, "", "0".repeat(64)])
          expect((await rogue(binding, method, [pass, "release", "0", 0, []], "ring")).threw).toContain(
            "is called by its own script alone",
          );
      }
    }
  });

  test("with a worker's key would be that worker, and no other: the policy holds it to that worker's calls", async () => {
    const attestation = await writeAttestation(
      keys.audit,
      platformTrustDomain,
      { self: "audit", audience: "signer" },
      Date.now(),
    );
    const { answer } = await rogue("AUTHORITY", "issue", [attestation]);
    const { svid } = answer as Extract<Issued, { ok: true }>;
    expect((await rogue("SIGNER", "call", [svid, "publishedKeys", []])).answer).toMatchObject({
      ok: false,
      refusal: { code: "denied", reason: `${idOf("audit")} may not call publishedKeys of signer` },
    });
  });
});

test("the platform's own calls go through: a release is countersigned, its events are in the log, and the meter was told", async () => {
  const signer = await registeredSigner(api, tenant);
  await publishRelease(api, tenant, signer, manifestOf("workers/probe"));
  const svid = await minted(keys.authority, "audit", "api");
  const report = { indexed_seq: 0, indexed_to: 0, sealed_to: null, hours: [], days: [] };
  const told = (await rogue("METER", "call", [svid, "report", [tenant.tenant_id, report]])).answer as WorkerAnswer;
  expect(told).toEqual({ ok: true });
  const log = readFileSync(stack.logPaths.workers, "utf8");
  expect(log).not.toContain("a call between workers was refused");
  expect(log).not.toContain("the meter was not told");
});

test("the platform's own bundle is served to anyone, and its trust domain is nobody's to state", async () => {
  const path = `/.well-known/spiffe/${platformTrustDomain}/bundle.json`;
  const served = await api.fetch(path);
  expect(served.status).toBe(200);
  expect(JSON.stringify(served.json)).toContain(keys.authority.kid);
  const stated = await api.fetch(`/api/identity/trust-domains/${platformTrustDomain}`, {
    ...jsonCall(tenant.keys.admin, "PUT", { shared: false, endpoint: null }),
  });
  expect([stated.status, stated.json.code]).toEqual([409, "trust_domain_taken"]);
});

test("a rotation of the workers' authority that is taken back takes its key out of the bundle under a higher sequence, and the workers go on", async () => {
  const signer = await registeredSigner(api, tenant);
  const as = (method: string, path: string, body?: unknown) =>
    api.fetch(path, jsonCall(tenant.keys.admin, method, body));
  const bundle = async () => {
    const path = `/.well-known/spiffe/${platformTrustDomain}/bundle.json`;
    const { keys: held, spiffe_sequence: sequence } = (await api.fetch(path)).json as {
      keys: { kid: string }[];
      spiffe_sequence: number;
    };
    return { kids: held.map(({ kid }) => kid), sequence };
  };
  const before = await bundle();
  must(200, await as("PUT", "/api/rotations/consumers/worker/plant-9-proxy"));
  const { id } = must(201, await as("POST", "/api/rotations", { kind: "worker" })).json as Rotation;
  await expect.poll(async () => (await bundle()).kids.length, { timeout: 20_000 }).toBe(before.kids.length + 1);
  const seen = await bundle();
  const cancelled = must(200, await as("POST", `/api/rotations/${id}/cancel`)).json as Rotation;
  expect(cancelled).toMatchObject({ state: "cancelled", obstacle: null });
  await expect.poll(async () => (await bundle()).kids, { timeout: 20_000 }).toEqual(before.kids);
  expect([before, seen, await bundle()].map(({ sequence }) => sequence - before.sequence)).toEqual([0, 1, 2]);
  await publishRelease(api, tenant, signer, manifestOf("workers/after-cancel"));
  must(200, await as("DELETE", "/api/rotations/consumers/worker/plant-9-proxy"));
}, 60_000);

test("MC-ZTE-1942: the workers' authority rotates under traffic: nothing fails, every worker presents an SVID of the new key, and nothing of the old one is accepted after that", async () => {
  const signer = await registeredSigner(api, tenant);
  const olds = await minted(keys.authority, "api", "signer");
  const call = async (svid: string) =>
    (await rogue("SIGNER", "call", [svid, "publishedKeys", []])).answer as WorkerAnswer;
  expect(await call(olds)).toMatchObject({ ok: true });
  const running = { isOn: true, done: 0, failed: [] as string[] };
  const traffic = [
    async (at: number) => void (await publishRelease(api, tenant, signer, manifestOf(`workers/traffic-${at}`))),
    async () => {
      const { status } = await api.fetch("/api/audit/keys");
      if (status !== 200) throw new Error(`the keys answered ${status}`);
    },
  ].map(async (work) => {
    for (let at = 0; running.isOn; at += 1) {
      try {
        await work(at);
        running.done += 1;
      } catch (error) {
        running.failed.push(String(error));
      }
      await pause(100);
    }
  });
  const { id } = must(201, await api.fetch("/api/rotations", jsonCall(tenant.keys.admin, "POST", { kind: "worker" })))
    .json as Rotation;
  const shown = async () =>
    must(200, await api.fetch(`/api/rotations/${id}`, jsonCall(tenant.keys.admin, "GET"))).json as Rotation;
  const facts = async () => {
    const { state, obstacle } = await shown();
    return { state, obstacle };
  };
  await expect.poll(facts, { timeout: 60_000, interval: 500 }).toEqual({ state: "revoked", obstacle: null });
  // It was signed before, has minutes left, and was believed, with a warm verdict, when the rotation began.
  expect(await call(olds)).toMatchObject({ ok: false, refusal: { code: "svid_refused" } });
  running.isOn = false;
  await Promise.all(traffic);
  expect(running.failed).toEqual([]);
  expect(running.done).toBeGreaterThan(5);
  const rotation = await shown();
  expect(rotation.consumers.map(({ name, built_in }) => [name, built_in])).toEqual(
    ["api", "audit", "signer", "authority"].map((name) => [name, true]),
  );
  const bundle = (await api.fetch(`/.well-known/spiffe/${platformTrustDomain}/bundle.json`)).json as {
    keys: { kid: string }[];
  };
  expect(bundle.keys.map(({ kid }) => kid)).toEqual(rotation.new_keys.map(({ kid }) => kid));
}, 120_000);

test("MC-ZTE-1942: an emergency of the workers' authority takes two persons, waits for no named consumer, and from its end on an SVID of the old key is refused while the workers go on", async () => {
  const signer = await registeredSigner(api, tenant);
  const other = await anotherPerson(stack as unknown as Parameters<typeof anotherPerson>[0], tenant, "admin");
  const as = (key: string, method: string, path: string, body?: unknown) =>
    api.fetch(path, jsonCall(key, method, body));
  const admin = tenant.keys.admin;
  must(200, await as(admin, "PUT", "/api/rotations/consumers/worker/plant-9-proxy"));
  // By the key that signs now, whichever rotation it is of.
  const ask = { self: "api", audience: "signer" } as const;
  const attestation = await writeAttestation(keys.api, platformTrustDomain, ask, Date.now());
  const { svid } = (await rogue("AUTHORITY", "issue", [attestation])).answer as Extract<Issued, { ok: true }>;
  const call = async () => (await rogue("SIGNER", "call", [svid, "publishedKeys", []])).answer as WorkerAnswer;
  expect(await call()).toMatchObject({ ok: true });

  const asked = { kind: "worker", reason: "the signer was broken into" };
  const proposal = must(201, await as(admin, "POST", "/api/rotations/emergencies", asked)).json as EmergencyProposal;
  expect(proposal.breaks.join("\n")).toMatch(/plant-9-proxy has not acknowledged.*each worker of the platform takes/s);
  const { proposal_sha256 } = proposal;
  const own = await as(admin, "POST", `/api/rotations/${proposal.id}/approve`, { proposal_sha256 });
  expect([own.status, own.json.rule]).toEqual([403, "own_change"]);
  expect(await call()).toMatchObject({ ok: true });
  must(200, await as(other, "POST", `/api/rotations/${proposal.id}/approve`, { proposal_sha256 }));
  const shown = async () => must(200, await as(admin, "GET", `/api/rotations/${proposal.id}`)).json as Rotation;
  const facts = async () => {
    const { state, obstacle } = await shown();
    return { state, obstacle };
  };
  await expect.poll(facts, { timeout: 60_000, interval: 500 }).toEqual({ state: "revoked", obstacle: null });
  expect(await call()).toMatchObject({ ok: false, refusal: { code: "svid_refused" } });
  const rotation = await shown();
  expect(rotation.emergency).toMatchObject({ reason: "the signer was broken into" });
  const bundle = (await api.fetch(`/.well-known/spiffe/${platformTrustDomain}/bundle.json`)).json as {
    keys: { kid: string }[];
  };
  expect(bundle.keys.map(({ kid }) => kid)).toEqual(rotation.new_keys.map(({ kid }) => kid));
  await publishRelease(api, tenant, signer, manifestOf("workers/after-emergency"));
  must(200, await as(admin, "DELETE", "/api/rotations/consumers/worker/plant-9-proxy"));
}, 120_000);

async function strangersKey(): Promise<string> {
  const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  return JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey));
}
