// SVIDs as credentials of the API, over the real stack: which are taken, which are refused and by which rule, and that a change of a
// trust domain's bundle counts from the very next request on.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { sql } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import { maestro, testHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs, localApi } from "../support/api.ts";
import { byCertificate, callsAs, minuteMs, presented, TestDomain } from "../support/identities.ts";
import { contractOf, type CheckedAnswer, type Contract } from "../support/openapi.ts";
import { useStack } from "../support/stack.ts";
import { authorityEntry, jwtEntry, newAuthority, newLeaf } from "../support/svid.ts";

const stack = useStack();
let api: Contract;
let tenant: SeededTenant;
let neighbour: SeededTenant;
let own: TestDomain;
let admin: ReturnType<typeof callsAs>;
let neighbourAdmin: ReturnType<typeof callsAs>;
const ids = new Map<string, string>();

const bearer = (secret: string): ReturnType<typeof callsAs> => callsAs(api, { authorization: `Bearer ${secret}` });
const withChain = (chain: readonly Uint8Array[], more: object = {}): ReturnType<typeof callsAs> =>
  callsAs(api, byCertificate(presented(chain, more)));

async function stated(as: ReturnType<typeof callsAs>, domain: TestDomain, body: unknown = {}): Promise<void> {
  expect((await as.state(domain.name, body)).status).toBe(204);
  expect((await as.handIn(domain.name, domain.document())).status).toBe(200);
}

async function registered(as: ReturnType<typeof callsAs>, id: string, role: string): Promise<string> {
  const answer = await as.register(id, role);
  expect([answer.status, answer.json]).toMatchObject([201, { spiffe_id: id, role }]);
  return String(answer.json["id"]);
}

const told = ({ status, json }: CheckedAnswer): unknown =>
  json === null ? [status] : [status, json["code"], json["section"]];

beforeAll(async () => {
  [api, tenant, neighbour] = await Promise.all([
    contractOf(stack.apiUrl),
    stack.seedTenant("identity-a"),
    stack.seedTenant("identity-b", { curates: false }),
  ]);
  admin = bearer(tenant.keys.admin);
  neighbourAdmin = bearer(neighbour.keys.admin);
  own = await TestDomain.make("identity-a.example");
  await stated(admin, own);
  for (const role of ["operator", "viewer"]) {
    ids.set(role, await registered(admin, `spiffe://${own.name}/${role}`, role));
  }
});

