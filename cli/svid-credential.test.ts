// A command that presents an SVID: as client certificate to an https address, as bearer to an http one; to whom, and until when.
// The server here verifies what comes by shared/identity, as the API does.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { activeKey, bundleOfState, type AuthorityState } from "../shared/identity/issue/authority-state.ts";
import { verifyJwtSvid } from "../shared/identity/jwt-svid.ts";
import { pemOfCertificates } from "../shared/identity/pem.ts";
import { parseSpiffeId, parseTrustDomain, type SpiffeId, type TrustDomain } from "../shared/identity/spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "../shared/identity/trust-bundle.ts";
import { verifyX509Svid } from "../shared/identity/x509-svid.ts";
import { createSession } from "./session.ts";
import { initAuthority, rotateAuthority } from "./svid/authority-folder.ts";
import { mintSvid } from "./svid/mint.ts";
import { writeSvidFolder } from "./svid/svid-folder.ts";
import { maestro, testFolder, testHost, type TestHost } from "./testing/host.ts";
import { json, testServer } from "./testing/server.ts";
import { tlsServer } from "./testing/tls-server.ts";

const caller = {
  tenant_id: "7d0a7a0e-3f0f-4b0e-9d1e-0d6b1c1d2e3f",
  tenant: "demo",
  principal_id: "pri_0123456789abcdefghjkmnpqrs",
  kind: "service",
  role: "publisher",
  credential: "svid",
  spiffe_id: "spiffe://mc.local/tenant/demo/publisher/ci",
};
const publisher = caller.spiffe_id;
const hour = 3_600;

const id = (text: string): SpiffeId => {
  const parsed = parseSpiffeId(text);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
};
const domain = (text: string): TrustDomain => {
  const parsed = parseTrustDomain(text);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
};
const bundleOf = async (state: AuthorityState): Promise<TrustBundle> => {
  const parsed = await parseTrustBundle(domain(state.trust_domain), bundleOfState(state));
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
};
const newAuthority = async (name = "mc.local"): Promise<AuthorityState> =>
  (await initAuthority(testFolder(), domain(name), Date.now())).state;
const mint = (state: AuthorityState, name: string, seconds = hour, now = Date.now()) =>
  mintSvid(
    state,
    {
      id: id(name),
      ttlSeconds: seconds,
      audiences: ["maestro-api"],
      dnsNames: ["localhost"],
      ipAddresses: [new Uint8Array([127, 0, 0, 1])],
    },
    now,
  );

/** A host whose folder `svid` is the publisher's, and whose MAESTRO_SVID says so. */
async function hostWith(state: AuthorityState, apiUrl: string, seconds?: number, now?: number): Promise<TestHost> {
  const host = testHost({ env: { MAESTRO_API_URL: apiUrl, MAESTRO_SVID: "svid" } });
  await writeSvidFolder(join(host.home, "svid"), (await mint(state, publisher, seconds, now)).files);
  return host;
}

test("at an https address the certificate speaks, without any Authorization, and whoami says whose it is", async () => {
  const authority = await newAuthority();
  const server = await tlsServer(await mint(authority, "spiffe://mc.local/platform/api"), caller);
  const host = await hostWith(authority, server.url);
  host.env["MAESTRO_API_KEY"] = `mk_${"a".repeat(32)}`;
  const { code, json: value, err } = await maestro(host, "whoami", "--json");
  expect([code, err]).toEqual([0, ""]);
  expect(value()).toMatchObject({ svid: { spiffe_id: publisher, presented_as: "certificate" }, tenant: "demo" });
  const [seen] = server.seen;
  expect(seen?.headers.authorization).toBeUndefined();
  const verified = await verifyX509Svid([seen!.certificate!], await bundleOf(authority), Date.now());
  expect(verified).toMatchObject({ ok: true, value: { id: { uri: publisher } } });
  expect((await maestro(host, "whoami")).out).toMatch(new RegExp(`spiffe id\\t${publisher} \\(by certificate\\)`));
  // A redirect is followed nowhere.
  const moved = await maestro(host, "principals", "list");
  expect([moved.code, moved.err]).toEqual([6, expect.stringContaining("it redirects")]);
});

