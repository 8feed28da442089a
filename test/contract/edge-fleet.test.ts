// The fleet against the real stack: reports by either provider's name and by the API's own, the board beside what is published, and
// `maestro edge fleet` with fetchers that run.

import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { maestro, testHost, type TestHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { EdgeFleet, EdgeReport } from "../../shared/contract/http-edge.ts";
import { policyRevision } from "../../shared/contract/http-policies.ts";
import type { Role } from "../../shared/contract/names.ts";
import { writeProviders } from "../../shared/edge/providers.ts";
import { fetcherIdOf, policyOf, reportOf, type ReportOptions } from "../support/fleet.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { jsonCall, must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let api: Contract;
let tenant: SeededTenant;
let home: string;
let fetcherKey: string;
/** Digests of the tars that were published, the first revision's first. */
const tars: string[] = [];

const as = (role: Role): TestHost =>
  testHost({ home, env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys[role] } });

async function ok(role: Role, ...argv: string[]): Promise<Record<string, unknown>> {
  const { code, json, err } = await maestro(as(role), ...argv, "--json");
  expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
  return json();
}

async function publish(user: string, revision: string): Promise<void> {
  writeFileSync(join(home, "data.json"), JSON.stringify({ gateway: { user } }));
  const published = await ok("publisher", "policy", "publish", home, "--name", "gateway", "--revision", revision);
  tars.push(
    policyRevision.parse(Object.fromEntries(Object.entries(published).filter(([name]) => name !== "providers")))
      .tar_sha256,
  );
}

/** A report as of now, of a fetcher that runs that revision. */
function running(revision: number, more: ReportOptions = {}): EdgeReport {
  const now = Date.now();
  const one = policyOf(revision, {}, now);
  const active = { ...one.active!, tar_sha256: tars[revision - 1]! };
  return reportOf({ now, policies: [{ ...one, active }], ...more });
}

interface Reported {
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
}

async function report(body: unknown, key = fetcherKey, at = stack.apiUrl): Promise<Reported> {
  const call = jsonCall(key, "POST", body);
  if (at === stack.apiUrl) return await api.fetch("/api/edge/reports", call);
  const response = await fetch(`${at}/api/edge/reports`, call);
  return { status: response.status, json: (await response.json()) as Reported["json"] };
}

async function fleet(query = "", key = tenant.keys.viewer): Promise<EdgeFleet> {
  return must(200, await api.fetch(`/api/edge/fleet${query}`, jsonCall(key, "GET"))).json as EdgeFleet;
}

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("edge-fleet");
  home = realpathSync(mkdtempSync(join(tmpdir(), "maestro-fleet-")));
  await ok("admin", "policy", "root", "init");
  await ok("publisher", "market", "keygen");
  writeFileSync(join(home, "authz.rego"), "package gateway.authz\n\nallow if input.user == data.gateway.user\n");
  await publish("alice", "r1");
  await publish("bob", "r2");
  await ok("admin", "keys", "create", "--role", "fetcher", "--out", join(home, "fetcher.key"));
  fetcherKey = readFileSync(join(home, "fetcher.key"), "utf8").trim();
});

afterAll(() => rmSync(home, { recursive: true, force: true }));

test("a report is noted once, by the API's name or a provider's; the board says who is current and since when not", async () => {
  expect(await report(running(2, { instance: 1 }))).toMatchObject({
    status: 200,
    json: { outcome: "noted", multicdn: true },
  });
  expect(await report(running(2, { instance: 1 }))).toMatchObject({ status: 200, json: { outcome: "repeated" } });
  expect(await fleet()).toMatchObject({ summary: { all_current: true, stale_rate: 0 } });
  const late = running(1, { instance: 2, counts: { failovers: 3 }, mismatches: { a: 0, b: 4 } });
  expect(await report(late, fetcherKey, stack.edge.b)).toMatchObject({ status: 200, json: { outcome: "noted" } });
  const found = await fleet();
  expect(found.summary).toMatchObject({
    all_current: false,
    instances: { total: 2, current: 1, behind: 1 },
    heads: [{ policy: "gateway", channel: "stable", revision: 2, tar_sha256: tars[1] }],
    counts: { failovers: 3 },
    providers: [
      { name: "a", hit_ratio: 0.9 },
      { name: "b", mismatches: 4 },
    ],
  });
  expect(found.instances.map(({ instance, state }) => [instance, state])).toEqual([
    [fetcherIdOf(2), "behind"],
    [fetcherIdOf(1), "current"],
  ]);
  expect(found.instances[0]!.policies[0]).toMatchObject({
    revision: 1,
    head_revision: 2,
    behind_revisions: 1,
    proof: { provider: "a" },
  });
  expect(found.instances[0]!.policies[0]!.behind_ms).toBeGreaterThan(0);
  const first = await fleet("?limit=1");
  expect(await fleet(`?limit=1&cursor=${encodeURIComponent(first.next_cursor!)}`)).toMatchObject({
    instances: [{ instance: fetcherIdOf(1) }],
    next_cursor: null,
  });
});