describe("an SVID that is taken", () => {
  test("a client certificate is the workload's principal, whatever the platform made of it", async () => {
    const answer = await withChain([await own.leaf("/operator")]).whoami();
    expect([answer.status, answer.json]).toEqual([
      200,
      {
        tenant_id: tenant.tenant_id,
        tenant: "identity-a",
        principal_id: ids.get("operator"),
        kind: "service",
        role: "operator",
        credential: "svid",
        spiffe_id: `spiffe://${own.name}/operator`,
      },
    ]);
  });

  test("a chain by an intermediate, and a JWT-SVID as bearer, are too", async () => {
    const now = Date.now();
    const times = { notBeforeMs: now - minuteMs, notAfterMs: now + 60 * minuteMs };
    const between = await newAuthority(own.name, times, own.authority);
    const leaf = await newLeaf(between, `spiffe://${own.name}/viewer`, times);
    expect((await withChain([leaf, between.der]).whoami()).json).toMatchObject({ role: "viewer", credential: "svid" });
    const token = await own.token("/viewer");
    for (let count = 0; count < 2; count += 1) {
      expect((await bearer(token).whoami()).json).toMatchObject({ role: "viewer", credential: "svid" });
    }
  });

  test("an Authorization header goes before a certificate, also a bad one", async () => {
    const certificate = byCertificate(presented([await own.leaf("/operator")]));
    const both = callsAs(api, { ...certificate, authorization: `Bearer ${tenant.keys.viewer}` });
    expect((await both.whoami()).json).toMatchObject({ credential: "key", role: "viewer" });
    expect((await callsAs(api, { ...certificate, authorization: "Bearer mk_none" }).whoami()).status).toBe(401);
  });

  test("MC-ZTE-1941: a fetcher with an SVID is let in, and the Rego checks its spiffe:// ID", async () => {
    const fleet = await stack.seedTenant("identity-fleet", { curates: false });
    const shared = await TestDomain.make("identity-shared.example");
    await stated(admin, shared, { shared: true });
    const id = `spiffe://${shared.name}/tenant/identity-fleet/fetcher/berlin-1`;
    await registered(bearer(fleet.keys.admin), id, "fetcher");
    const local = await localApi(stack);
    const token = await shared.token("/tenant/identity-fleet/fetcher/berlin-1");
    const ask = async (): Promise<unknown> => {
      const response = await local.fetch("/api/whoami", { headers: { authorization: `Bearer ${token}` } });
      const { code, rule, role, spiffe_id } = (await response.json()) as Record<string, unknown>;
      return { status: response.status, code, rule, role, spiffe_id };
    };
    expect(await ask()).toMatchObject({ status: 200, role: "fetcher", spiffe_id: id });
    expect(local.decided.at(-1)).toMatchObject({
      action: "whoami.read",
      caller: { tenant: "identity-fleet", spiffe_id: id, spiffe_domain: "shared" },
    });
    // What registering would have refused: the ID is under another tenant's name, as the policy sees it.
    await inBatch(databaseAs(stack, "owner"), [
      sql`update tenants set slug = 'identity-fleet-other' where id = ${fleet.tenant_id}::uuid`,
    ]);
    expect(await ask()).toMatchObject({ status: 403, code: "denied", rule: "spiffe_id_of_another_tenant" });
    await inBatch(databaseAs(stack, "owner"), [
      sql`update tenants set slug = 'identity-fleet' where id = ${fleet.tenant_id}::uuid`,
    ]);
    expect(await ask()).toMatchObject({ status: 200 });
  });

  test("a workload does nothing that asks for a person", async () => {
    await registered(admin, `spiffe://${own.name}/ops/admin`, "admin");
    const workload = withChain([await own.leaf("/ops/admin")]);
    expect((await workload.whoami()).json).toMatchObject({ role: "admin" });
    for (const [method, path] of [
      ["POST", "/api/market/entitlement-changes/chg_01k9x6f6c8a0b1c2d3e4f5g6h7/approve"],
      ["DELETE", `/api/principals/${tenant.principals.viewer}/identities`],
    ] as const) {
      const answer = await workload.call(method, path, method === "POST" ? {} : undefined);
      expect([path, answer.status, answer.json["rule"]]).toEqual([path, 403, "person_needed"]);
    }
  });
});

