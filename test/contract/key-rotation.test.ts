// Signing keys rotated on a stack of this file's own, while releases, runs, installs, seals and links go on; with a command line
// that trusts the keys from before.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { maestro, testFolder, testHost, type TestHost } from "../../cli/testing/host.ts";
import { startStack, type Stack } from "../../scripts/stack/index.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { EmergencyProposal, Rotation } from "../../shared/contract/http-rotations.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { anotherPerson } from "../support/people.ts";
import { installPackage, jsonCall, manifestOf, must, publishRelease, registeredSigner } from "../support/publisher.ts";
import { finishedRun, linkOf } from "../support/runs.ts";
import { useStack } from "../support/stack.ts";

const name = "rotation/probe";
let folder: string;
let home: string;
let stack: Stack;
let api: Contract;
let tenant: SeededTenant;
let publisher: Signer;
/** Another admin's token. */
let other: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "maestro-rotation-"));
  home = mkdtempSync(join(tmpdir(), "maestro-rotation-home-"));
  stack = await startStack({ folder, bundlesFolder: useStack().bundlesFolder });
  tenant = await stack.seedTenant("rotation");
  api = await contractOf(stack.apiUrl);
  other = await anotherPerson(stack as unknown as Parameters<typeof anotherPerson>[0], tenant, "admin");
  await installPackage(api, tenant, name);
  publisher = await registeredSigner(api, tenant);
}, 120_000);
afterAll(async () => {
  await stack.stop();
  for (const made of [folder, home]) rmSync(made, { recursive: true, force: true });
}, 60_000);

const call = (key: string, method: string, path: string, body?: unknown) =>
  api.fetch(path, jsonCall(key, method, body));
const admin = (method: string, path: string, body?: unknown) => call(tenant.keys.admin, method, path, body);
const keysNow = async (): Promise<PublishedKeys> => (await api.fetch("/api/audit/keys")).json as PublishedKeys;
const signing = async (use: string): Promise<string> =>
  (await keysNow()).keys.find((key) => key.use === use && key.not_after === undefined)!.kid;
const shown = async (id: string): Promise<Rotation> => must(200, await admin("GET", `/api/rotations/${id}`)).json;
const started = async (kind: string): Promise<Rotation> =>
  must(201, await admin("POST", "/api/rotations", { kind })).json;
const ended = async (id: string): Promise<Rotation> => {
  const facts = async () => {
    const { state, obstacle } = await shown(id);
    return { state, obstacle };
  };
  await expect.poll(facts, { timeout: 30_000 }).toEqual({ state: "revoked", obstacle: null });
  return await shown(id);
};
const hostAs = (role: keyof SeededTenant["keys"], at: string = home): TestHost =>
  testHost({ home: at, env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys[role] } });
const cli = async (role: keyof SeededTenant["keys"], ...argv: string[]) => {
  const answer = await maestro(hostAs(role), ...argv, "--json");
  return { ...answer, said: [argv.join(" "), answer.code, answer.code === 0 ? "" : answer.err] };
};
const works = async (role: keyof SeededTenant["keys"], ...argv: string[]) => {
  const answer = await cli(role, ...argv);
  expect(answer.said).toEqual([argv.join(" "), 0, ""]);
  return answer;
};
const pack = async (file: string): Promise<void> => {
  await works("auditor", "disclosure", "get", await finishedRun(api, tenant, name), "--out", file);
};

/** Between two calls of one kind: a rotation's steps take some hundred milliseconds, and the machine has other work. */
const pauseMs = 100;

/** Calls of every kind that signs or verifies, one after the other, until it is told to stop; answers what failed. */
function traffic() {
  const running = { isOn: true };
  let count = 0;
  const failed: string[] = [];
  const loop = async (what: string, work: (at: number) => Promise<void>): Promise<void> => {
    for (let at = 1; running.isOn; at += 1) {
      try {
        await work(at);
        count += 1;
      } catch (error) {
        failed.push(`${what}: ${String(error)}`);
      }
      await pause(pauseMs);
    }
  };
  const stamp = Date.now();
  const loops = [
    loop("publish", async (at) => {
      await publishRelease(api, tenant, publisher, manifestOf(`rotation/new-${stamp}-${at}`));
    }),
    loop("install", async () => {
      must(201, await call(tenant.keys.operator, "POST", "/api/market/installs", { package: name }));
    }),
    loop("link", async () => {
      const { url } = await linkOf(api, tenant.keys.auditor, await finishedRun(api, tenant, name));
      const { status } = await fetch(url);
      if (status !== 200) throw new Error(`the link answered ${status}`);
    }),
  ];
  return {
    async stop() {
      running.isOn = false;
      await Promise.all(loops);
      return { failed, count };
    },
  };
}

