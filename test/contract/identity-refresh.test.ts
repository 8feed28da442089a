// The refresh of bundles from their endpoints, on the stack's real Postgres with endpoints of the test's own: what is due, what comes of
// each answer, and that the last good bundle outlives all of them.

import { sql } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { maestro, testFolder, testHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { receiveDocument } from "../../shared/identity/receive-document.ts";
import { parseTrustDomain } from "../../shared/identity/spiffe-id.ts";
import { dueDomains, heldBundle, keepBundle, listDomains, type DueDomain } from "../../shared/identity/store.ts";
import { outboxInsert } from "../../shared/outbox/outbox.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs, localApi, type LocalApi } from "../support/api.ts";
import { callsAs, TestDomain } from "../support/identities.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let tenant: SeededTenant;
let admin: ReturnType<typeof callsAs>;
let local: LocalApi;
let domain: TestDomain;
let contract: Contract;
const stated = "https://spire.example/bundle";
const minuteMs = 60_000;

type Endpoint = (url: string, init: RequestInit) => Promise<Response>;
type Refresh = (parts: Record<string, unknown>, due: readonly DueDomain[], endpoint: Endpoint) => Promise<void>;

/** Trust domains that publishers were told of. */
const toldTo: string[] = [];

/** A refresh at `now` of what is due of this file's domain. Answers what was asked for. */
async function refreshed(now: number, endpoint: Endpoint): Promise<string[]> {
  const module = new URL("../../workers/api/identity/refresh-bundles.ts", import.meta.url).href;
  const { refreshBundles } = (await import(module)) as { refreshBundles: Refresh };
  const due = await dueDomains(databaseAs(stack, "drain"), now);
  const asked: string[] = [];
  await refreshBundles(
    {
      clock: () => now,
      database: local.database,
      random: (count: number) => crypto.getRandomValues(new Uint8Array(count)),
      shards: 2,
      nudgeDrain: () => {},
      nudgeTrust: (name: string) => Promise.resolve(void toldTo.push(name)),
      log: () => {},
    },
    due.filter(({ name }) => name === domain.name),
    (url, init) => {
      asked.push(url);
      expect(init).toMatchObject({ redirect: "manual" });
      return endpoint(url, init);
    },
  );
  return asked;
}

const gives =
  (body: string | Uint8Array<ArrayBuffer>, status = 200, headers: Record<string, string> = {}): Endpoint =>
  () =>
    Promise.resolve(new Response(body, { status, headers }));
const view = async (): Promise<Record<string, unknown>> =>
  (await admin.call("GET", `/api/identity/trust-domains/${domain.name}`)).json;
const refusal = async (): Promise<string> =>
  String((await view())["refused"] && JSON.stringify((await view())["refused"]));

beforeAll(async () => {
  const [api, made] = await Promise.all([contractOf(stack.apiUrl), stack.seedTenant("identity-refresh")]);
  [contract, tenant] = [api, made];
  admin = callsAs(api, { authorization: `Bearer ${tenant.keys.admin}` });
  local = await localApi(stack);
  domain = await TestDomain.make("identity-refresh.example");
  const endpoint = { url: stated, profile: "https_web", server_id: null };
  await admin.state(domain.name, { endpoint });
});

test("an endpoint is asked when it is due, by the bundle's hint; what it gives is in force, with an event", async () => {
  const now = Date.now();
  const document = domain.document();
  expect(await refreshed(now, gives(document))).toEqual([stated]);
  expect(await view()).toMatchObject({ bundle: { sequence_max: 1, refresh_hint_seconds: 60 }, refused: null });
  expect(await refreshed(now + minuteMs - 1, gives(document))).toEqual([]);
  expect(await refreshed(now + minuteMs, gives(document))).toEqual([stated]);
  expect(await view()).toMatchObject({ confirmed_at: new Date(now + minuteMs).toISOString() });
  // Of what has changed alone.
  expect(toldTo).toEqual([domain.name]);
  await expect
    .poll(
      async () => {
        const [rows] = await inBatch(databaseAs(stack, "owner"), [
          sql`select principal, outcome from audit_events
              where tenant_id = ${tenant.tenant_id}::uuid and type = 'mc.identity.bundle_changed'`,
        ]);
        return rows;
      },
      { timeout: 20_000 },
    )
    .toEqual([{ principal: null, outcome: "refreshed" }]);
});

test("whatever else an endpoint does leaves the last good bundle in force, is told, and is asked again at the next interval", async () => {
  let now = Date.now() + 60 * minuteMs;
  const good = domain.document();
  await refreshed(now, gives(good));
  const to = (location: string): Endpoint => gives("", 302, { location });
  const cases: readonly (readonly [Endpoint, string])[] = [
    [gives("", 500), "status 500"],
    [gives("{}"), "no list of keys"],
    [gives(domain.document().replace(`"spiffe_sequence":${domain.sequence}`, '"spiffe_sequence":1')), "before 2"],
    [gives("x".repeat(524_289)), "more than 524288 bytes"],
    [gives(new Uint8Array([0xff, 0xfe])), "no UTF-8"],
    [to("http://spire.example/bundle"), "not https"],
    [to("/again"), "at most 3 redirects"],
    [() => Promise.reject(new TypeError("connect ECONNREFUSED 10.0.0.1:443")), "did not answer in time"],
  ];
  for (const [endpoint, reason] of cases) {
    now += 60 * minuteMs;
    expect((await refreshed(now, endpoint)).length, reason).toBeGreaterThan(0);
    expect(await refusal()).toContain(reason);
    expect(await refusal()).not.toContain("10.0.0.1");
    expect(await refreshed(now + 1_000, endpoint), reason).toEqual([]);
    const bundle = await admin.call("GET", `/api/identity/trust-domains/${domain.name}/bundle`);
    expect(bundle.json["document"], reason).toBe(good);
  }
  // A body without an end is left where it is too long.
  now += 60 * minuteMs;
  let pulls = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulls += 1;
      controller.enqueue(new Uint8Array(65_536).fill(0x20));
      if (pulls > 100) controller.close();
    },
  });
  await refreshed(now, () => Promise.resolve(new Response(endless)));
  expect(await refusal()).toContain("more than 524288 bytes");
  expect(pulls).toBeLessThan(20);
  // Redirected within https it is taken, and the refusal is over.
  now += 60 * minuteMs;
  const next = domain.document();
  const asked = await refreshed(now, (url, init) =>
    url === stated ? to("https://other.example/bundle")(url, init) : gives(next)(url, init),
  );
  expect(asked).toEqual([stated, "https://other.example/bundle"]);
  expect(await view()).toMatchObject({ bundle: { sequence_max: domain.sequence }, refused: null });
});