describe("an SVID that is refused: 401, with the rule that it breaks, and not a word of it:", () => {
  test("certificates", async () => {
    const now = Date.now();
    const foreign = await newAuthority(own.name, { notBeforeMs: now - minuteMs, notAfterMs: now + 60 * minuteMs });
    const good = await own.leaf("/operator");
    const times = { notBeforeMs: now - minuteMs, notAfterMs: now + 60 * minuteMs };
    const cases = [
      ["expired", [await own.leaf("/operator", { notAfterMs: now - 1_000 })], {}, "RFC 5280 4.1.2.5"],
      ["not valid yet", [await own.leaf("/operator", { notBeforeMs: now + 5 * minuteMs })], {}, "RFC 5280 4.1.2.5"],
      ["of another authority", [await newLeaf(foreign, `spiffe://${own.name}/operator`, times)], {}, "RFC 5280 6.1.3"],
      ["an authority's own", [own.authority.der], {}, "X509-SVID 3.1"],
      ["too large a leaf", [good], { certRFC9440: "", certRFC9440TooLarge: true }, "bounds"],
      ["too large a chain", [good], { certChainRFC9440: "", certChainRFC9440TooLarge: true }, "bounds"],
      ["no byte sequence", [good], { certRFC9440: "MIIB" }, "RFC 9440 2.1"],
      ["base64 that is none", [good], { certRFC9440: ":MIIB=:" }, "RFC 9440 2.1"],
      ["a byte behind it", [new Uint8Array([...good, 0])], {}, "X.690 8.1"],
    ] as const;
    for (const [what, chain, more, section] of cases) {
      const answer = await withChain(chain, more).whoami();
      expect([what, answer.status, answer.json["code"]]).toEqual([what, 401, "svid_invalid"]);
      expect(String(answer.json["detail"]), what).toContain(String(answer.json["section"]));
      expect([what, answer.json["section"]]).toEqual([what, section]);
    }
  });

  test("JWT-SVIDs", async () => {
    const good = await own.token("/operator");
    const cases = [
      ["for another audience", await own.token("/operator", { aud: "maestro-edge" }), "JWT-SVID 3.2"],
      ["expired", await own.token("/operator", { exp: Math.floor(Date.now() / 1_000) - 120 }), "JWT-SVID 3.3"],
      ["of another key", await own.token("/operator", {}, own.authority.keys), "JWT-SVID 4"],
      ["changed", `${good.slice(0, -4)}AAAA`, "JWT-SVID 4"],
      ["without a path", await own.token(""), "JWT-SVID 3.1"],
    ] as const;
    for (const [what, token, section] of cases) {
      const answer = await bearer(token).whoami();
      expect([what, told(answer)]).toEqual([what, [401, "svid_invalid", section]]);
      const words = JSON.stringify(answer.json);
      for (const part of token.split(".")) expect(words).not.toContain(part);
    }
  });

  test("of a trust domain that nobody stated, or without a bundle, or with an ID that nobody registered", async () => {
    const unknown = await TestDomain.make("identity-unknown.example");
    expect(told(await withChain([await unknown.leaf("/a")]).whoami())).toEqual([
      401,
      "svid_invalid",
      "SPIFFE Trust Domain and Bundle 3",
    ]);
    expect((await admin.state(unknown.name)).status).toBe(204);
    expect((await withChain([await unknown.leaf("/a")]).whoami()).json["code"]).toBe("svid_invalid");
    expect((await withChain([await own.leaf("/nobody")]).whoami()).json).toMatchObject({ code: "svid_not_registered" });
    // Only who has proven the ID learns that it is not registered.
    const stranger = await newAuthority(own.name);
    expect((await withChain([await newLeaf(stranger, `spiffe://${own.name}/nobody`)]).whoami()).json["code"]).toBe(
      "svid_invalid",
    );
  });

  test("of a principal that was disabled, from the next request on", async () => {
    const id = await registered(admin, `spiffe://${own.name}/disabled`, "viewer");
    const workload = withChain([await own.leaf("/disabled")]);
    expect((await workload.whoami()).status).toBe(200);
    await inBatch(databaseAs(stack, "owner"), [sql`update principals set disabled_at = now() where id = ${id}`]);
    expect(told(await workload.whoami())).toEqual([401, "principal_disabled", undefined]);
  });

  test("headers that pretend to be a certificate are not read", async () => {
    const leaf = await own.leaf("/operator");
    const { certRFC9440: value } = presented([leaf]) as { readonly certRFC9440: string };
    const der = value.slice(1, -1);
    const answer = await api.fetch("/api/whoami", {
      headers: {
        "client-cert": value,
        "client-cert-chain": value,
        "x-client-cert": value,
        "cf-client-cert-der-base64": der,
        "x-forwarded-client-cert": `By=spiffe://${own.name};URI=spiffe://${own.name}/operator;Cert="${der}"`,
        "ssl-client-cert": der,
        "ssl-client-verify": "SUCCESS",
        "x-spiffe-id": `spiffe://${own.name}/operator`,
      },
    });
    expect(told(answer)).toEqual([401, "unauthenticated", undefined]);
  });

  test("through an edge's name a JWT-SVID is taken, and no certificate: its TLS ends at the edge", async () => {
    const throughEdge = async (headers: Record<string, string>): Promise<unknown> => {
      const response = await fetch(`${stack.edge.a}/api/whoami`, { headers });
      const { code, credential } = (await response.json()) as Record<string, unknown>;
      return [response.status, code ?? credential];
    };
    expect(await throughEdge({ authorization: `Bearer ${await own.token("/operator")}` })).toEqual([200, "svid"]);
    expect(await throughEdge(byCertificate(presented([await own.leaf("/operator")])))).toEqual([
      401,
      "unauthenticated",
    ]);
  });

  test("a certificate that the platform says was not presented is not one", async () => {
    const answer = await withChain([await own.leaf("/operator")], { certPresented: "0" }).whoami();
    expect(answer.json["code"]).toBe("unauthenticated");
  });
});