test("MC-ZTE-1942: release, audit and link keys rotate while everything goes on: nothing fails, and everything verifies before and after", async () => {
  await pack("before.zip");
  await works("auditor", "audit", "verify");
  const held = await linkOf(api, tenant.keys.auditor, await finishedRun(api, tenant, name));
  const before = await keysNow();
  const running = traffic();
  for (const kind of ["release", "audit", "link", "release"]) {
    const { id } = await started(kind);
    const rotation = await ended(id);
    expect(rotation.transitions.map(({ state }) => state)).toEqual([
      "prepare",
      "published",
      "acknowledged",
      "active",
      "tainted",
      "verified",
      "revoked",
    ]);
    const { keys } = await keysNow();
    for (const { kid } of rotation.old_keys)
      expect(keys.find((key) => key.kid === kid)).toMatchObject({ not_after: expect.any(String) as string });
    for (const { kid } of rotation.new_keys) expect(keys.find((key) => key.kid === kid)?.not_after).toBeUndefined();
  }
  const { failed, count } = await running.stop();
  expect(failed).toEqual([]);
  expect(count).toBeGreaterThan(10);
  // A link ends at its time, not with the key that signed it.
  expect((await fetch(held.url)).status).toBe(200);
  await pack("after.zip");
  const verified = await works("auditor", "audit", "verify");
  expect(verified.json()).toMatchObject({ verdict: "VERIFIED" });
  for (const file of ["before.zip", "after.zip"])
    expect((await works("auditor", "disclosure", "verify", file)).json()).toMatchObject({ verdict: "verified" });
  const { keys } = await keysNow();
  expect(keys).toHaveLength(before.keys.length + 7);
  // An object's events come by its alarm: some moments after.
  const query = 'FIND events WHERE type = "mc.key.rotation" SINCE 1h';
  const told = async (): Promise<number> =>
    (must(200, await call(tenant.keys.auditor, "POST", "/api/pql", { query })).json as { rows: unknown[] }).rows.length;
  await expect.poll(told, { timeout: 20_000 }).toBe(28);
  const metrics = await works("admin", "metrics");
  expect(JSON.stringify(metrics.json())).toContain(
    'mc_spiffe_rotations_total{kind=\\"release\\",outcome=\\"completed\\"} 2',
  );
}, 180_000);

test("a user who trusts the keys from before believes those that they endorsed, and is told; live channels are signed anew", async () => {
  const host = hostAs("operator");
  await works("operator", "market", "install", name);
  const old = await signing("release");
  await ended((await started("release")).id);
  const { code, err } = await maestro(host, "market", "install", name, "--json");
  expect([code, err]).toEqual([
    0,
    expect.stringMatching(/has a new key, release [0-9a-f]{16}: [0-9a-f]{16}, which you trust, endorsed/) as string,
  ]);
  expect(err).toContain("signs no more");
  const channels = must(
    200,
    await call(tenant.keys.operator, "GET", `/api/market/channels?package=${encodeURIComponent(name)}`),
  ).json;
  expect(JSON.stringify(channels)).not.toContain(old);
  expect(JSON.stringify(channels)).toContain(await signing("release"));
});

test("a consumer that has not acknowledged blocks the switch, is named, and unblocks it by the keys that it has", async () => {
  await works("admin", "rotation", "consumer", "add", "release", "plant-7-verifier");
  const before = await signing("release");
  const { id } = (await works("admin", "rotation", "start", "release")).json() as { id: string };
  expect(await shown(id)).toMatchObject({ state: "published", waiting_for: ["plant-7-verifier"] });
  const listed = await works("auditor", "rotation", "list");
  expect(listed.json()["rotations"]).toContainEqual(expect.objectContaining({ id, waiting_for: ["plant-7-verifier"] }));
  expect((await maestro(hostAs("admin"), "rotation", "show", id)).out).toContain("plant-7-verifier");
  expect((await cli("admin", "rotation", "consumer", "remove", "release", "plant-7-verifier")).err).toContain(id);
  expect((await cli("admin", "rotation", "start", "release")).code).not.toBe(0);
  const wrong = { consumer: "plant-7-verifier", kids: ["0".repeat(64)] };
  expect((await admin("POST", `/api/rotations/${id}/acknowledgements`, wrong)).json.code).toBe("rotation_state");
  await publishRelease(api, tenant, publisher, manifestOf("rotation/while-blocked"));
  const published = (await keysNow()).keys.filter(({ use, not_after }) => use === "release" && not_after === undefined);
  expect(published.map(({ kid }) => kid)[0]).toBe(before);
  expect((await works("viewer", "status")).json()["signing_keys"]).toContainEqual(
    expect.objectContaining({ use: "release", kid: before }),
  );
  await works("operator", "rotation", "acknowledge", id, "plant-7-verifier");
  expect((await ended(id)).consumers).toContainEqual(
    expect.objectContaining({ name: "plant-7-verifier", acknowledged_at: expect.any(String) as string }),
  );
  await works("admin", "rotation", "consumer", "remove", "release", "plant-7-verifier");
  const query = 'FIND events WHERE type = "mc.key.consumer" AND attrs.consumer = "plant-7-verifier" SINCE 1h';
  const told = async (): Promise<number> =>
    (must(200, await call(tenant.keys.auditor, "POST", "/api/pql", { query })).json as { rows: unknown[] }).rows.length;
  await expect.poll(told, { timeout: 20_000 }).toBe(3);
});