test("an instance's SVID is on the board, with whose authority signed it; a report from before there were any is taken", async () => {
  const svid = {
    spiffe_id: "spiffe://edge-fleet.example/fetcher/one",
    authority: "k7",
    issued_at: "2026-04-13T16:00:00.000Z",
    expires_at: "2026-04-13T16:05:00.000Z",
  };
  const tellers = await stack.seedTenant("edge-fleet-svids");
  const key = tellers.keys.fetcher;
  expect(await report(running(2, { instance: 4, svid }), key)).toMatchObject({ status: 200 });
  const { svid: _, ...old } = running(2, { instance: 5 });
  expect(await report(old, key)).toMatchObject({ status: 200 });
  const broken = { ...svid, spiffe_id: "spiffe://edge-fleet.example/" };
  expect(await report(running(2, { instance: 6, svid: broken }), key)).toMatchObject({ status: 400 });
  const { instances } = await fleet("", tellers.keys.viewer);
  expect(Object.fromEntries(instances.map((one) => [one.instance, one.svid]))).toEqual({
    [fetcherIdOf(4)]: svid,
    [fetcherIdOf(5)]: null,
  });
  const host = testHost({ home, env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tellers.keys.viewer } });
  const { out } = await maestro(host, "edge", "fleet");
  for (const text of Object.values(svid)) expect(out).toContain(text);
});

test("roles, tenants, shapes and bounds", async () => {
  const body = running(2, { instance: 1, sequence: 5 });
  for (const role of ["admin", "operator", "viewer"] as const)
    expect(await report(body, tenant.keys[role])).toMatchObject({ status: 403, json: { code: "role_too_low" } });
  expect((await api.fetch("/api/edge/fleet", jsonCall(fetcherKey, "GET"))).status).toBe(403);
  expect(await report({ ...body, tenant: "edge-fleet" })).toMatchObject({ status: 400 });
  expect(await report({ ...body, boot_id: "f".repeat(32) })).toMatchObject({
    status: 409,
    json: { code: "edge_instance_taken" },
  });
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, at) => report(running(2, { instance: 3, sequence: at + 1 }))),
  );
  expect(answers.some(({ status, json }) => status === 429 && json["code"] === "edge_reports_limited")).toBe(true);
  // Another tenant's fetcher under the same id: its own board.
  const neighbour = await stack.seedTenant("edge-fleet-neighbour");
  const theirs = neighbour.keys.fetcher;
  expect(await report(running(2, { instance: 1, boot: 9 }), theirs)).toMatchObject({ status: 200 });
  const board = await fleet("", neighbour.keys.viewer);
  expect(board.instances.map(({ instance, state }) => [instance, state])).toEqual([[fetcherIdOf(1), "unknown"]]);
  expect((await fleet()).instances.find(({ instance }) => instance === fetcherIdOf(1))).toMatchObject({ boot: 1 });
  const forget = (key: string, instance: string) => api.fetch(`/api/edge/fleet/${instance}`, jsonCall(key, "DELETE"));
  expect((await forget(tenant.keys.viewer, fetcherIdOf(3))).status).toBe(403);
  expect((await forget(tenant.keys.operator, fetcherIdOf(3))).status).toBe(204);
  expect((await forget(tenant.keys.operator, fetcherIdOf(3))).status).toBe(404);
});