describe("a revocation", () => {
  test("counts from the very next request on, with warm caches, many at once, certificates and tokens alike", async () => {
    const domain = await TestDomain.make("identity-revoked.example");
    await stated(admin, domain);
    await registered(admin, `spiffe://${domain.name}/a`, "viewer");
    const callers = [withChain([await domain.leaf("/a")]), bearer(await domain.token("/a"))];
    for (let round = 0; round < 3; round += 1) {
      for (const caller of callers) expect((await caller.whoami()).status).toBe(200);
    }
    const next = await newAuthority(domain.name, {
      notBeforeMs: Date.now() - minuteMs,
      notAfterMs: Date.now() + 60 * minuteMs,
    });
    expect((await admin.handIn(domain.name, domain.document([authorityEntry(next)]))).status).toBe(200);
    const asked = Array.from({ length: 16 }, (_, at) => callers[at % 2]!.whoami());
    for (const answer of await Promise.all(asked)) expect(told(answer)).toContain("svid_invalid");
    // A bundle without keys revokes all, the authority that came after included.
    const leaf = await newLeaf(next, `spiffe://${domain.name}/a`, {
      notBeforeMs: Date.now() - minuteMs,
      notAfterMs: Date.now() + 10 * minuteMs,
    });
    expect((await withChain([leaf]).whoami()).status).toBe(200);
    expect((await admin.handIn(domain.name, domain.document([]))).json).toMatchObject({ authorities: [] });
    expect((await withChain([leaf]).whoami()).status).toBe(401);
    // The authority comes back with a later bundle only.
    expect((await admin.handIn(domain.name, domain.document([authorityEntry(next)]))).status).toBe(200);
    expect((await withChain([leaf]).whoami()).status).toBe(200);
  });

  test("two trust domains with one key stay two: an SVID is verified with its own domain's bundle", async () => {
    const first = await TestDomain.make("identity-one.example");
    const second = await TestDomain.make("identity-two.example", first.authority.keys);
    await stated(admin, first);
    await stated(neighbourAdmin, second);
    await registered(admin, `spiffe://${first.name}/a`, "viewer");
    await registered(neighbourAdmin, `spiffe://${second.name}/a`, "operator");
    expect((await withChain([await first.leaf("/a")]).whoami()).json).toMatchObject({ tenant: "identity-a" });
    const leaf = await second.leaf("/a");
    expect((await withChain([leaf]).whoami()).json).toMatchObject({ tenant: "identity-b", role: "operator" });
    expect((await admin.handIn(first.name, first.document([]))).status).toBe(200);
    expect((await withChain([await first.leaf("/a")]).whoami()).status).toBe(401);
    expect((await withChain([leaf]).whoami()).status).toBe(200);
  });

  test("a certificate that is renewed in the midst of requests is taken beside the one before", async () => {
    const [before, after] = [await own.leaf("/operator"), await own.leaf("/operator")];
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, at) => withChain([at < 10 ? before : after]).whoami()),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
  });
});

