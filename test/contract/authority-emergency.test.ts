// An authority of a tenant's trust domain that its bundle still has, distrusted by two persons, over the real stack: at the API, at live edges of
// both providers, and against everything that might bring it back. The tenants do not curate.

import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { sql } from "drizzle-orm";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { maestro, testFolder, testHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { EmergencyProposal, Rotation } from "../../shared/contract/http-rotations.ts";
import { authoritiesOf, type AuthorityName } from "../../shared/identity/authorities.ts";
import { distrustedMax } from "../../shared/identity/distrust.ts";
import { keepDistrust, readBelieved } from "../../shared/identity/distrust-store.ts";
import { receiveDocument } from "../../shared/identity/receive-document.ts";
import { parseTrustDomain, type TrustDomain } from "../../shared/identity/spiffe-id.ts";
import { heldBundle, keepBundle } from "../../shared/identity/store.ts";
import { parseTrustBundle } from "../../shared/identity/trust-bundle.ts";
import { outboxInsert } from "../../shared/outbox/outbox.ts";
import { inBatch, type Database } from "../../shared/tenancy/database.ts";
import { distrustAuthorities, type DistrustParts } from "../../workers/api/rotations/distrust-authorities.ts";
import { databaseAs } from "../support/api.ts";
import { byCertificate, callsAs, presented, TestDomain } from "../support/identities.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { anotherPerson } from "../support/people.ts";
import { putRoot, rootFor } from "../support/policies.ts";
import { must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { authorityEntry, bundleDocument, jwtEntry } from "../support/svid.ts";

const stack = useStack();
const random: DistrustParts["random"] = (byteCount) => crypto.getRandomValues(new Uint8Array(byteCount));
let api: Contract;
let owner: Database;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  owner = databaseAs(stack, "owner");
});

function nameOf(text: string): TrustDomain {
  const parsed = parseTrustDomain(text);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}

const entries = ({ authority, jwtKeys }: TestDomain, kid: string): object[] => [
  authorityEntry(authority),
  jwtEntry(jwtKeys, kid),
];

/** A tenant with two authorities in the bundle of its trust domain: a stolen one, and one beside it. */
class World {
  readonly domain: string;
  readonly tenant: SeededTenant;
  readonly admin: ReturnType<typeof callsAs>;
  readonly other: ReturnType<typeof callsAs>;
  readonly stolen: TestDomain;
  readonly beside: TestDomain;
  sequence = 0;

  private constructor(domain: string, tenant: SeededTenant, other: string, stolen: TestDomain, beside: TestDomain) {
    this.domain = domain;
    this.tenant = tenant;
    this.admin = callsAs(api, { authorization: `Bearer ${tenant.keys.admin}` });
    this.other = callsAs(api, { authorization: `Bearer ${other}` });
    this.stolen = stolen;
    this.beside = beside;
  }

  static async make(slug: string): Promise<World> {
    const domain = `${slug}.example`;
    const tenant = await stack.seedTenant(slug, { curates: false });
    const other = await anotherPerson(stack, tenant, "admin");
    const world = new World(domain, tenant, other, await TestDomain.make(domain), await TestDomain.make(domain));
    must(200, await putRoot(api, tenant, await rootFor(api, tenant)));
    must(204, await world.admin.state(domain));
    return world;
  }

  /** Of the next sequence. */
  document(keys: readonly object[] = [...entries(this.stolen, "jwt-1"), ...entries(this.beside, "jwt-2")]): string {
    this.sequence += 1;
    return bundleDocument(keys, { spiffe_sequence: this.sequence });
  }

  async namesOf(...keys: readonly object[]): Promise<AuthorityName[]> {
    const parsed = await parseTrustBundle(nameOf(this.domain), bundleDocument(keys));
    if (!parsed.ok) throw new Error(parsed.refusal.reason);
    return await authoritiesOf(parsed.value);
  }

  stolenNames(): Promise<AuthorityName[]> {
    return this.namesOf(...entries(this.stolen, "jwt-1"));
  }

  async believed(): Promise<AuthorityName[]> {
    const path = `/api/identity/trust-domains/${this.domain}/bundle`;
    const { document } = must(200, await this.admin.call("GET", path)).json as { document: string };
    const { keys } = JSON.parse(document) as { keys: object[] };
    return await this.namesOf(...keys);
  }

  async register(path: string, role = "fetcher"): Promise<string> {
    return must(201, await this.admin.register(`spiffe://${this.domain}${path}`, role)).json.id as string;
  }