test("--svid goes before MAESTRO_SVID; at an http address the JWT-SVID for maestro-api speaks", async () => {
  const authority = await newAuthority();
  const server = await testServer();
  server.on("GET /api/whoami", json(caller));
  const host = await hostWith(authority, server.url);
  host.env["MAESTRO_SVID"] = "nowhere";
  const { code, json: value } = await maestro(host, "whoami", "--json", "--svid", "svid");
  expect([code, value()]).toMatchObject([0, { svid: { spiffe_id: publisher, presented_as: "token" } }]);
  const token = server.seen[0]?.headers.authorization?.replace("Bearer ", "") ?? "";
  const expected = { audience: "maestro-api", now: Date.now() };
  expect(await verifyJwtSvid(token, await bundleOf(authority), expected)).toMatchObject({
    ok: true,
    value: { id: { uri: publisher } },
  });
  const none = await maestro(host, "whoami");
  expect([none.code, none.err]).toEqual([3, expect.stringContaining("no jwt-maestro-api.txt")]);
});

test.each([
  ["another workload of the same trust domain", "mc.local", "spiffe://mc.local/tenant/demo/publisher/other"],
  ["another trust domain with the API's path", "other.example", "spiffe://other.example/platform/api"],
  ["another authority of the same name", "mc.local", "spiffe://mc.local/platform/api"],
] as const)("a server that is %s is told nothing", async (_, name, serverId) => {
  const authority = await newAuthority();
  const serves = serverId.endsWith("other") ? authority : await newAuthority(name);
  const server = await tlsServer(await mint(serves, serverId), caller);
  const host = await hostWith(authority, server.url);
  const { code, err } = await maestro(host, "whoami");
  expect([code, err]).toEqual([6, expect.stringContaining("neither the API's SVID nor one of the Web PKI")]);
  expect(server.seen).toEqual([]);
});

test("a server of the Web PKI is taken by its host's name", async () => {
  const [authority, web] = [await newAuthority(), await newAuthority("web.example")];
  const server = await tlsServer(await mint(web, "spiffe://web.example/anything"), caller);
  const before = getCACertificates("default");
  onTestFinished(() => setDefaultCACertificates(before));
  const root = Buffer.from(activeKey(web.x509).certificate ?? "", "base64");
  setDefaultCACertificates([pemOfCertificates([root])]);
  const host = await hostWith(authority, server.url);
  expect((await maestro(host, "whoami")).code).toBe(0);
});

test("what is renewed beneath a running command speaks from the next request on; without that the connection is kept", async () => {
  const folder = testFolder();
  const { state } = await initAuthority(folder, domain("mc.local"), Date.now());
  const server = await tlsServer(await mint(state, "spiffe://mc.local/platform/api"), caller);
  const host = await hostWith(state, server.url);
  const api = await createSession(host, false).api();
  await api.whoami();
  await api.whoami();
  await rotateAuthority(folder, "prepare", ["x509", "jwt"], Date.now());
  const { state: rotated } = await rotateAuthority(folder, "activate", ["x509", "jwt"], Date.now());
  await writeSvidFolder(join(host.home, "svid"), (await mint(rotated, publisher)).files);
  await api.whoami();
  const holds = await Promise.all(
    server.seen.map(
      async ({ certificate }) => (await verifyX509Svid([certificate!], await bundleOf(state), Date.now())).ok,
    ),
  );
  // The bundle of before knows nothing of the key that was prepared after it.
  expect(holds).toEqual([true, true, false]);
  const [first, second, third] = server.seen;
  expect([first?.connection === second?.connection, second?.connection === third?.connection]).toEqual([true, false]);
});

test("at one third of its life left it warns once a command, and after its end it is not presented", async () => {
  const authority = await newAuthority();
  const server = await testServer();
  server.on("GET /api/whoami", json(caller));
  const old = await hostWith(authority, server.url, hour, Date.now() - 2_500_000);
  const warned = await maestro(old, "whoami");
  expect([warned.code, warned.err.match(/warning: the SVID/g)?.length]).toEqual([0, 1]);
  const late = await hostWith(authority, server.url, 60, Date.now() - 61_000);
  const refused = await maestro(late, "whoami");
  expect([refused.code, refused.err]).toEqual([3, expect.stringContaining("has expired")]);
  expect(server.seen.length).toBe(1);
});

test("a body is sent whole, and a folder that is broken is refused before anything is sent", async () => {
  const authority = await newAuthority();
  const server = await tlsServer(await mint(authority, "spiffe://mc.local/platform/api"), { key: "x" });
  const host = await hostWith(authority, server.url);
  expect((await maestro(host, "keys", "create", "--role", "viewer")).code).toBe(1);
  expect(JSON.parse(server.seen[0]?.body ?? "")).toMatchObject({ role: "viewer" });
  writeFileSync(join(host.home, "svid", "svid.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  expect((await maestro(host, "whoami")).code).toBe(3);
  expect(server.seen.length).toBe(1);
  const nowhere = testHost({ env: { MAESTRO_SVID: "svid" } });
  expect((await maestro(nowhere, "whoami")).err).toContain("Where is the API?");
});
