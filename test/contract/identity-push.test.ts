// `maestro identity bundle push`: a bundle from an endpoint that proves itself by an SVID, handed in at the real stack.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { initAuthority } from "../../cli/svid/authority-folder.ts";
import { mintSvid } from "../../cli/svid/mint.ts";
import { maestro, testFolder, testHost, type TestHost } from "../../cli/testing/host.ts";
import { tlsServer } from "../../cli/testing/tls-server.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { bundleOfState, type AuthorityState } from "../../shared/identity/issue/authority-state.ts";
import { parseSpiffeId, parseTrustDomain } from "../../shared/identity/spiffe-id.ts";
import { callsAs } from "../support/identities.ts";
import { contractOf } from "../support/openapi.ts";
import { must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const name = "identity-push.example";
const serverId = `spiffe://${name}/bundles`;
const stack = useStack();
let tenant: SeededTenant;
let admin: ReturnType<typeof callsAs>;

beforeAll(async () => {
  tenant = await stack.seedTenant("identity-push");
  admin = callsAs(await contractOf(stack.apiUrl), { authorization: `Bearer ${tenant.keys.admin}` });
});

const newHost = (): TestHost =>
  testHost({ home: testFolder(), env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys.admin } });

async function newAuthority(of = name): Promise<AuthorityState> {
  const domain = parseTrustDomain(of);
  if (!domain.ok) throw new Error(domain.refusal.reason);
  return (await initAuthority(testFolder(), domain.value, Date.now())).state;
}

/** An endpoint that gives `given`, with an SVID of that authority and ID; the trust domain names it. */
async function endpoint(authority: AuthorityState, given: AuthorityState, id = serverId): Promise<void> {
  const parsed = parseSpiffeId(id);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  const wish = { id: parsed.value, ttlSeconds: 600, audiences: [], dnsNames: [], ipAddresses: [] };
  const server = await tlsServer(await mintSvid(authority, wish, Date.now()), JSON.parse(bundleOfState(given)));
  const stated = { url: `${server.url}/`, profile: "https_spiffe", server_id: serverId };
  must(204, await admin.state(name, { endpoint: stated }));
}

const pushed = async (host: TestHost, ...words: string[]) => {
  const { code, err, out } = await maestro(host, "identity", "bundle", "push", name, ...words);
  return { code, err, out };
};
const held = async (): Promise<unknown> =>
  (await admin.call("GET", `/api/identity/trust-domains/${name}`)).json["bundle"];

test("the first time the server is known by what its operator gave, and by what is in force after that", async () => {
  const host = newHost();
  const push = (...words: string[]) => pushed(host, ...words);
  const authority = await newAuthority();
  await endpoint(authority, authority);
  expect(await push()).toMatchObject({ code: 2, err: expect.stringContaining("--first bundle.json") as string });
  writeFileSync(join(host.home, "first.json"), bundleOfState(authority));
  expect(await push("--first", "first.json")).toMatchObject({
    code: 0,
    out: expect.stringContaining("It is in force.") as string,
  });
  const bundle = await held();
  expect(bundle).toMatchObject({ sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string });
  expect((await push()).code).toBe(0);
  expect(await held()).toEqual(bundle);

  // Whoever else answers there is not believed, whatever they give.
  const stranger = await newAuthority();
  await endpoint(stranger, stranger);
  expect(await push()).toMatchObject({ code: 7, err: expect.stringContaining("was not fetched") as string });
  await endpoint(authority, stranger, `spiffe://${name}/elsewhere`);
  expect(await push()).toMatchObject({ code: 7, err: expect.stringContaining(`not ${serverId}`) as string });
  await endpoint(authority, authority, serverId);
  expect(await held()).toEqual(bundle);
});

test("what an endpoint of the Web PKI gives is the API's to fetch", async () => {
  must(
    204,
    await admin.state(name, { endpoint: { url: "https://127.0.0.1:9/", profile: "https_web", server_id: null } }),
  );
  const shown = await pushed(newHost());
  expect(shown).toMatchObject({ code: 2, err: expect.stringContaining("no https_spiffe endpoint") as string });
});