describe("a bundle that is handed in", () => {
  test("does not go back, does not change under one sequence, and says why it is refused", async () => {
    const domain = await TestDomain.make("identity-sequence.example");
    await stated(admin, domain);
    const [first, second] = [domain.document(), domain.document()];
    expect((await admin.handIn(domain.name, second)).json).toMatchObject({ sequence: 3, jwt_key_ids: ["jwt-1"] });
    const section = "SPIFFE Trust Domain and Bundle 4.1.1";
    expect(told(await admin.handIn(domain.name, first))).toEqual([422, "bundle_refused", section]);
    domain.sequence = 2;
    expect(told(await admin.handIn(domain.name, domain.document([])))).toEqual([422, "bundle_refused", section]);
    expect(told(await admin.handIn(domain.name, "{}"))).toEqual([
      422,
      "bundle_refused",
      "SPIFFE Trust Domain and Bundle 4.1.3",
    ]);
    const found = await admin.call("GET", `/api/identity/trust-domains/${domain.name}`);
    expect(found.json).toMatchObject({
      own: true,
      bundle: { sequence_max: 3, refresh_hint_seconds: 60, alarm: false },
      refused: { reason: expect.stringContaining("no list of keys") as unknown },
    });
    // The same once more is confirmed, and the refusal is over.
    expect((await admin.handIn(domain.name, second)).status).toBe(200);
    const again = await admin.call("GET", `/api/identity/trust-domains/${domain.name}`);
    expect(again.json).toMatchObject({ bundle: { sequence_max: 3 }, refused: null });
    const bundle = await admin.call("GET", `/api/identity/trust-domains/${domain.name}/bundle`);
    expect(bundle.json["document"]).toBe(second);
  });

  test("of two at once the newer one stays in force, whichever comes first", async () => {
    const domain = await TestDomain.make("identity-race.example");
    await stated(admin, domain);
    for (let round = 0; round < 3; round += 1) {
      const documents = [domain.document(), domain.document(), domain.document()];
      const answers = await Promise.all(documents.map((document) => admin.handIn(domain.name, document)));
      for (const { status } of answers) expect([200, 409, 422]).toContain(status);
      const bundle = await admin.call("GET", `/api/identity/trust-domains/${domain.name}/bundle`);
      const taken = answers.map(({ status }, at) => (status === 200 ? at : -1));
      expect(bundle.json["document"]).toBe(documents[Math.max(...taken)]);
    }
  });

  test("of a shared domain is given to anyone at its endpoint, to the byte, with a tag; of another it is not", async () => {
    const domain = await TestDomain.make("identity-public.example");
    await stated(admin, domain, { shared: true });
    const bundle = await admin.call("GET", `/api/identity/trust-domains/${domain.name}/bundle`);
    const path = `${stack.apiUrl}/.well-known/spiffe/${domain.name}/bundle.json`;
    const response = await fetch(path);
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/json"]);
    expect(await response.text()).toBe(bundle.json["document"]);
    const tag = response.headers.get("etag") ?? "";
    expect((await fetch(path, { headers: { "if-none-match": tag } })).status).toBe(304);
    expect((await fetch(`${stack.apiUrl}/.well-known/spiffe/${own.name}/bundle.json`)).status).toBe(404);
  });
});

describe("a trust domain", () => {
  test("is whose who stated it first; another tenant sees it where it is shared, and changes nothing of it", async () => {
    expect(told(await neighbourAdmin.state(own.name))).toEqual([409, "trust_domain_taken", undefined]);
    expect((await neighbourAdmin.call("GET", `/api/identity/trust-domains/${own.name}`)).status).toBe(404);
    expect((await neighbourAdmin.handIn(own.name, own.document())).status).toBe(404);
    expect((await neighbourAdmin.call("DELETE", `/api/identity/trust-domains/${own.name}`)).status).toBe(404);
    expect((await neighbourAdmin.state("identity-c.example", { shared: true })).json["code"]).toBe(
      "trust_domain_invalid",
    );
    const shared = await TestDomain.make("identity-seen.example");
    await stated(admin, shared, { shared: true });
    expect((await neighbourAdmin.call("GET", `/api/identity/trust-domains/${shared.name}`)).json).toMatchObject({
      own: false,
      shared: true,
    });
    expect((await neighbourAdmin.handIn(shared.name, shared.document())).status).toBe(404);
    expect(told(await neighbourAdmin.state(shared.name))).toEqual([409, "trust_domain_taken", undefined]);
  });

  test("with registered IDs is not taken back, and says how many; without them it is, and its SVIDs open nothing", async () => {
    const domain = await TestDomain.make("identity-gone.example");
    await stated(admin, domain);
    const id = await registered(admin, `spiffe://${domain.name}/a`, "viewer");
    const workload = withChain([await domain.leaf("/a")]);
    expect((await workload.whoami()).status).toBe(200);
    const path = `/api/identity/trust-domains/${domain.name}`;
    expect((await admin.call("DELETE", path)).json).toMatchObject({ code: "trust_domain_in_use", workloads: 1 });
    expect((await admin.call("DELETE", `/api/identity/workloads/${id}`)).status).toBe(204);
    expect((await workload.whoami()).json["code"]).toBe("svid_not_registered");
    expect((await admin.call("DELETE", path)).status).toBe(204);
    expect((await workload.whoami()).json["code"]).toBe("svid_invalid");
    expect((await admin.call("DELETE", path)).status).toBe(404);
  });

  test("has an endpoint by the rules of SPIFFE Federation, or is refused with the rule", async () => {
    const put = async (endpoint: unknown): Promise<unknown> =>
      told(await admin.state("identity-ep.example", { endpoint }));
    expect(await put({ url: "http://a.example/b", profile: "https_web", server_id: null })).toEqual([
      422,
      "trust_domain_invalid",
      "SPIFFE Federation 5.2.1.1",
    ]);
    expect(await put({ url: "https://a.example/b", profile: "https_spiffe", server_id: null })).toEqual([
      422,
      "trust_domain_invalid",
      "SPIFFE Federation 5.2.2.2",
    ]);
    expect(await put({ url: "https://127.0.0.1:1/b", profile: "https_web", server_id: null })).toEqual([204]);
    await stack.runScheduled();
    const found = await admin.call("GET", "/api/identity/trust-domains/identity-ep.example");
    expect(found.json).toMatchObject({
      bundle: null,
      confirmed_at: null,
      refused: { reason: expect.stringContaining("did not answer") as unknown },
    });
  });
});