test("a rotation that is taken back leaves the keys as they were: nobody's verification breaks, of its keys nothing is believed, and the next one goes through", async () => {
  const owner = databaseAs(stack, "owner");
  await works("operator", "market", "install", name);
  const elsewhere = testFolder();
  const verifies = async (at: string) => {
    const { code, err } = await maestro(hostAs("auditor", at), "audit", "verify", "--json");
    return [code, err.includes("publishes other keys")];
  };
  expect(await verifies(elsewhere)).toEqual([0, false]);
  for (const [kind, use, isBelieved] of [
    ["release", "release", true],
    ["release", "release", false],
    ["audit", "checkpoint", true],
    ["link", "link", true],
  ] as const) {
    await works("admin", "rotation", "consumer", "add", kind, "plant-9-verifier");
    const before = await signing(use);
    const { id, new_keys: made } = await started(kind);
    expect(await shown(id)).toMatchObject({ state: "published", waiting_for: ["plant-9-verifier"] });
    // The step that has the API believe it died before it came to that.
    if (!isBelieved) await inBatch(owner, [sql`delete from release_keys where kid = ${made[0]!.kid}`]);
    // A user who has seen the new keys, and one who has not.
    await works("operator", "market", "install", name);
    expect((await call(tenant.keys.operator, "POST", `/api/rotations/${id}/cancel`)).json.rule).toBe("role_too_low");
    const cancelled = (await works("admin", "rotation", "cancel", id)).json();
    expect(cancelled).toMatchObject({ id, state: "cancelled", new_keys: made, waiting_for: [], obstacle: null });
    expect(await shown(id)).toMatchObject({ state: "cancelled" });
    expect((await admin("POST", `/api/rotations/${id}/cancel`)).json.state).toBe("cancelled");
    const { keys } = await keysNow();
    expect([use, await signing(use)]).toEqual([use, before]);
    for (const { kid } of made)
      for (const key of keys.filter((one) => one.kid === kid))
        expect(key).toMatchObject({ not_after: key.not_before, revoked_at: expect.any(String) as string });
    expect([kind, await verifies(home), await verifies(elsewhere)]).toEqual([kind, [0, false], [0, false]]);
    await works("admin", "rotation", "consumer", "remove", kind, "plant-9-verifier");
    const next = await ended((await started(kind)).id);
    expect(next.old_keys.map(({ kid }) => kid)).toContain(before);
    const late = await admin("POST", `/api/rotations/${next.id}/cancel`);
    expect([late.status, late.json.code]).toEqual([409, "rotation_state"]);
    if (kind !== "release") continue;
    // The API does not believe it either.
    const [rows] = await inBatch(owner, [
      sql`select kid from release_keys where kid = ${made[0]!.kid} and revoked_at is not null and not_after = not_before`,
    ]);
    expect(rows).toHaveLength(1);
  }
  await works("operator", "market", "install", name);
  const { url } = await linkOf(api, tenant.keys.auditor, await finishedRun(api, tenant, name));
  expect((await fetch(url)).status).toBe(200);
  const verified = await works("auditor", "audit", "verify");
  expect(verified.json()).toMatchObject({ verdict: "VERIFIED" });
  expect(JSON.stringify((await works("admin", "metrics")).json())).toContain(
    'mc_spiffe_rotations_total{kind=\\"audit\\",outcome=\\"cancelled\\"} 1',
  );
}, 120_000);