test("metrics tell the stale rate, and the log who appeared and which provider lied", async () => {
  const metrics = async (): Promise<string> => {
    const { bytes } = must(200, await api.fetch("/api/metrics", jsonCall(tenant.keys.viewer, "GET")));
    return new TextDecoder().decode(bytes);
  };
  // Once the second revision is five seconds old.
  await expect.poll(metrics, { timeout: 10_000, interval: 500 }).toMatch(/^mc_edge_stale_rate 0\.5$/m);
  const text = await metrics();
  expect(text).toContain('mc_edge_mismatches_total{provider="b"} 4\n');
  expect(text).toContain('mc_edge_hit_ratio{provider="a"} 0.9\n');
  const told = async (): Promise<unknown[]> => {
    const { json } = await maestro(as("auditor"), "pql", 'FIND events WHERE source = "fleet" SINCE 1h', "--json");
    return (json()["rows"] as { type: string }[]).map(({ type }) => type).toSorted();
  };
  const appeared = "mc.edge.instance_appeared";
  await expect
    .poll(told, { timeout: 20_000 })
    .toEqual([...Array(3).fill(appeared), "mc.edge.instance_forgotten", "mc.edge.mismatch_reported"]);
});

test("a fetcher that runs is current, follows the next revision, asks one provider where the flag is off, and the lines of FLEET.md run", async () => {
  await ok("admin", "flags", "set", "edge_multicdn", "off");
  for (const instance of [1, 2]) await ok("operator", "edge", "forget", fetcherIdOf(instance));
  const none = await maestro(as("viewer"), "edge", "fleet");
  expect(none).toMatchObject({ code: 8 });
  expect(none.out).toContain("all current");
  const { spki } = await ok("publisher", "market", "keygen");
  const root = async (): Promise<string | null> => {
    const headers = { authorization: `Bearer ${fetcherKey}` };
    const response = await fetch(`${stack.edge.b}/tuf/${tenant.slug}/1.root.json`, { headers });
    return response.ok ? await response.text() : null;
  };
  await expect.poll(root, { timeout: 8_000 }).not.toBeNull();
  writeFileSync(join(home, "1.root.json"), (await root())!);
  writeFileSync(
    join(home, "edge.json"),
    writeProviders((["a", "b"] as const).map((name) => ({ name, baseUrl: stack.edge[name] }))),
  );
  const host = { ...as("viewer"), sleep: (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)) };
  const trust = [
    "--tenant",
    tenant.slug,
    "--root",
    "1.root.json",
    "--publisher",
    String(spki),
    "--key-file",
    "fetcher.key",
  ];
  const where = ["--providers", "edge.json", "--listen", "127.0.0.1:0", "--api", stack.apiUrl];
  const running = maestro(host, "edge", "serve", "gateway", ...trust, ...where);
  try {
    const waiting = { ...as("viewer"), sleep: host.sleep };
    expect(await maestro(waiting, "edge", "fleet", "--wait", "20")).toMatchObject({ code: 0 });
    await expect.poll(() => host.err(), { timeout: 25_000 }).toContain("the flag edge_multicdn was switched: asks a\n");
    await publish("carol", "r3");
    const caughtUp = await maestro(waiting, "edge", "fleet", "--wait", "20", "--json");
    expect(caughtUp.json()).toMatchObject({
      summary: { all_current: true },
      instances: [
        { policies: [{ revision: 3, proof: { provider: "a", tar_sha256: tars[2] } }], providers: [{ name: "a" }] },
      ],
    });
    // The publisher goes on writing both stores.
    expect(await ok("viewer", "policy", "list")).toMatchObject({
      providers: [{ state: "current" }, { state: "current" }],
    });
    const page = readFileSync(new URL("../../docs/edge/FLEET.md", import.meta.url), "utf8");
    const lines = [...page.matchAll(/^\$ maestro (.+)$/gm)].map(([, line]) => line!);
    expect(lines.length).toBeGreaterThan(4);
    for (const line of lines)
      expect({ line, code: (await maestro({ ...as("admin"), sleep: host.sleep }, ...line.split(" "))).code }).toEqual({
        line,
        code: 0,
      });
  } finally {
    host.interrupt();
    await running;
  }
});
