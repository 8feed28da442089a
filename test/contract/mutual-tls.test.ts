// The API over mutual TLS as the stack serves it: the front's own SVID, its bundle as an https_spiffe endpoint, the row of mc.local in
// Postgres, which follows the authority's rotation, and what workerd is told of a client certificate.

import { connect } from "node:tls";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { expect, onTestFinished, test, vi } from "vitest";
import { maestro, testHost } from "../../cli/testing/host.ts";
import { initAuthority, readAuthority, rotateAuthority } from "../../cli/svid/authority-folder.ts";
import { mintSvid } from "../../cli/svid/mint.ts";
import { fetchWithSvid } from "../../cli/svid/svid-fetch.ts";
import { readCertificate, writeSvidFolder } from "../../cli/svid/svid-folder.ts";
import { withClient } from "../../scripts/stack/connection.ts";
import { bundlePath, clientAuthOf, startTlsFront } from "../../scripts/stack/tls-front.ts";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import { checkBundleServer } from "../../shared/identity/bundle-endpoint.ts";
import { bundleOfState } from "../../shared/identity/issue/authority-state.ts";
import { certificatesInPem } from "../../shared/identity/pem.ts";
import { parseSpiffeId, type SpiffeId } from "../../shared/identity/spiffe-id.ts";
import { parseTrustBundle } from "../../shared/identity/trust-bundle.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const authority = stack.tls.authorityFolder;
const apiId = id("spiffe://mc.local/platform/api");
const publisher = "spiffe://mc.local/tenant/mtls/publisher/ci";
const serverRenewsWithinMs = 10_000;

function id(text: string): SpiffeId {
  const parsed = parseSpiffeId(text);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}

/** The certificate that a new connection to the front is shown. */
function frontCertificate(): Promise<Uint8Array> {
  const { hostname, port } = new URL(stack.tls.url);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false }, () => {
      const raw = socket.getPeerX509Certificate()?.raw;
      socket.destroy();
      if (raw === undefined) reject(new Error("the front shows no certificate"));
      else resolve(new Uint8Array(raw));
    });
    socket.once("error", reject);
  });
}

async function isTheApi(document: string): Promise<boolean> {
  const bundle = await parseTrustBundle(apiId.trustDomain, document);
  if (!bundle.ok) throw new Error(bundle.refusal.reason);
  return (await checkBundleServer(apiId, [await frontCertificate()], () => bundle.value, Date.now())).ok;
}

const row = async (): Promise<Record<string, unknown>> =>
  await withClient(stack.databaseUrls.owner, async (client) => {
    const { rows } = await client.query<Record<string, unknown>>(
      "select shared, bundle, bundle_sha256, sequence_max::int from trust_domains where name = 'mc.local'",
    );
    return rows[0] ?? {};
  });

test("health says when the local authority ends, from the first start on", async () => {
  await stack.seedTenant("mtls");
  const { identities } = (await (await fetch(`${stack.apiUrl}/healthz`)).json()) as {
    identities: { trust_domain: string; first_authority_ends_at: string | null; alarm: boolean }[];
  };
  const local = identities.find(({ trust_domain: name }) => name === "mc.local");
  expect(local).toMatchObject({ alarm: false, first_authority_ends_at: expect.stringMatching(/^20.*Z$/) as unknown });
});

test("the front is the API by its SVID, serves its bundle, and hands all else to the API", async () => {
  const { keys } = await stack.seedTenant("mtls");
  const host = testHost();
  await maestro(host, "svid", "mint", "--authority", authority, "--id", publisher, "--out", "svid");
  const held = await readCertificate(`${host.home}/svid`);
  // It speaks to nobody else: the server was verified by its ID.
  const fetchOver = await fetchWithSvid(held, Date.now);
  const get = (path: string, headers: Record<string, string>) =>
    fetchOver(`${stack.tls.url}${path}`, { method: "GET", headers, body: null, signal: AbortSignal.timeout(10_000) });
  const bundle = await get(bundlePath, {});
  expect(await bundle.text()).toBe(bundleOfState(await readAuthority(authority)));
  const whoami = await get("/api/whoami", { authorization: `Bearer ${keys.publisher}` });
  expect([whoami.status, await whoami.json()]).toMatchObject([200, { tenant: "mtls", role: "publisher" }]);
});