  async cli(...argv: string[]): Promise<Record<string, unknown>> {
    const env = { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: this.tenant.keys.admin };
    const answer = await maestro(testHost({ home: testFolder(), env }), ...argv, "--json");
    if (answer.code !== 0) throw new Error(`maestro ${argv.join(" ")} ended with ${answer.code}: ${answer.err}`);
    return answer.json();
  }

  async propose(authorities?: readonly AuthorityName[]): Promise<EmergencyProposal> {
    const asked = { kind: "fetcher", trust_domain: this.domain, reason: "a drill" };
    const body = authorities === undefined ? asked : { ...asked, authorities };
    return must(201, await this.admin.call("POST", "/api/rotations/emergencies", body)).json;
  }

  async approve({ id, proposal_sha256 }: EmergencyProposal): Promise<Rotation> {
    return must(200, await this.other.call("POST", `/api/rotations/${id}/approve`, { proposal_sha256 })).json;
  }

  async shown(id: string): Promise<Rotation> {
    return must(200, await this.admin.call("GET", `/api/rotations/${id}`)).json;
  }

  toApi(of: TestDomain, path = "/fetcher/one"): Promise<string> {
    return of.token(path, {}, of.jwtKeys, of === this.stolen ? "jwt-1" : "jwt-2");
  }

  toEdge(of: TestDomain): Promise<string> {
    return of.token("/fetcher/one", { aud: "maestro-edge" }, of.jwtKeys, of === this.stolen ? "jwt-1" : "jwt-2");
  }

