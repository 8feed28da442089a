// What a tenant's admin says of identities through the API, at the edges of both providers, without a cron in between: who is
// registered gets in, who is not any more does not, and so with a whole authority.

import { sql } from "drizzle-orm";
import { beforeAll, expect, test } from "vitest";
import { readAuthority, rotateAuthority } from "../../cli/svid/authority-folder.ts";
import { mintSvid } from "../../cli/svid/mint.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { parseSpiffeId } from "../../shared/identity/spiffe-id.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { callsAs, TestDomain } from "../support/identities.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { putRoot, rootFor } from "../support/policies.ts";
import { must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { authorityEntry, bundleDocument, jwtEntry, newKeys } from "../support/svid.ts";

const stack = useStack();
let api: Contract;
let tenant: SeededTenant;
let admin: ReturnType<typeof callsAs>;
let domain: TestDomain;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("identity-at-edges");
  must(200, await putRoot(api, tenant, await rootFor(api, tenant)));
  admin = callsAs(api, { authorization: `Bearer ${tenant.keys.admin}` });
  domain = await TestDomain.make("identity-at-edges.example");
  must(204, await admin.state(domain.name));
  must(200, await admin.handIn(domain.name, domain.document()));
});

const status = async (side: "a" | "b", bearer: string): Promise<number> => {
  const headers = { authorization: `Bearer ${bearer}` };
  return (await fetch(`${stack.edge[side]}/tuf/${tenant.slug}/timestamp.json`, { headers })).status;
};
const statuses = (bearer: string) => (): Promise<number[]> => Promise.all([status("a", bearer), status("b", bearer)]);
/** At both: the lease of five seconds and the writes to the stores included. */
const soon = { timeout: 30_000, interval: 250 };

const toEdge = (path: string, keys = domain.jwtKeys, kid?: string): Promise<string> =>
  domain.token(path, { aud: "maestro-edge" }, keys, kid);

test("a fetcher that is registered gets in at both providers and at the API; once it is removed, nowhere", async () => {
  const registered = must(201, await admin.register(`spiffe://${domain.name}/fetcher/one`, "fetcher"));
  const token = await toEdge("/fetcher/one");
  await expect.poll(statuses(token), soon).toEqual([200, 200]);
  const fetcher = callsAs(api, { authorization: `Bearer ${await domain.token("/fetcher/one")}` });
  expect(await fetcher.whoami()).toMatchObject({ status: 200, json: { role: "fetcher" } });
  must(204, await admin.call("DELETE", `/api/identity/workloads/${registered.json.id as string}`));
  expect((await fetcher.whoami()).status).toBe(401);
  await expect.poll(statuses(token), soon).toEqual([401, 401]);
});

test("once a fetcher is registered its tenant's fetcher keys open nothing, until spiffe_everywhere is off", async () => {
  const key = tenant.keys.fetcher;
  await expect.poll(statuses(key), soon).toEqual([200, 200]);
  must(201, await admin.register(`spiffe://${domain.name}/fetcher/two`, "fetcher"));
  await expect.poll(statuses(key), soon).toEqual([401, 401]);
  must(200, await admin.call("PUT", "/api/flags", { flag: "spiffe_everywhere", enabled: false }));
  await expect.poll(statuses(key), soon).toEqual([200, 200]);
  must(200, await admin.call("PUT", "/api/flags", { flag: "spiffe_everywhere", enabled: true }));
  await expect.poll(statuses(key), soon).toEqual([401, 401]);
});