describe("a bundle from an endpoint is overdue", () => {
  const name = "identity-overdue.example";
  const endpoint = { url: "https://overdue.example/bundle", profile: "https_web", server_id: null };
  const owner = () => databaseAs(stack, "owner");
  afterAll(async () => {
    must(204, await admin.call("DELETE", `/api/identity/trust-domains/${name}`));
  });
  const confirm = (atMs: number, hint: number | null) =>
    inBatch(owner(), [
      sql`update trust_domains set confirmed_at = to_timestamp(${atMs / 1_000}::float8), refresh_hint_s = ${hint}::bigint where name = ${name}`,
    ]);
  const isOverdueAt = async (now: number): Promise<boolean | undefined> =>
    (await listDomains(local.database, tenant.tenant_id, now)).find((one) => one.name === name)?.overdue;

  test.each([
    ["with an hour as its hint, after three", 3_600, 10_800],
    ["with more than an hour, too", 86_400, 10_800],
    ["without a hint, after a quarter of an hour", null, 900],
    ["with ten seconds, after ten minutes", 10, 600],
  ])("%s", async (_, hint, seconds) => {
    must(204, await admin.state(name, { endpoint }));
    const confirmedMs = Date.now();
    await confirm(confirmedMs, hint);
    expect(await isOverdueAt(confirmedMs + seconds * 1_000 - 1)).toBe(false);
    expect(await isOverdueAt(confirmedMs + seconds * 1_000)).toBe(true);
    must(204, await admin.state(name));
    expect(await isOverdueAt(confirmedMs + 10 * seconds * 1_000)).toBe(false);
  });

  test("where none ever came, ten minutes after it was stated", async () => {
    must(204, await admin.call("DELETE", `/api/identity/trust-domains/${name}`));
    must(204, await admin.state(name, { endpoint }));
    const made = Date.parse(
      (await listDomains(local.database, tenant.tenant_id, 0)).find((one) => one.name === name)!.created_at,
    );
    expect(await isOverdueAt(made + 599_999)).toBe(false);
    expect(await isOverdueAt(made + 600_000)).toBe(true);
  });

  test("and its tenant sees it, another tenant nothing, and anyone how many there are", async () => {
    must(204, await admin.state(name, { endpoint }));
    await confirm(Date.now() - 24 * 60 * minuteMs, 60);
    const other = await stack.seedTenant("identity-overdue-other");
    const statusOf = async ({ keys }: SeededTenant): Promise<string> => {
      const env = { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: keys.admin };
      const { code, out } = await maestro(testHost({ home: testFolder(), env }), "status");
      expect(code).toBe(0);
      return out;
    };
    expect(await statusOf(tenant)).toMatch(/^identity-overdue\.example\b.*Z \(alarm\)/m);
    const seen = await statusOf(other);
    expect(seen).toMatch(/^fetched bundles\s+\d+ in the service, \d+ overdue \(alarm\)$/m);
    expect(seen).not.toContain(name);
    // Other files state domains meanwhile.
    const counted = async (): Promise<unknown> => {
      const [rows] = await inBatch(owner(), [
        sql`select refresh_hint_s::int as hint, extract(epoch from confirmed_at)::float8 as confirmed, extract(epoch from created_at)::float8 as made
            from trust_domains where endpoint_url is not null`,
      ]);
      const overdue = (rows ?? []).filter(({ hint, confirmed, made }) => {
        const interval = confirmed === null ? 30 : Math.min(3_600, Math.max(10, Number(hint ?? 300)));
        return Number(confirmed ?? made) + Math.max(600, 3 * interval) <= Date.now() / 1_000;
      });
      return { fetched: rows?.length, overdue: overdue.length };
    };
    await expect
      .poll(async () => {
        const { status, bundles } = (await contract.fetch("/healthz")).json;
        return [status, bundles, await counted()].map((one) => JSON.stringify(one)).join(" ");
      })
      .toMatch(/^"ok" (\{"fetched":[1-9]\d*,"overdue":[1-9]\d*\}) \1$/);
    const { json } = await contract.fetch("/healthz");
    expect(JSON.stringify(json)).not.toContain(name);
  });
});

