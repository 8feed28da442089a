// Fetchers as SPIFFE workloads at both providers, against the real stack: rows in Postgres, the publisher's mirror, and the edges on
// workerd and on Deno, which have a store and no database.

import { createHash, randomBytes } from "node:crypto";
import { Agent, request as httpRequest } from "node:http";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { maestro, testFolder, testHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { base64 } from "../../shared/contract/bytes.ts";
import { writeProviders } from "../../shared/edge/providers.ts";
import { tenantsTrusting } from "../../shared/edge/store.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { inBatch, type Database } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { sha256Of } from "../support/edge-fixture.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { publishPolicy, putRoot, rootFor } from "../support/policies.ts";
import { jsonCall, must, registeredSigner } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { newKeys, newLeaf } from "../support/svid.ts";
import { TrustDomainRows } from "../support/trust-domain.ts";

const stack = useStack();
const sides = ["a", "b"] as const;
type Side = (typeof sides)[number];
/** docs/edge/SERVING.md: an edge holds a bundle and a workload for so long. */
const leaseMs = 5_000;
let api: Contract;
let owner: Database;
let tenant: SeededTenant;
let other: SeededTenant;
let domain: TrustDomainRows;
let foreign: TrustDomainRows;
let signer: Signer;
let fetcher: string;
let stranger: string;
const agents: Agent[] = [];

async function withRepository(slug: string): Promise<SeededTenant> {
  const seeded = await stack.seedTenant(slug);
  must(200, await putRoot(api, seeded, await rootFor(api, seeded)));
  return seeded;
}

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  owner = databaseAs(stack, "owner");
  tenant = await withRepository("edge-identity");
  signer = await registeredSigner(api, tenant);
  other = await withRepository("edge-identity-other");
  domain = await TrustDomainRows.make(owner, tenant.tenant_id, "edge-identity.example");
  foreign = await TrustDomainRows.make(owner, other.tenant_id, "edge-identity-other.example");
  fetcher = await domain.register("/fetcher/one", tenant.principals.fetcher);
  stranger = await foreign.register("/fetcher/one", other.principals.fetcher);
  await stack.runScheduled();
});

afterAll(() => {
  for (const agent of agents) agent.destroy();
});

const pathOf = ({ slug }: SeededTenant): string => `/tuf/${slug}/timestamp.json`;

interface Asked {
  readonly status: number;
  readonly code: string | undefined;
  readonly detail: string | undefined;
}

async function ask(side: Side, bearer: string, path = pathOf(tenant)): Promise<Asked> {
  const response = await fetch(`${stack.edge[side]}${path}`, { headers: { authorization: `Bearer ${bearer}` } });
  const { code, detail } = (await response.json()) as Partial<Asked>;
  return { status: response.status, code, detail };
}
const statuses = (bearer: string, path?: string): Promise<number[]> =>
  Promise.all(sides.map(async (side) => (await ask(side, bearer, path)).status));

/** One connection that stays open: its port on this side tells whether it did. */
function connection(side: Side): (bearer: string) => Promise<{ status: number; port: number }> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  agents.push(agent);
  return (bearer) =>
    new Promise((resolve, reject) => {
      const sent = httpRequest(
        `${stack.edge[side]}${pathOf(tenant)}`,
        { agent, headers: { authorization: `Bearer ${bearer}` } },
        (response) => {
          const port = response.socket.localPort ?? 0;
          response.resume();
          response.once("end", () => resolve({ status: response.statusCode ?? 0, port }));
        },
      );
      sent.once("error", reject).end();
    });
}

