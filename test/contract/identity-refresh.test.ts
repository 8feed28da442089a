// The refresh of bundles from their endpoints, on the stack's real Postgres with endpoints of the test's own: what is due, what comes of
// each answer, and that the last good bundle outlives all of them.

import { sql } from "drizzle-orm";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { dueDomains, type DueDomain } from "../../shared/identity/store.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs, localApi, type LocalApi } from "../support/api.ts";
import { callsAs, TestDomain } from "../support/identities.ts";
import { contractOf } from "../support/openapi.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let tenant: SeededTenant;
let admin: ReturnType<typeof callsAs>;
let local: LocalApi;
let domain: TestDomain;
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
  tenant = made;
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
  // Redirected within https it is taken, and the refusal is over.
  now += 60 * minuteMs;
  const next = domain.document();
  const asked = await refreshed(now, (url, init) =>
    url === stated ? to("https://other.example/bundle")(url, init) : gives(next)(url, init),
  );
  expect(asked).toEqual([stated, "https://other.example/bundle"]);
  expect(await view()).toMatchObject({ bundle: { sequence_max: domain.sequence }, refused: null });
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