test("Postgres has the authority's bundle as that of mc.local, shared; a rotation is there, and in the front, within seconds", async () => {
  await stack.seedTenant("mtls");
  const before = await readAuthority(authority);
  const old = bundleOfState(before);
  expect(await row()).toEqual({
    shared: true,
    bundle: old,
    bundle_sha256: await sha256Hex(utf8(old)),
    sequence_max: before.sequence,
  });
  for (const move of ["prepare", "activate", "taint"] as const) {
    await rotateAuthority(authority, move, ["x509", "jwt"], Date.now());
  }
  // What is prepared is believed, and the front's SVID is of the new key: the old one is tainted.
  await vi.waitFor(async () => expect((await row())["sequence_max"]).toBe(before.sequence + 1), serverRenewsWithinMs);
  await vi.waitFor(async () => expect(await isTheApi(old)).toBe(false), serverRenewsWithinMs);
  const { state } = await rotateAuthority(authority, "revoke", ["x509", "jwt"], Date.now());
  const fresh = bundleOfState(state);
  await vi.waitFor(async () => expect((await row())["bundle"]).toBe(fresh), serverRenewsWithinMs);
  expect(await isTheApi(fresh)).toBe(true);
});

test("workerd has the certificate in request.cf, also a leaf and a chain of the most that Cloudflare passes on, and nothing forged", async () => {
  const worker = new Miniflare(
    convertV4MiniflareOptions({
      host: "127.0.0.1",
      cf: false,
      modules: true,
      script: "export default { fetch: (request) => Response.json(request.cf.tlsClientAuth) };",
      compatibilityDate: "2026-10-23",
    }),
  );
  onTestFinished(() => worker.dispose());
  const host = testHost();
  const { state } = await initAuthority(`${host.home}/authority`, apiId.trustDomain, Date.now());
  const mint = (spiffeId: string) =>
    mintSvid(state, { id: id(spiffeId), ttlSeconds: 600, audiences: [], dnsNames }, Date.now());
  // A leaf of 7 KB: its names are many.
  const dnsNames = Array.from({ length: 100 }, (_, at) => `${String(at).padStart(40, "n")}.example.com`);
  const front = await startTlsFront({
    port: 0,
    target: (await worker.ready).origin,
    svid: (await mintSvid(state, { id: apiId, ttlSeconds: 600, audiences: [] }, Date.now())).files,
    bundle: null,
  });
  onTestFinished(() => front.stop());
  await writeSvidFolder(`${host.home}/svid`, (await mint(publisher)).files);
  const held = await readCertificate(`${host.home}/svid`);
  const fetchOver = await fetchWithSvid(held, Date.now);
  const answer = await fetchOver(front.url, {
    method: "GET",
    headers: { "MF-CF-Blob": `{"tlsClientAuth":{"certRFC9440":":forged:"}}` },
    body: null,
    signal: AbortSignal.timeout(10_000),
  });
  const chain = certificatesInPem(held.chainPem);
  if (!chain.ok) throw new Error(chain.refusal.reason);
  expect(await answer.json()).toMatchObject({
    certPresented: "1",
    certVerified: expect.stringMatching(/^FAILED:/),
    certRFC9440: `:${Buffer.from(chain.value[0]!).toString("base64")}:`,
    certRFC9440TooLarge: false,
  });
  const text = (length: number): string => `:${"A".repeat(length - 2)}:`;
  const longest = clientAuthOf(text(10_240), [text(16_384)]);
  const told = await fetch(await worker.ready, {
    headers: { "mf-cf-blob": JSON.stringify({ tlsClientAuth: longest }) },
  });
  expect(await told.json()).toEqual(longest);
});