test("an emergency takes two persons; from its end on the old key's signatures are refused here and by users, and what stands is signed anew", async () => {
  await works("admin", "rotation", "consumer", "add", "release", "plant-8-verifier");
  await works("operator", "market", "install", name);
  const old = await signing("release");
  const owner = databaseAs(stack, "owner");
  const pointer = sql`select bundle from channel_pointers where package = ${name}`;
  const [signed] = await inBatch(owner, [pointer]);
  const { id } = await started("release");
  const proposed = (await works("admin", "rotation", "emergency", "release", "--reason", "a drill")).json();
  expect(proposed).toMatchObject({ id });
  expect(String(proposed["breaks"])).toMatch(/plant-8-verifier has not acknowledged.*are refused once it is revoked/s);
  const named = { proposal_sha256: proposed["proposal_sha256"] };
  const own = await admin("POST", `/api/rotations/${id}/approve`, named);
  expect([own.status, own.json.rule]).toEqual([403, "own_change"]);
  const made = must(201, await admin("POST", "/api/keys", { role: "admin" })).json as { key: string };
  expect((await call(made.key, "POST", `/api/rotations/${id}/approve`, named)).json.rule).toBe("own_change");
  // Proposed anew, what the other person has read is not what they would approve.
  const anew = (await works("admin", "rotation", "emergency", "release", "--reason", "a drill, in other words")).json();
  const stale = await call(other, "POST", `/api/rotations/${id}/approve`, named);
  expect([stale.status, stale.json.code, anew["id"]]).toEqual([409, "proposal_changed", id]);
  expect(await shown(id)).toMatchObject({ state: "published", emergency: null });
  const { proposal_sha256 } = anew;
  must(200, await call(other, "POST", `/api/rotations/${id}/approve`, { proposal_sha256 }));
  expect(await ended(id)).toMatchObject({ emergency: { reason: "a drill, in other words", proposal_sha256 } });
  const key = (await keysNow()).keys.find(({ kid }) => kid === old);
  expect(key).toMatchObject({ revoked_at: expect.any(String) as string });
  // Everything that the API stands on was signed anew.
  must(201, await call(tenant.keys.operator, "POST", "/api/market/installs", { package: name, channel: "stable" }));
  await publishRelease(api, tenant, publisher, manifestOf("rotation/after-emergency"));
  // What the old key signed, put back behind the API's back, is refused.
  const set = (bundle: unknown) =>
    sql`update channel_pointers set bundle = ${JSON.stringify(bundle)}::jsonb where package = ${name}`;
  const [before, now] = [signed![0]!["bundle"], (await inBatch(owner, [pointer]))[0]![0]!["bundle"]];
  await inBatch(owner, [set(before)]);
  const install = await call(tenant.keys.operator, "POST", "/api/market/installs", { package: name });
  expect([install.status, install.json.code, install.json.detail]).toEqual([
    422,
    "release_invalid",
    expect.stringContaining(`the key ${old} is not known`) as string,
  ]);
  await inBatch(owner, [set(now)]);
  // The revoked key's word does not count, and a user has to look.
  const refused = await cli("operator", "market", "install", name);
  expect([refused.code, refused.err]).toEqual([7, expect.stringContaining("publishes other keys") as string]);
  await works("operator", "audit", "keys", "--accept");
  await works("operator", "market", "install", name);
  await works("admin", "rotation", "consumer", "remove", "release", "plant-8-verifier");
});

test("a link that a revoked key signed opens nothing", async () => {
  const { url } = await linkOf(api, tenant.keys.auditor, await finishedRun(api, tenant, name));
  const proposed = must(201, await admin("POST", "/api/rotations/emergencies", { kind: "link", reason: "a drill" }));
  expect((await fetch(url)).status).toBe(200);
  const { id, proposal_sha256 } = proposed.json as EmergencyProposal;
  must(200, await call(other, "POST", `/api/rotations/${id}/approve`, { proposal_sha256 }));
  await ended(id);
  expect((await fetch(url)).status).toBe(403);
  const next = await linkOf(api, tenant.keys.auditor, await finishedRun(api, tenant, name));
  expect((await fetch(next.url)).status).toBe(200);
});

test("tenants that do not curate, and roles that may not, rotate nothing and see nothing", async () => {
  const outsider = await stack.seedTenant("rotation-outsider", { curates: false });
  for (const [method, path, body] of [
    ["GET", "/api/rotations", undefined],
    ["POST", "/api/rotations", { kind: "release" }],
    ["POST", "/api/rotations/emergencies", { kind: "release", reason: "none" }],
    ["PUT", "/api/rotations/consumers/release/stranger", undefined],
  ] as const) {
    const refused = await call(outsider.keys.admin, method, path, body);
    expect([path, refused.status, refused.json.rule]).toEqual([path, 403, "tenant_not_curating"]);
    const low = await call(tenant.keys.viewer, method, path, body);
    expect([path, low.status]).toEqual([path, 403]);
  }
});