async function verified(side: Side): Promise<number> {
  const headers = { authorization: `Bearer ${stack.edge.metricsKey}` };
  const text = await (await fetch(`${stack.edge[side]}/metrics`, { headers })).text();
  return text
    .split("\n")
    .filter((line) => line.startsWith("mc_edge_svid_verifications_total{"))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

describe.each(sides)("provider %s", (side) => {
  test("opens a tenant's policies to its registered fetcher, and another tenant's to nobody else", async () => {
    const mine = await domain.token(fetcher);
    expect((await ask(side, mine)).status).toBe(200);
    expect(await ask(side, mine, pathOf(other))).toMatchObject({ status: 404, code: "not_found" });
    expect((await ask(side, await foreign.token(stranger), pathOf(other))).status).toBe(200);
    expect((await ask(side, await foreign.token(stranger))).status).toBe(404);
    for (const path of ["/workloads/x.json", `/trust/${tenant.slug}/${domain.name}.json`])
      expect((await ask(side, mine, path)).status).toBe(404);
  });

  test("looks at a signature once, however often its SVID comes", async () => {
    const mine = await domain.token(fetcher, { jti: randomBytes(8).toString("hex") });
    const before = await verified(side);
    for (let times = 0; times < 5; times += 1) expect((await ask(side, mine)).status).toBe(200);
    expect((await verified(side)) - before).toBe(1);
  });

  test("says which rule a registered fetcher's SVID breaks", async () => {
    const refused = async (bearer: string): Promise<string> => {
      const { status, code, detail } = await ask(side, bearer);
      expect([status, code]).toEqual([401, "fetcher_key_needed"]);
      return /\(([^)]+)\)/.exec(detail ?? "")?.[1] ?? "no section";
    };
    expect(await refused(await domain.token(fetcher, { aud: "maestro-api" }))).toBe("JWT-SVID 3.2");
    expect(await refused(await domain.token(fetcher, { seconds: -61 }))).toBe("JWT-SVID 3.3");
    expect(await refused(await domain.token(fetcher, { by: await newKeys("P-256") }))).toBe("JWT-SVID 4");
    expect(await refused(await domain.token(fetcher, { kid: "another" }))).toBe("JWT-SVID 4");
    // The key of another tenant's authority, in its own name and in the name of this one's.
    expect(await refused(await domain.token(fetcher, { by: foreign.signing.keys }))).toBe("JWT-SVID 4");
    expect(await refused(await domain.token(fetcher, { by: foreign.signing.keys, kid: foreign.signing.kid }))).toBe(
      "JWT-SVID 4",
    );
  });

  test("tells whoever is not registered nothing but what it tells who comes without anything", async () => {
    const nothing = await (await fetch(`${stack.edge[side]}${pathOf(tenant)}`)).json();
    const { request_id: _, ...expected } = nothing as Record<string, unknown>;
    for (const bearer of [
      await domain.token(`spiffe://${domain.name}/fetcher/none`),
      await domain.token("spiffe://nowhere.example/fetcher/one"),
      await domain.token("spiffe://nowhere.example/fetcher/one", { seconds: -600 }),
      await domain.token("somebody"),
      "a.b.c",
    ]) {
      const response = await fetch(`${stack.edge[side]}${pathOf(tenant)}`, {
        headers: { authorization: `Bearer ${bearer}` },
      });
      const { request_id: __, ...document } = (await response.json()) as Record<string, unknown>;
      expect([response.status, document]).toEqual([401, expected]);
    }
  });

  test("reads no header that pretends to be a certificate", async () => {
    const leaf = base64(await newLeaf(domain.signing.authority, fetcher));
    const forged = {
      "client-cert": `:${leaf}:`,
      "client-cert-chain": `:${leaf}:`,
      "x-client-cert": `:${leaf}:`,
      "cf-client-cert-der-base64": leaf,
      "x-forwarded-client-cert": `Cert="${leaf}";URI=${fetcher}`,
      "x-forwarded-for": "127.0.0.1",
    };
    const response = await fetch(`${stack.edge[side]}${pathOf(tenant)}`, { headers: forged });
    expect(response.status).toBe(401);
  });

  test("ends an answer that began before its SVID did, and begins no other one", { timeout: 30_000 }, async () => {
    const bytes = randomBytes(16 * 1024 * 1024);
    const path = `policies/${tenant.slug}/${sha256Of(bytes)}.tar.gz`;
    await stack.edgeStores[side].put(path, bytes);
    // Good for two or three seconds more: clocks may be 60 seconds apart.
    const mine = await domain.token(fetcher, { seconds: -57 });
    const began = await fetch(`${stack.edge[side]}/${path}`, { headers: { authorization: `Bearer ${mine}` } });
    expect(began.status).toBe(200);
    await sleep(3_500);
    expect((await ask(side, mine)).status).toBe(401);
    expect(sha256Of(new Uint8Array(await began.arrayBuffer()))).toBe(sha256Of(bytes));
  });
});

test(
  "MC-ZTE-1941: an SVID whose authority was revoked opens nothing from the lease's end on, on open connections with warm caches too",
  { timeout: 60_000 },
  async () => {
    const old = domain.signing;
    const before = await domain.token(fetcher);
    const fresh = await domain.addAuthority();
    await stack.runScheduled();
    await sleep(leaseMs);
    const open = sides.map(connection);
    const after = await domain.token(fetcher, { kid: fresh.kid, by: fresh.keys });
    for (const one of open) {
      expect((await one(before)).status).toBe(200);
      expect((await one(after)).status).toBe(200);
    }
    await domain.revoke(old.kid);
    // When it returns, both stores were read back; the lease of whoever has read before is over 5 s later.
    await stack.runScheduled();
    const over = performance.now() + leaseMs;
    const ports = await Promise.all(open.map(async (one) => (await one(after)).port));
    while (performance.now() < over) {
      for (const one of open) expect((await one(after)).status).toBe(200);
      await Promise.all(open.map((one) => one(before)));
      await sleep(100);
    }
    for (let times = 0; times < 20; times += 1)
      for (const [index, one] of open.entries()) {
        expect(await one(before)).toEqual({ status: 401, port: ports[index] });
        expect(await one(after)).toEqual({ status: 200, port: ports[index] });
      }
  },
);

