// The authority of a tenant's trust domain rotated over the real stack: an authority for development in a folder, workloads that call the API, and live
// edges of both providers. The tenant does not curate.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { initAuthority, readAuthority, rotateAuthority } from "../../cli/svid/authority-folder.ts";
import { mintSvid } from "../../cli/svid/mint.ts";
import { maestro, testHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { base64Bytes } from "../../shared/contract/bytes.ts";
import { rotationStates, type Rotation } from "../../shared/contract/http-rotations.ts";
import { authoritiesOf } from "../../shared/identity/authorities.ts";
import { bundleOfState, type RotationMove } from "../../shared/identity/issue/authority-state.ts";
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from "../../shared/identity/spiffe-id.ts";
import { parseTrustBundle } from "../../shared/identity/trust-bundle.ts";
import { byCertificate, callsAs, presented } from "../support/identities.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { putRoot, rootFor } from "../support/policies.ts";
import { must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const home = mkdtempSync(join(tmpdir(), "maestro-authority-rotation-"));
let api: Contract;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

interface Held {
  readonly edge: string;
  readonly api: string;
  readonly certificate: object;
}

/** A tenant with a repository, a trust domain and an authority of its own. */
class World {
  readonly tenant: SeededTenant;
  readonly domain: string;
  readonly folder: string;
  readonly admin: ReturnType<typeof callsAs>;

  private constructor(tenant: SeededTenant, domain: string) {
    this.tenant = tenant;
    this.domain = domain;
    this.folder = join(home, tenant.slug);
    this.admin = callsAs(api, { authorization: `Bearer ${tenant.keys.admin}` });
  }

  static async make(slug: string): Promise<World> {
    const tenant = await stack.seedTenant(slug, { curates: false });
    must(200, await putRoot(api, tenant, await rootFor(api, tenant)));
    const world = new World(tenant, `${slug}.example`);
    const name = parseTrustDomain(world.domain);
    if (!name.ok) throw new Error(name.refusal.reason);
    await initAuthority(world.folder, name.value, Date.now());
    must(204, await world.admin.state(world.domain));
    await world.handIn();
    return world;
  }

  idOf(path: string): SpiffeId {
    const id = parseSpiffeId(`spiffe://${this.domain}${path}`);
    if (!id.ok) throw new Error(id.refusal.reason);
    return id.value;
  }

  async handIn(): Promise<void> {
    must(200, await this.admin.handIn(this.domain, bundleOfState(await readAuthority(this.folder))));
  }

  move(move: RotationMove): Promise<unknown> {
    return rotateAuthority(this.folder, move, ["x509", "jwt"], Date.now());
  }

  async register(path: string, role = "fetcher"): Promise<string> {
    return must(201, await this.admin.register(this.idOf(path).uri, role)).json.id as string;
  }

  /** SVIDs by the key that is active now. */
  async mint(path: string): Promise<Held> {
    const wish = { id: this.idOf(path), ttlSeconds: 600, audiences: ["maestro-edge", "maestro-api"] };
    const { files } = await mintSvid(await readAuthority(this.folder), wish, Date.now());
    const [edge, own] = files.tokens.map(({ token }) => token);
    const leaf = base64Bytes(files.chainPem.replaceAll(/-----[A-Z ]+-----|\s/g, ""));
    return { edge: edge!, api: own!, certificate: presented([leaf]) };
  }

  async call({ api: token }: Held): Promise<number> {
    return (await callsAs(api, { authorization: `Bearer ${token}` }).whoami()).status;
  }

  async callByCertificate({ certificate }: Held): Promise<number> {
    return (await callsAs(api, byCertificate(certificate)).whoami()).status;
  }

  atEdges({ edge: token }: Held): Promise<number[]> {
    const headers = { authorization: `Bearer ${token}` };
    const url = (side: "a" | "b"): string => `${stack.edge[side]}/tuf/${this.tenant.slug}/timestamp.json`;
    return Promise.all((["a", "b"] as const).map(async (side) => (await fetch(url(side), { headers })).status));
  }

  /** Looked at anew, and as far as it came. */
  async resumed(id: string): Promise<Rotation> {
    return must(200, await this.admin.call("POST", `/api/rotations/${id}/resume`)).json;
  }

  async cli(...argv: string[]): Promise<Record<string, unknown>> {
    const env = { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: this.tenant.keys.admin };
    const answer = await maestro(testHost({ home, env }), ...argv, "--json");
    if (answer.code !== 0) throw new Error(`maestro ${argv.join(" ")} ended with ${answer.code}: ${answer.err}`);
    return answer.json();
  }
}

const comesTo = async (world: World, id: string, wanted: Partial<Record<keyof Rotation, unknown>>): Promise<void> => {
  await expect.poll(() => world.resumed(id), { timeout: 30_000, interval: 250 }).toMatchObject(wanted);
};
const says = (pattern: RegExp): string => expect.stringMatching(pattern) as string;

test("MC-ZTE-1942: a tenant's own authority rotates by what is seen: each state waits for its condition and says what is missing, and what is revoked is refused everywhere", async () => {
  const world = await World.make("authority-rotation");
  const { domain } = world;
  await world.register("/fetcher/one");
  await world.register("/ci", "operator");
  const [one, ci] = [await world.mint("/fetcher/one"), await world.mint("/ci")];
  expect([await world.call(one), await world.callByCertificate(ci)]).toEqual([200, 200]);
  await expect.poll(() => world.atEdges(one), { timeout: 30_000 }).toEqual([200, 200]);
  await world.cli("rotation", "consumer", "add", "fetcher", "plant-7-proxy", "--domain", domain);

  const { id } = (await world.cli("rotation", "start", "fetcher", "--domain", domain)) as { id: string };
  const shown = await world.cli("rotation", "show", id);
  expect(shown).toMatchObject({
    kind: "fetcher",
    trust_domain: domain,
    state: "prepare",
    new_keys: [],
    obstacle: says(
      /no new x509 and no new jwt authority.*maestro svid authority prepare.*localauthority x509 prepare.*bundle set/,
    ),
  });
  expect((shown["old_keys"] as { slot: string }[]).map(({ slot }) => slot)).toEqual(["x509", "jwt"]);
  const second = await world.admin.call("POST", "/api/rotations", { kind: "fetcher", trust_domain: domain });
  expect([second.status, second.json.code]).toEqual([409, "rotation_running"]);

  await world.move("prepare");
  await world.handIn();
  await comesTo(world, id, { state: "published", waiting_for: ["plant-7-proxy"] });
  const bundle = join(home, "bundle.json");
  writeFileSync(bundle, bundleOfState(await readAuthority(world.folder)));
  await world.cli("rotation", "acknowledge", id, "plant-7-proxy", "--bundle", bundle);
  await comesTo(world, id, {
    state: "acknowledged",
    obstacle: says(/no SVID by a new authority was taken yet.*activate/),
  });

  await world.move("activate");
  const next = await world.mint("/fetcher/one");
  expect([await world.atEdges(next), await world.call(next)]).toEqual([[200, 200], 200]);
  // The other workload was not renewed: it is named, and blocks, whether it calls or not.
  const behind = says(new RegExp(`^the old authority is still presented by spiffe://${domain}/ci \\(x509\\): renew`));
  await comesTo(world, id, { state: "tainted", obstacle: behind });
  expect([await world.callByCertificate(ci), await world.call(next)]).toEqual([200, 200]);
  await comesTo(world, id, { state: "tainted", obstacle: behind });
  const renewed = await world.mint("/ci");
  await expect
    .poll(
      async () => {
        expect([await world.callByCertificate(renewed), await world.call(next)]).toEqual([200, 200]);
        return await world.resumed(id);
      },
      { timeout: 30_000 },
    )
    .toMatchObject({
      state: "verified",
      obstacle: says(/the bundle in force still has x509 [0-9a-f]{16}, jwt [0-9a-f]{16}/),
    });

  await world.move("taint");
  await world.move("revoke");
  await world.handIn();
  await comesTo(world, id, { state: "revoked", obstacle: null });
  expect(await world.atEdges(one)).toEqual([401, 401]);
  expect([await world.call(one), await world.callByCertificate(ci)]).toEqual([401, 401]);
  expect([await world.atEdges(next), await world.call(next)]).toEqual([[200, 200], 200]);

  const ended = await world.cli("rotation", "show", id);
  expect((ended["transitions"] as { state: string }[]).map(({ state }) => state)).toEqual(rotationStates);
  const name = parseTrustDomain(domain);
  const parsed = name.ok ? await parseTrustBundle(name.value, bundleOfState(await readAuthority(world.folder))) : name;
  expect(ended["new_keys"]).toEqual(parsed.ok ? await authoritiesOf(parsed.value) : []);
  const told = async (): Promise<string[]> => {
    const query = 'FIND events WHERE type = "mc.key.rotation" SINCE 1h';
    const { rows } = must(200, await world.admin.call("POST", "/api/pql", { query })).json as unknown as {
      rows: { outcome: string }[];
    };
    return rows.map(({ outcome }) => outcome).toSorted();
  };
  await expect.poll(told, { timeout: 30_000 }).toEqual([...rotationStates].toSorted());
  expect(JSON.stringify(await world.cli("metrics"))).toContain(
    'mc_spiffe_rotations_total{kind=\\"fetcher\\",outcome=\\"completed\\"} 1',
  );
}, 180_000);

test("an edge whose store has not the bundle in force blocks the switch, and is named", async () => {
  const world = await World.make("authority-unmirrored");
  const rotated = { kind: "fetcher", trust_domain: world.domain };
  await world.register("/fetcher/one");
  const held = await world.mint("/fetcher/one");
  await expect.poll(() => world.atEdges(held), { timeout: 30_000 }).toEqual([200, 200]);
  const consumer = `/api/rotations/consumers/fetcher/plant-7-proxy?trust_domain=${world.domain}`;
  must(200, await world.admin.call("PUT", consumer));
  const { id } = must(201, await world.admin.call("POST", "/api/rotations", rotated)).json as { id: string };
  await world.move("prepare");
  await world.handIn();
  await comesTo(world, id, { state: "published", waiting_for: ["plant-7-proxy"] });
  // A write that came late, of what was there before.
  const { sequence, ...before } = await readAuthority(world.folder);
  const older = { ...before, x509: before.x509.slice(0, 1), jwt: before.jwt.slice(0, 1), sequence: sequence - 1 };
  const key = `trust/${world.tenant.slug}/${world.domain}.json`;
  await stack.edgeStores.b.put(key, new TextEncoder().encode(bundleOfState(older)));
  await comesTo(world, id, { state: "published", waiting_for: ["edge-b", "plant-7-proxy"] });
  await stack.runScheduled();
  await comesTo(world, id, { state: "published", waiting_for: ["plant-7-proxy"] });
}, 120_000);

test("a domain's rotations are its tenant's alone: another one, also one that curates, sees and starts none", async () => {
  const world = await World.make("authority-own");
  const { id } = must(
    201,
    await world.admin.call("POST", "/api/rotations", { kind: "fetcher", trust_domain: world.domain }),
  ).json as { id: string };
  const listed = must(200, await world.admin.call("GET", "/api/rotations")).json as unknown as {
    rotations: Rotation[];
  };
  expect(listed.rotations.map(({ id: each }) => each)).toEqual([id]);
  const release = await world.admin.call("POST", "/api/rotations", { kind: "release" });
  expect([release.status, release.json.rule]).toEqual([403, "tenant_not_curating"]);
  const curator = callsAs(api, { authorization: `Bearer ${(await stack.seedTenant("authority-curator")).keys.admin}` });
  for (const [method, path, body] of [
    ["POST", "/api/rotations", { kind: "fetcher", trust_domain: world.domain }],
    ["GET", `/api/rotations/${id}`, undefined],
    ["POST", `/api/rotations/${id}/resume`, undefined],
    ["PUT", `/api/rotations/consumers/fetcher/stranger?trust_domain=${world.domain}`, undefined],
  ] as const) {
    expect([path, (await curator.call(method, path, body)).status]).toEqual([path, 404]);
  }
  const viewer = callsAs(api, { authorization: `Bearer ${world.tenant.keys.viewer}` });
  expect((await viewer.call("POST", "/api/rotations", { kind: "fetcher", trust_domain: world.domain })).status).toBe(
    403,
  );
  const bare = await world.admin.call("PUT", "/api/rotations/consumers/fetcher/stranger");
  expect([bare.status, bare.json.code]).toEqual([400, "invalid_request"]);
});

test("a rotation that was started by mistake is taken back until the new authority is in use, and the next one takes what is in force then for the old", async () => {
  const world = await World.make("authority-cancel");
  const { domain } = world;
  await world.register("/fetcher/one");
  const one = await world.mint("/fetcher/one");
  const start = async () =>
    (await world.cli("rotation", "start", "fetcher", "--domain", domain)) as unknown as Rotation;
  const first = await start();
  expect(first.state).toBe("prepare");
  const again = await world.admin.call("POST", "/api/rotations", { kind: "fetcher", trust_domain: domain });
  expect([again.status, again.json.code]).toEqual([409, "rotation_running"]);
  expect(await world.cli("rotation", "cancel", first.id)).toMatchObject({ state: "cancelled", obstacle: null });
  const outsider = await stack.seedTenant("authority-cancel-outsider");
  const second = await start();
  const theirs = callsAs(api, { authorization: `Bearer ${outsider.keys.admin}` });
  expect((await theirs.call("POST", `/api/rotations/${second.id}/cancel`)).status).toBe(404);
  await world.move("prepare");
  await world.handIn();
  await comesTo(world, second.id, { state: "acknowledged", old_keys: first.old_keys });
  expect(await world.cli("rotation", "cancel", second.id)).toMatchObject({ state: "cancelled", new_keys: [{}, {}] });
  // Nothing of it is left: what is in force now is believed, old and new, and is the old of the next one.
  expect(await world.call(one)).toBe(200);
  const third = await start();
  await expect.poll(async () => (await world.resumed(third.id)).old_keys.length, { timeout: 20_000 }).toBe(4);
  expect(await world.cli("rotation", "cancel", third.id)).toMatchObject({ state: "cancelled" });
  const told = { query: 'FIND events WHERE type = "mc.key.rotation" AND outcome = "cancelled" SINCE 1h' };
  const rows = async () => must(200, await world.admin.call("POST", "/api/pql", told)).json as { rows: unknown[] };
  await expect.poll(async () => (await rows()).rows.length, { timeout: 20_000 }).toBe(3);
}, 120_000);

test("an Idempotency-Key that named a consumer of one domain names none of another", async () => {
  const world = await World.make("authority-one-intent");
  const put = (trustDomain: string) =>
    api.fetch(`/api/rotations/consumers/fetcher/plant-7-proxy?trust_domain=${trustDomain}`, {
      method: "PUT",
      headers: { authorization: `Bearer ${world.tenant.keys.admin}`, "idempotency-key": "one-intent" },
    });
  expect((await put(world.domain)).status).toBe(200);
  const again = await put(world.domain);
  expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
  const other = await put("elsewhere.example");
  expect([other.status, other.json]).toMatchObject([409, { code: "idempotency_conflict" }]);
});