test("an endpoint that is stated no more while it is asked has no say: neither what it gives nor that it fails", async () => {
  const before = (await admin.call("GET", `/api/identity/trust-domains/${domain.name}/bundle`)).json["document"];
  const told = toldTo.length;
  const elsewhere = { url: "https://new.example/bundle", profile: "https_web", server_id: null };
  let now = Date.now() + 1_000 * minuteMs;
  for (const [endpoint, answer] of [
    [elsewhere, gives(domain.document())],
    [null, gives(domain.document())],
    [elsewhere, gives("", 500)],
  ] as const) {
    now += 60 * minuteMs;
    await admin.state(domain.name, { endpoint: { url: stated, profile: "https_web", server_id: null } });
    const asked = await refreshed(now, async (url, init) => {
      await admin.state(domain.name, { endpoint });
      return await answer(url, init);
    });
    expect(asked).toEqual([stated]);
    expect((await admin.call("GET", `/api/identity/trust-domains/${domain.name}/bundle`)).json["document"]).toBe(
      before,
    );
    expect(await view()).toMatchObject({ refused: null });
  }
  expect(toldTo).toHaveLength(told);
  // Nor where it is replaced between the decision and the commit.
  const { tenant_id } = tenant;
  await admin.state(domain.name, { endpoint: { url: stated, profile: "https_web", server_id: null } });
  const held = await heldBundle(local.database, tenant_id, domain.name, stated);
  const parsed = parseTrustDomain(domain.name);
  if (held === null || !parsed.ok) throw new Error("there is no such domain");
  const received = await receiveDocument(parsed.value, held, domain.document());
  if (!received.ok) throw new Error(received.refusal.reason);
  await admin.state(domain.name, { endpoint: elsewhere });
  const outbox = (where: Parameters<typeof outboxInsert>[2]) => outboxInsert([], 1, where);
  const change = { now, outbox, claim: null, response: null, endpoint: stated };
  expect(await keepBundle(local.database, tenant_id, domain.name, held, received.value, change)).toBe(false);
  await admin.state(domain.name, { endpoint: { url: stated, profile: "https_web", server_id: null } });
});

test("a tenant that states more endpoints than one run asks keeps nobody else's from its turn", async () => {
  const many = await stack.seedTenant("identity-refresh-many");
  const owner = databaseAs(stack, "owner");
  onTestFinished(async () => {
    await inBatch(owner, [sql`delete from trust_domains where tenant_id = ${many.tenant_id}::uuid`]);
  });
  await inBatch(owner, [
    sql`insert into trust_domains (name, tenant_id, endpoint_url, endpoint_profile, created_at, created_by)
        select 'identity-refresh-' || n || '.example', ${many.tenant_id}::uuid, 'https://tarpit.example/', 'https_web', now(), 'test'
        from generate_series(1, 250) as n`,
  ]);
  const due = await dueDomains(databaseAs(stack, "drain"), Date.now() + 100_000 * minuteMs);
  const turns = due.map((one) => (one.tenant_id === many.tenant_id ? "many" : one.name));
  expect(turns.filter((turn) => turn === "many").length).toBeGreaterThan(100);
  expect(turns.lastIndexOf(domain.name)).toBeGreaterThan(-1);
  // The first of the many may come before it, and no other.
  expect(turns.slice(0, turns.indexOf(domain.name)).filter((turn) => turn === "many").length).toBeLessThan(2);
});

test("an endpoint that cannot be spoken to from here, and none at all, are never due", async () => {
  const endpoint = {
    url: stated,
    profile: "https_spiffe",
    server_id: "spiffe://identity-refresh.example/spire/server",
  };
  expect((await admin.state(domain.name, { endpoint })).status).toBe(204);
  expect(await refreshed(Date.now() + 10_000 * minuteMs, gives(""))).toEqual([]);
  expect((await admin.state(domain.name)).status).toBe(204);
  expect(await refreshed(Date.now() + 10_000 * minuteMs, gives(""))).toEqual([]);
});