test(
  "a download that began before its authority was revoked ends whole at either provider; nothing begins by it, a range of it neither",
  { timeout: 60_000 },
  async () => {
    const { kid } = domain.signing;
    const headers = { authorization: `Bearer ${await domain.token(fetcher)}` };
    // More than all buffers between a reader that has stopped and the store.
    const bytes = randomBytes(16 * 1024 * 1024);
    const path = `policies/${tenant.slug}/${sha256Of(bytes)}.tar.gz`;
    await Promise.all(sides.map((side) => stack.edgeStores[side].put(path, bytes)));
    const get = (side: Side, more: Record<string, string> = {}): Promise<Response> =>
      fetch(`${stack.edge[side]}/${path}`, { headers: { ...headers, ...more } });
    const held = await Promise.all(sides.map((side) => get(side)));
    expect(held.map(({ status }) => status)).toEqual([200, 200]);
    await domain.addAuthority();
    await domain.revoke(kid);
    await stack.runScheduled();
    await sleep(leaseMs);
    const begun = sides.flatMap((side) => [get(side), get(side, { range: "bytes=1048576-" })]);
    expect((await Promise.all(begun)).map(({ status }) => status)).toEqual([401, 401, 401, 401]);
    for (const { body } of held) {
      const hash = createHash("sha256");
      for await (const piece of body as AsyncIterable<Uint8Array>) {
        hash.update(piece);
        await sleep(1);
      }
      expect(hash.digest("hex")).toBe(sha256Of(bytes));
    }
  },
);

test("`maestro edge fetch --svid` activates from either provider what was published", { timeout: 60_000 }, async () => {
  const { bundle } = await publishPolicy(api, tenant, signer, "gateway", "r1");
  const home = testFolder();
  const root = await fetch(`${stack.edge.a}/tuf/${tenant.slug}/1.root.json`, {
    headers: { authorization: `Bearer ${await domain.token(fetcher)}` },
  });
  writeFileSync(join(home, "1.root.json"), await root.text());
  mkdirSync(join(home, "svid"));
  writeFileSync(join(home, "svid", "jwt-maestro-edge.txt"), `${await domain.token(fetcher)}\n`);
  for (const side of sides) {
    writeFileSync(join(home, `${side}.json`), writeProviders([{ name: side, baseUrl: stack.edge[side] }]));
    const trust = ["--tenant", tenant.slug, "--root", "1.root.json", "--publisher", base64(signer.spki)];
    const where = ["--providers", `${side}.json`, "--svid", "svid", "--state", join(home, side)];
    const fetchOnce = async () => {
      const { code, json } = await maestro(
        testHost({ home }),
        "edge",
        "fetch",
        "gateway",
        ...trust,
        ...where,
        "--json",
      );
      return { exit: code, ...(json()["policies"] as [Record<string, unknown>])[0] };
    };
    await expect.poll(fetchOnce, { timeout: 8_000 }).toMatchObject({ exit: 0, sha256: sha256Of(bundle), from: side });
    const status = await maestro(
      testHost({ home }),
      "edge",
      "status",
      "--tenant",
      tenant.slug,
      "--state",
      join(home, side),
    );
    expect(status.out).toContain(domain.signing.kid);
  }
});

test("a client certificate opens provider A where no Authorization came, as long as its authority is believed", async () => {
  const now = Date.now();
  const times = { notBeforeMs: now - 60_000, notAfterMs: now + 600_000 };
  const said = async (authority = domain.signing.authority) => ({
    certPresented: "1",
    certVerified: "FAILED:unable to get local issuer certificate",
    certRFC9440: `:${base64(await newLeaf(authority, fetcher, times))}:`,
    certRFC9440TooLarge: false,
    certChainRFC9440: "",
    certChainRFC9440TooLarge: false,
  });
  const path = pathOf(tenant);
  const good = await said();
  expect((await stack.fetchEdgeA(path, {}, good)).status).toBe(200);
  expect((await stack.fetchEdgeA(pathOf(other), {}, good)).status).toBe(404);
  expect((await stack.fetchEdgeA(path, { authorization: "Bearer nonsense" }, good)).status).toBe(401);
  const refused = await stack.fetchEdgeA(path, {}, await said(foreign.signing.authority));
  expect([refused.status, refused.text]).toEqual([401, expect.stringContaining("The SVID was refused")]);
  expect((await stack.fetchEdgeA(path, {}, { ...good, certRFC9440: "" })).status).toBe(401);
  expect((await stack.fetchEdgeA(path, {}, { ...good, certRFC9440TooLarge: true })).status).toBe(401);
});