describe("a SPIFFE ID", () => {
  test("is one principal of one tenant, of a domain that the tenant may use", async () => {
    const shared = await TestDomain.make("identity-many.example");
    await stated(admin, shared, { shared: true });
    const register = async (as: ReturnType<typeof callsAs>, path: string, role = "viewer"): Promise<unknown> => {
      const { status, json } = await as.register(`spiffe://${shared.name}${path}`, role);
      return [status, json["code"]];
    };
    expect(await register(neighbourAdmin, "/tenant/identity-a/viewer/x")).toEqual([422, "workload_invalid"]);
    expect(await register(neighbourAdmin, "/platform/signer")).toEqual([422, "workload_invalid"]);
    expect(await register(neighbourAdmin, "/tenant/identity-b/fetcher/x")).toEqual([422, "workload_invalid"]);
    expect(await register(neighbourAdmin, "/tenant/identity-b/viewer/x")).toEqual([201, undefined]);
    expect(await register(neighbourAdmin, "/tenant/identity-b/viewer/x")).toEqual([409, "workload_taken"]);
    const foreign = await neighbourAdmin.register(`spiffe://${own.name}/x`, "viewer");
    expect(foreign.json["code"]).toBe("workload_invalid");
    expect((await admin.call("DELETE", `/api/identity/trust-domains/${shared.name}`)).json).toMatchObject({
      code: "trust_domain_in_use",
      workloads: null,
    });
    const listed = (await neighbourAdmin.call("GET", "/api/identity/workloads")).json["workloads"] as { id: string }[];
    expect(JSON.stringify(listed)).not.toContain("identity-a");
    expect((await admin.call("DELETE", `/api/identity/workloads/${listed[0]!.id}`)).status).toBe(404);
  });

  test("of a domain that is shared no longer opens nothing for a tenant that does not state it", async () => {
    const shared = await TestDomain.make("identity-unshared.example");
    await stated(admin, shared, { shared: true });
    await registered(neighbourAdmin, `spiffe://${shared.name}/tenant/identity-b/viewer/x`, "viewer");
    const workload = withChain([await shared.leaf("/tenant/identity-b/viewer/x")]);
    expect((await workload.whoami()).status).toBe(200);
    expect((await admin.state(shared.name, { shared: false })).status).toBe(204);
    expect((await workload.whoami()).json["code"]).toBe("svid_not_registered");
  });
});

test("spiffe_everywhere: a fetcher's key opens nothing once a fetcher's ID is registered; off, it does; others' keys always", async () => {
  const zero = await stack.seedTenant("identity-zero");
  const by = bearer(zero.keys.admin);
  const fetcher = bearer(zero.keys.fetcher);
  expect((await fetcher.whoami()).status).toBe(200);
  const domain = await TestDomain.make("identity-zero.example");
  await stated(by, domain);
  await registered(by, `spiffe://${domain.name}/fetcher`, "fetcher");
  const refused = await fetcher.whoami();
  expect(told(refused)).toEqual([403, "svid_needed", undefined]);
  expect(String(refused.json["detail"])).toContain("spiffe_everywhere");
  expect(String(refused.json["action"])).toContain("maestro flags set spiffe_everywhere off");
  expect(refused.json).toMatchObject({ rule: "svid_needed", decision: expect.stringMatching(/^evt_/) as unknown });
  expect((await bearer(zero.keys.viewer).whoami()).status).toBe(200);
  expect((await withChain([await domain.leaf("/fetcher")]).whoami()).json).toMatchObject({ role: "fetcher" });
  expect((await by.call("PUT", "/api/flags", { flag: "spiffe_everywhere", enabled: false })).status).toBe(200);
  expect((await fetcher.whoami()).status).toBe(200);
  expect((await by.call("PUT", "/api/flags", { flag: "spiffe_everywhere", enabled: true })).status).toBe(200);
  expect((await fetcher.whoami()).status).toBe(403);
});