test("a rotation of the local authority is handed in at the API, and counts at both providers without a cron", async () => {
  const { authorityFolder, trustDomain } = stack.tls;
  const parsed = parseSpiffeId(`spiffe://${trustDomain}/tenant/${tenant.slug}/fetcher/local`);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  must(201, await admin.register(parsed.value.uri, "fetcher"));
  const minted = async (): Promise<string> => {
    const wish = { id: parsed.value, ttlSeconds: 600, audiences: ["maestro-edge"] };
    return (await mintSvid(await readAuthority(authorityFolder), wish, Date.now())).files.tokens[0]!.token;
  };
  const rotate = async (...moves: readonly ("prepare" | "activate" | "taint" | "revoke")[]): Promise<void> => {
    for (const move of moves) await rotateAuthority(authorityFolder, move, ["x509", "jwt"], Date.now());
  };
  const changes = async (): Promise<number> => {
    const [rows] = await inBatch(databaseAs(stack, "owner"), [
      sql`select 1 from audit_events where type = 'mc.identity.bundle_changed' and attrs like ${`%"${trustDomain}"%`}`,
    ]);
    return rows?.length ?? 0;
  };
  const before = await changes();
  const old = await minted();
  await expect.poll(statuses(old), soon).toEqual([200, 200]);
  await rotate("prepare", "activate");
  const young = await minted();
  await expect.poll(statuses(young), soon).toEqual([200, 200]);
  await rotate("taint", "revoke");
  await expect.poll(statuses(old), soon).toEqual([401, 401]);
  expect(await statuses(young)()).toEqual([200, 200]);
  await expect.poll(changes, soon).toBe(before + 2);
});

test("an authority that is not in the bundle any more opens nothing at either provider, and the next one does", async () => {
  const old = await toEdge("/fetcher/two");
  const next = await newKeys("P-256");
  const young = await toEdge("/fetcher/two", next, "jwt-2");
  await expect.poll(statuses(old), soon).toEqual([200, 200]);
  const both = [jwtEntry(domain.jwtKeys, "jwt-1"), jwtEntry(next, "jwt-2")];
  must(200, await admin.handIn(domain.name, domain.document([authorityEntry(domain.authority), ...both])));
  await expect.poll(statuses(young), soon).toEqual([200, 200]);
  must(200, await admin.handIn(domain.name, domain.document([jwtEntry(next, "jwt-2")])));
  await expect.poll(statuses(old), soon).toEqual([401, 401]);
  expect(await statuses(young)()).toEqual([200, 200]);
});

test("a trust domain that is taken back and stated anew begins its sequence anew at both providers, too", async () => {
  const anew = await TestDomain.make("anew.identity-at-edges.example");
  const keys = [authorityEntry(anew.authority), jwtEntry(anew.jwtKeys, "jwt-1")];
  const tokenOfAnew = await anew.token("/fetcher/one", { aud: "maestro-edge" });
  const stateAndRegister = async (document: string): Promise<string> => {
    must(204, await admin.state(anew.name));
    must(200, await admin.handIn(anew.name, document));
    const registered = must(201, await admin.register(`spiffe://${anew.name}/fetcher/one`, "fetcher"));
    return `/api/identity/workloads/${registered.json.id as string}`;
  };
  // By mistake: none with a number can follow it.
  const last = bundleDocument(keys, { spiffe_sequence: Number.MAX_SAFE_INTEGER });
  const path = await stateAndRegister(last);
  await expect.poll(statuses(tokenOfAnew), soon).toEqual([200, 200]);
  must(204, await admin.call("DELETE", path));
  await expect.poll(statuses(tokenOfAnew), soon).toEqual([401, 401]);
  must(204, await admin.call("DELETE", `/api/identity/trust-domains/${anew.name}`));
  await stateAndRegister(anew.document(keys));
  await expect.poll(statuses(tokenOfAnew), soon).toEqual([200, 200]);
  must(200, await admin.handIn(anew.name, anew.document([])));
  await expect.poll(statuses(tokenOfAnew), soon).toEqual([401, 401]);
});

test("a trust domain that is shared no longer opens nothing for other tenants at either provider, and does again once it is shared", async () => {
  const curator = callsAs(api, { authorization: `Bearer ${(await stack.seedTenant("identity-curator")).keys.admin}` });
  const shared = await TestDomain.make("shared.identity-at-edges.example");
  must(204, await curator.state(shared.name, { shared: true }));
  must(200, await curator.handIn(shared.name, shared.document()));
  const path = `/tenant/${tenant.slug}/fetcher/one`;
  must(201, await admin.register(`spiffe://${shared.name}${path}`, "fetcher"));
  const token = await shared.token(path, { aud: "maestro-edge" });
  await expect.poll(statuses(token), soon).toEqual([200, 200]);
  must(204, await curator.state(shared.name, { shared: false }));
  await expect.poll(statuses(token), soon).toEqual([401, 401]);
  must(204, await curator.state(shared.name, { shared: true }));
  await expect.poll(statuses(token), soon).toEqual([200, 200]);
});