test(
  "keys of fetchers open nothing as soon as one SPIFFE ID is registered; with the flag spiffe_everywhere off they do, beside it",
  { timeout: 60_000 },
  async () => {
    const mine = await withRepository("edge-identity-keys");
    const made = must(201, await api.fetch("/api/keys", jsonCall(mine.keys.admin, "POST", { role: "fetcher" })));
    const key = made.json.id === undefined ? "" : String(made.json.key);
    const path = pathOf(mine);
    await expect.poll(() => statuses(key, path), { timeout: 8_000 }).toEqual([200, 200]);
    const own = await TrustDomainRows.make(owner, mine.tenant_id, "edge-identity-keys.example");
    const id = await own.register("/fetcher/one", mine.principals.fetcher);
    await stack.runScheduled();
    await sleep(leaseMs);
    expect(await statuses(key, path)).toEqual([401, 401]);
    expect(await statuses(await own.token(id), path)).toEqual([200, 200]);
    const flag = (enabled: boolean) =>
      inBatch(owner, [
        sql`insert into tenant_flags values (${mine.tenant_id}, 'spiffe_everywhere', ${enabled}, 'test', now())
            on conflict (tenant_id, flag) do update set enabled = excluded.enabled`,
      ]);
    await flag(false);
    await stack.runScheduled();
    await expect.poll(() => statuses(key, path), { timeout: 8_000 }).toEqual([200, 200]);
    expect(await statuses(await own.token(id), path)).toEqual([200, 200]);
    await flag(true);
    await stack.runScheduled();
    await sleep(leaseMs);
    expect(await statuses(key, path)).toEqual([401, 401]);
    await own.unregister(id);
    await stack.runScheduled();
    await sleep(leaseMs);
    expect(await statuses(await own.token(id), path)).toEqual([401, 401]);
    expect(await statuses(key, path)).toEqual([200, 200]);
  },
);

test("a fetcher whose principal is disabled is a stranger, and whoever mirrors a trust domain is found by it", async () => {
  const mine = await withRepository("edge-identity-disabled");
  const own = await TrustDomainRows.make(owner, mine.tenant_id, "edge-identity-disabled.example");
  const id = await own.register("/fetcher/one", mine.principals.fetcher);
  expect(await tenantsTrusting(databaseAs(stack, "auth"), own.name)).toEqual([mine.tenant_id]);
  await stack.runScheduled();
  await expect
    .poll(async () => await statuses(await own.token(id), pathOf(mine)), { timeout: 8_000 })
    .toEqual([200, 200]);
  await inBatch(owner, [sql`update principals set disabled_at = now() where id = ${mine.principals.fetcher}`]);
  await stack.runScheduled();
  await sleep(leaseMs);
  expect(await statuses(await own.token(id), pathOf(mine))).toEqual([401, 401]);
});

test(
  "a trust domain that was given up and that another tenant states anew, with a lower sequence, opens at edges that remember it",
  { timeout: 60_000 },
  async () => {
    const mine = await withRepository("edge-identity-anew");
    const name = "edge-identity-anew.example";
    const id = `spiffe://${name}/tenant/${mine.slug}/fetcher/one`;
    const statedBy = async ({ tenant_id: by }: SeededTenant): Promise<TrustDomainRows> => {
      const stated = await TrustDomainRows.make(owner, by, name);
      await inBatch(owner, [
        sql`update trust_domains set shared = true where name = ${name}`,
        sql`insert into workloads values (${id}, ${name}, ${mine.tenant_id}, ${mine.principals.fetcher}, now(), 'test')`,
      ]);
      return stated;
    };
    const opens = async (stated: TrustDomainRows): Promise<void> => {
      await expect
        .poll(async () => await statuses(await stated.token(id), pathOf(mine)), { timeout: 12_000 })
        .toEqual([200, 200]);
    };
    const first = await statedBy(other);
    for (let more = 0; more < 3; more += 1) await first.addAuthority();
    await stack.runScheduled();
    await opens(first);
    await inBatch(owner, [
      sql`delete from workloads where trust_domain = ${name}`,
      sql`delete from trust_domains where name = ${name}`,
    ]);
    const second = await statedBy(tenant);
    await stack.runScheduled();
    await opens(second);
    expect(await statuses(await first.token(id), pathOf(mine))).toEqual([401, 401]);
  },
);