test("every change of identities is in the tenant's log, and no SPIFFE ID is", async () => {
  const domain = await TestDomain.make("identity-logged.example");
  await stated(neighbourAdmin, domain);
  await neighbourAdmin.handIn(domain.name, domain.document([jwtEntry(domain.jwtKeys, "jwt-1")]));
  const id = await registered(neighbourAdmin, `spiffe://${domain.name}/secret-name`, "viewer");
  await neighbourAdmin.call("DELETE", `/api/identity/workloads/${id}`);
  await neighbourAdmin.call("DELETE", `/api/identity/trust-domains/${domain.name}`);
  const wanted = ["domain_removed", "domain_stated", "workload_registered", "workload_removed"];
  await expect
    .poll(
      async () => {
        const [rows] = await inBatch(databaseAs(stack, "owner"), [
          sql`select type, attrs from audit_events where tenant_id = ${neighbour.tenant_id}::uuid
                and type like 'mc.identity.%' and attrs like ${`%${domain.name}%`}`,
        ]);
        expect(JSON.stringify(rows)).not.toContain("secret-name");
        return (rows ?? []).map(({ type }) => String(type)).sort();
      },
      { timeout: 20_000 },
    )
    .toEqual([...wanted, "bundle_changed", "bundle_changed"].map((name) => `mc.identity.${name}`).sort());
});

test("health tells of domains that tenants share and of no other: when the bundle was confirmed, when it ends, and the alarm", async () => {
  const domain = await TestDomain.make("identity-health.example");
  await stated(admin, domain, { shared: true });
  const now = Date.now();
  const ending = await newAuthority(domain.name, {
    notBeforeMs: now - 1_000 * minuteMs,
    notAfterMs: now + 400 * minuteMs,
  });
  const health = async (): Promise<unknown> => {
    const { json } = await api.fetch("/healthz");
    expect(json).toMatchObject({ status: "ok" });
    const told = json["identities"] as { trust_domain: string }[];
    expect(told.map(({ trust_domain: name }) => name)).not.toContain(own.name);
    return told.find(({ trust_domain: name }) => name === domain.name);
  };
  expect(await health()).toMatchObject({ alarm: false, confirmed_at: expect.any(String) as unknown });
  await admin.handIn(domain.name, domain.document([authorityEntry(domain.authority), authorityEntry(ending)]));
  const endsAt = new Date(Math.floor((now + 400 * minuteMs) / 1_000) * 1_000).toISOString();
  expect(await health()).toMatchObject({ alarm: true, first_authority_ends_at: endsAt });
});

test("the whole of it by maestro: a domain, its bundle, a workload, and back", async () => {
  const host = testHost({ env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys.admin } });
  const domain = await TestDomain.make("identity-cli.example");
  writeFileSync(join(host.cwd, "bundle.json"), domain.document());
  const run = async (...words: string[]): Promise<Record<string, unknown>> => {
    const { code, err, json } = await maestro(host, "identity", ...words, "--json");
    expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
    return json();
  };
  await run("domain", "set", domain.name);
  expect(await run("bundle", "set", domain.name, "bundle.json")).toMatchObject({ sequence: 1 });
  const made = await run("workload", "add", `spiffe://${domain.name}/a`, "--role", "viewer");
  expect(await run("bundle", "show", domain.name)).toMatchObject({ jwt_key_ids: ["jwt-1"] });
  expect(await run("workload", "list")).toMatchObject({ workloads: expect.arrayContaining([made]) as unknown });
  expect((await withChain([await domain.leaf("/a")]).whoami()).json).toMatchObject({ principal_id: made["id"] });
  await run("workload", "remove", String(made["id"]));
  await run("domain", "remove", domain.name);
  expect(JSON.stringify(await run("domain", "list"))).not.toContain(domain.name);
});