  atEdges(token: string): Promise<number[]> {
    return Promise.all((["a", "b"] as const).map(async (side) => (await this.#edge(side, token)).status));
  }

  async #edge(side: "a" | "b", token: string): Promise<Response> {
    const headers = { authorization: `Bearer ${token}` };
    return await fetch(`${stack.edge[side]}/tuf/${this.tenant.slug}/timestamp.json`, { headers });
  }
}

const comesToItsEnd = async (world: World, id: string): Promise<void> => {
  const facts = async () => {
    const { state, obstacle } = await world.shown(id);
    return { state, obstacle };
  };
  await expect.poll(facts, { timeout: 40_000 }).toEqual({ state: "revoked", obstacle: null });
};
const whoami = async (token: string): Promise<number> =>
  (await callsAs(api, { authorization: `Bearer ${token}` }).whoami()).status;
const byLeaf = async (leaf: Uint8Array): Promise<number> =>
  (await callsAs(api, byCertificate(presented([leaf]))).whoami()).status;
const texts = (names: readonly AuthorityName[]): string[] => names.map(({ slot, kid }) => `${slot}:${kid}`);

/** One connection that is kept: each call answers its status and the connection's port. */
function kept(url: string, token: string): () => Promise<readonly [number, number]> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  return async () => {
    const request = httpRequest(url, { agent, headers: { authorization: `Bearer ${token}` } });
    request.end();
    const [response] = (await once(request, "response")) as [IncomingMessage];
    const { localPort } = response.socket;
    response.resume();
    await once(response, "end");
    return [response.statusCode!, localPort!];
  };
}

test("two persons have the product stop believing an authority that the bundle still has: from the approval on at the API, over open connections and against remembered verdicts, and at the edges; nothing brings it back", async () => {
  const world = await World.make("authority-distrust");
  const { domain, admin, stolen, beside } = world;
  const document = world.document();
  must(200, await admin.handIn(domain, document));
  const ids = [await world.register("/fetcher/one"), await world.register("/ci", "operator")];
  const [old, young] = [await world.toApi(stolen), await world.toApi(beside)];
  const [oldLeaf, youngLeaf] = [await stolen.leaf("/ci"), await beside.leaf("/ci")];
  const connection = kept(`${stack.apiUrl}/api/whoami`, old);
  const [before, port] = await connection();
  expect([before, await whoami(young), await byLeaf(youngLeaf)]).toEqual([200, 200, 200]);
  const [oldAtEdge, youngAtEdge] = [await world.toEdge(stolen), await world.toEdge(beside)];
  await expect.poll(() => world.atEdges(oldAtEdge), { timeout: 30_000 }).toEqual([200, 200]);
  expect(await world.atEdges(youngAtEdge)).toEqual([200, 200]);
  await expect.poll(() => byLeaf(oldLeaf)).toBe(200);

  // Who was seen with it last is known some moments after.
  const names = await world.stolenNames();
  const path = ["rotation", "emergency", "fetcher", "--domain", domain, "--reason", "the server was broken into"];
  const proposed = async () => await world.cli(...path, "--authority", ...texts(names));
  await expect.poll(async () => String((await proposed())["breaks"]), { timeout: 20_000 }).toContain("/ci (x509)");
  const proposal = (await proposed()) as unknown as EmergencyProposal;
  expect(proposal).toMatchObject({ kind: "fetcher", trust_domain: domain, old_keys: names });
  const said = proposal.breaks.join("\n");
  for (const name of texts(names)) expect(said).toContain(name);
  for (const name of texts(await world.namesOf(...entries(beside, "jwt-2")))) expect(said).toContain(name);
  expect(said).toMatch(/It is for ever/);

  // One person alone does not, nor with a key of theirs.
  const { key } = must(201, await admin.call("POST", "/api/keys", { role: "admin" })).json as { key: string };
  for (const caller of [admin, callsAs(api, { authorization: `Bearer ${key}` })]) {
    const { id, proposal_sha256 } = proposal;
    const own = await caller.call("POST", `/api/rotations/${id}/approve`, { proposal_sha256 });
    expect([own.status, own.json.rule]).toEqual([403, "own_change"]);
  }
  expect([await whoami(old), await byLeaf(oldLeaf)]).toEqual([200, 200]);

  await world.approve(proposal);
  expect(await connection()).toEqual([401, port]);
  expect([await whoami(old), await byLeaf(oldLeaf)]).toEqual([401, 401]);
  expect([await whoami(young), await byLeaf(youngLeaf)]).toEqual([200, 200]);
  await comesToItsEnd(world, proposal.id);
  expect(await world.atEdges(oldAtEdge)).toEqual([401, 401]);
  expect(await world.atEdges(youngAtEdge)).toEqual([200, 200]);
  expect(await world.shown(proposal.id)).toMatchObject({
    old_keys: names,
    emergency: { reason: "the server was broken into" },
  });

  const isGone = async (where: string): Promise<void> => {
    expect([where, texts(await world.believed()).filter((name) => texts(names).includes(name))]).toEqual([where, []]);
    expect([where, await whoami(old), await byLeaf(oldLeaf)]).toEqual([where, 401, 401]);
  };
  must(200, await admin.handIn(domain, document));
  await isGone("handed in again");
  must(200, await admin.handIn(domain, world.document()));
  await isGone("of the next sequence");
  const alone = bundleDocument([...entries(stolen, "other-kid"), ...entries(beside, "jwt-2")], {
    spiffe_sequence: (world.sequence += 1),
  });
  must(200, await admin.handIn(domain, alone));
  await isGone("under another kid");
  expect([await whoami(young), await byLeaf(youngLeaf)]).toEqual([200, 200]);
  // The edges follow the next sequences, and believe it no more than before.
  await expect.poll(() => world.atEdges(youngAtEdge), { timeout: 30_000 }).toEqual([200, 200]);
  expect(await world.atEdges(oldAtEdge)).toEqual([401, 401]);
  const view = must(200, await admin.call("GET", `/api/identity/trust-domains/${domain}`)).json;
  expect(view).toMatchObject({ distrusts: 2 });

  const remove = async (caller: typeof admin, workloads: readonly string[]): Promise<void> => {
    for (const id of workloads) must(204, await caller.call("DELETE", `/api/identity/workloads/${id}`));
    must(204, await caller.call("DELETE", `/api/identity/trust-domains/${domain}`));
  };
  await remove(admin, ids);
  // Another tenant that states the name has distrusted nothing: it is their own word which authority is theirs.
  const neighbour = await World.make("authority-neighbour");
  must(204, await neighbour.admin.state(domain));
  must(200, await neighbour.admin.handIn(domain, document));
  const theirs = must(201, await neighbour.admin.register(`spiffe://${domain}/fetcher/one`, "fetcher")).json
    .id as string;
  expect([await whoami(old), await whoami(young)]).toEqual([200, 200]);
  await remove(neighbour.admin, [theirs]);
  must(204, await admin.state(domain));
  must(200, await admin.handIn(domain, document));
  await world.register("/fetcher/one");
  await world.register("/ci", "operator");
  await isGone("stated anew");
  expect(await whoami(young)).toBe(200);

  const told = async (): Promise<unknown> => {
    const [rows] = await inBatch(owner, [
      sql`select attrs from audit_events where tenant_id = ${world.tenant.tenant_id}::uuid
          and type = 'mc.identity.authority_distrusted'`,
    ]);
    return (rows ?? []).map(({ attrs }) => JSON.parse(String(attrs)) as unknown);
  };
  await expect
    .poll(told, { timeout: 30_000 })
    .toMatchObject([
      { trust_domain: domain, rotation_id: proposal.id, authorities: texts(names).join(","), distrusts: 2 },
    ]);
  // It is found again once the domain's rotations were asked for.
  const again = await admin.call("POST", "/api/rotations/emergencies", {
    kind: "fetcher",
    trust_domain: domain,
    reason: "again",
    authorities: names,
  });
  expect([again.status, again.json.code, again.json.detail]).toEqual([
    409,
    "rotation_state",
    "These authorities are distrusted already.",
  ]);
  expect(JSON.stringify(await world.cli("metrics"))).toContain(
    'mc_spiffe_rotations_total{kind=\\"fetcher\\",outcome=\\"emergency\\"} 1',
  );
}, 240_000);

test("where no other authority is left it says so, and all are refused until the tenant hands in a new one", async () => {
  const world = await World.make("authority-last");
  const { domain, admin, stolen, beside } = world;
  must(200, await admin.handIn(domain, world.document(entries(stolen, "jwt-1"))));
  await world.register("/fetcher/one");
  const old = await world.toApi(stolen);
  expect(await whoami(old)).toBe(200);
  const proposal = await world.propose();
  expect(proposal.old_keys).toEqual(await world.stolenNames());
  expect(proposal.breaks.join("\n")).toContain(`No other authority is left: all 1 registered workloads of ${domain}`);
  await world.approve(proposal);
  expect([await whoami(old), await whoami(await world.toApi(beside))]).toEqual([401, 401]);
  must(200, await admin.handIn(domain, world.document()));
  expect([await whoami(old), await whoami(await world.toApi(beside))]).toEqual([401, 200]);
  await comesToItsEnd(world, proposal.id);

  const nobody = await admin.call("POST", "/api/rotations/emergencies", {
    kind: "fetcher",
    trust_domain: "nobody.example",
    reason: "none",
  });
  expect(nobody.status).toBe(404);
  const outsider = callsAs(api, {
    authorization: `Bearer ${(await stack.seedTenant("authority-outsider")).keys.admin}`,
  });
  const body = { kind: "fetcher", trust_domain: domain, reason: "none" };
  const next = await world.propose(await world.namesOf(...entries(beside, "jwt-2")));
  expect((await outsider.call("POST", "/api/rotations/emergencies", body)).status).toBe(404);
  const named = { proposal_sha256: next.proposal_sha256 };
  expect((await outsider.call("POST", `/api/rotations/${next.id}/approve`, named)).status).toBe(404);
  const operator = callsAs(api, { authorization: `Bearer ${world.tenant.keys.operator}` });
  expect((await operator.call("POST", `/api/rotations/${next.id}/approve`, named)).status).toBe(403);
  await inBatch(owner, [
    sql`insert into distrusted_authorities select ${world.tenant.tenant_id}::uuid, ${domain}, 'jwt', lpad(to_hex(n), 64, '0'), '', now()
        from generate_series(1, ${distrustedMax - 2}::int) as n`,
  ]);
  const full = await admin.call("POST", "/api/rotations/emergencies", body);
  expect([full.status, full.json.code]).toEqual([409, "rotation_distrusts_max"]);
}, 120_000);

describe("the commit of a distrust", () => {
  const partsOf = (database: Database): DistrustParts => ({
    clock: () => Date.now(),
    random,
    shards: 1,
    database,
    authDatabase: databaseAs(stack, "auth"),
    nudgeDrain: () => undefined,
  });
  const rotation = `rot_${"0".repeat(26)}`;

  test("a refresh that was decided before it is not kept after it, also where what it brings is newer", async () => {
    const world = await World.make("authority-race");
    const { domain, admin, tenant } = world;
    const app = databaseAs(stack, "app");
    must(200, await admin.handIn(domain, world.document()));
    const held = (await heldBundle(app, tenant.tenant_id, domain, null))!;
    const received = await receiveDocument(nameOf(domain), held, world.document());
    if (!received.ok) throw new Error(received.refusal.reason);
    const own = { tenantId: tenant.tenant_id, trustDomain: nameOf(domain) };
    await distrustAuthorities(partsOf(app), own, rotation, await world.stolenNames());
    const outbox = (where: Parameters<typeof outboxInsert>[2]) => outboxInsert([], 1, where);
    const change = { now: Date.now(), outbox, claim: null, response: null, endpoint: null };
    expect(await keepBundle(app, tenant.tenant_id, domain, held, received.value, change)).toBe(false);
    // Many of both at once: whatever came last, it is not believed.
    const more = await world.namesOf(...entries(world.beside, "jwt-2"));
    await Promise.all([
      ...Array.from({ length: 6 }, () => admin.handIn(domain, world.document())),
      distrustAuthorities(partsOf(app), own, rotation, more),
    ]);
    expect(await world.believed()).toEqual([]);
  }, 60_000);

  test("one that was decided before a bundle came in force is not kept after it", async () => {
    const world = await World.make("authority-overtaken");
    const { domain, admin, tenant } = world;
    const app = databaseAs(stack, "app");
    must(200, await admin.handIn(domain, world.document()));
    const before = await readBelieved(app, tenant.tenant_id, domain);
    must(200, await admin.handIn(domain, world.document()));
    const outbox = (where: Parameters<typeof outboxInsert>[2]) => outboxInsert([], 1, where);
    const change = { names: await world.stolenNames(), rotation_id: rotation, next: null, now: Date.now(), outbox };
    expect(await keepDistrust(app, tenant.tenant_id, domain, before, change)).toBe(false);
    expect((await readBelieved(app, tenant.tenant_id, domain)).distrusted).toEqual([]);
  });

  test("a domain that is stated at the same time does not overlook it, nor is it left half done", async () => {
    const world = await World.make("authority-stated");
    const { domain, admin, tenant } = world;
    const app = databaseAs(stack, "app");
    const own = { tenantId: tenant.tenant_id, trustDomain: nameOf(domain) };
    must(204, await admin.call("DELETE", `/api/identity/trust-domains/${domain}`));
    // Decided on before the domain was stated, committed after.
    const before = await readBelieved(app, tenant.tenant_id, domain);
    must(204, await admin.state(domain));
    const outbox = (where: Parameters<typeof outboxInsert>[2]) => outboxInsert([], 1, where);
    const names = await world.stolenNames();
    const late = { names, rotation_id: rotation, next: null, now: Date.now(), outbox };
    expect(await keepDistrust(app, tenant.tenant_id, domain, before, late)).toBe(false);
    await distrustAuthorities(partsOf(app), own, rotation, names.slice(0, 1));
    must(204, await admin.call("DELETE", `/api/identity/trust-domains/${domain}`));
    await Promise.all([distrustAuthorities(partsOf(app), own, rotation, names), admin.state(domain)]);
    must(200, await admin.handIn(domain, world.document()));
    expect(await world.believed()).toEqual(await world.namesOf(...entries(world.beside, "jwt-2")));
  }, 60_000);

  test("after a death at each of its calls, before or after its effect, it is done once, with one event", async () => {
    const world = await World.make("authority-death");
    const { domain, admin, tenant } = world;
    must(200, await admin.handIn(domain, world.document()));
    const app = databaseAs(stack, "app");
    const own = { tenantId: tenant.tenant_id, trustDomain: nameOf(domain) };
    const names = await world.stolenNames();
    for (const [dies, hasEffect] of [
      [1, false],
      [1, true],
      [2, false],
      [2, true],
    ] as const) {
      let calls = 0;
      const mortal = new Proxy(app, {
        get(target, member): unknown {
          const value: unknown = Reflect.get(target, member);
          if (member !== "batch" || typeof value !== "function") return value;
          return async (...given: unknown[]): Promise<unknown> => {
            calls += 1;
            if (calls === dies && !hasEffect) throw new Error("died");
            const result: unknown = await Reflect.apply(value, target, given);
            if (calls === dies) throw new Error("died");
            return result;
          };
        },
      });
      await expect(distrustAuthorities(partsOf(mortal), own, rotation, names)).rejects.toThrow("died");
    }
    await distrustAuthorities(partsOf(app), own, rotation, names);
    expect(await world.believed()).toEqual(await world.namesOf(...entries(world.beside, "jwt-2")));
    const rows = async (statement: ReturnType<typeof sql>): Promise<number> =>
      (await inBatch(owner, [statement]))[0]?.length ?? 0;
    const ofTenant = sql`tenant_id = ${tenant.tenant_id}::uuid`;
    expect(await rows(sql`select kid from distrusted_authorities where ${ofTenant}`)).toBe(2);
    const events = sql`select 1 from audit_events where ${ofTenant} and type = 'mc.identity.authority_distrusted'`;
    await expect.poll(() => rows(events), { timeout: 30_000 }).toBe(1);
  }, 60_000);

  test("no worker's role takes a row back or changes one", async () => {
    const world = await World.make("authority-kept");
    const app = databaseAs(stack, "app");
    for (const statement of [sql`delete from distrusted_authorities`, sql`update distrusted_authorities set kid = kid`])
      await expect(inBatch(app, [statement])).rejects.toMatchObject({ code: "42501" });
    expect(world.tenant.slug).toBe("authority-kept");
  });
});
