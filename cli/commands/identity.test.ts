import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseSpiffeId } from "../../shared/identity/spiffe-id.ts";
import { bundleOfState } from "../../shared/identity/issue/authority-state.ts";
import { initAuthority } from "../svid/authority-folder.ts";
import { mintSvid } from "../svid/mint.ts";
import { maestro, testFolder, testHost } from "../testing/host.ts";
import { apiKey } from "../testing/market.ts";
import { json, problem, testServer, type Answer } from "../testing/server.ts";
import { tlsServer } from "../testing/tls-server.ts";

const path = "/api/identity/trust-domains/td.example/bundle";

/** An API that knows td.example and answers a bundle that is handed in by `answers`, one after the other; then Ctrl-C. */
async function watched(answers: readonly Answer[]) {
  const id = parseSpiffeId("spiffe://td.example/bundles");
  if (!id.ok) throw new Error(id.refusal.reason);
  const { state } = await initAuthority(testFolder(), id.value.trustDomain, Date.now());
  const endpoint = await tlsServer(
    await mintSvid(state, { id: id.value, ttlSeconds: 600, audiences: [] }, Date.now()),
    JSON.parse(bundleOfState(state)),
  );
  const server = await testServer();
  const host = testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });
  writeFileSync(join(host.home, "first.json"), bundleOfState(state));
  const domain = {
    name: "td.example",
    own: true,
    shared: false,
    endpoint: { url: `${endpoint.url}/`, profile: "https_spiffe", server_id: id.value.uri },
    bundle: null,
    confirmed_at: null,
    overdue: false,
    refused: null,
    workloads: 0,
    distrusts: 0,
    created_at: "2026-03-05T11:50:00.000Z",
  };
  server.on("GET /api/identity/trust-domains", json({ trust_domains: [domain] }));
  const waiting = [...answers];
  server.on(`PUT ${path}`, (request, response) => {
    const answer = waiting.shift();
    if (answer === undefined) host.interrupt();
    else answer(request, response);
  });
  return await maestro(host, "identity", "bundle", "push", "td.example", "--first", "first.json", "--watch");
}

const taken = json({
  name: "td.example",
  sha256: "0".repeat(64),
  sequence: 1,
  refresh_hint_seconds: 60,
  authorities: [],
  jwt_key_ids: [],
});

test("a watch outlives an API that is away and a bundle that is refused, and ends by Ctrl-C with exit code 130", async () => {
  const away = problem(503, { code: "database_unavailable", title: "The database cannot be reached" });
  const refused = problem(422, { code: "bundle_refused", title: "The bundle is refused" });
  const { code, err } = await watched([taken, ...Array.from({ length: 5 }, () => away), refused, taken]);
  expect(code).toBe(130);
  expect(err).toMatch(
    /in force[\s\S]+not fetched: The database cannot be reached[\s\S]+not fetched: The bundle is refused[\s\S]+in force/,
  );
});

test("a watch that cannot begin says why, and ends", async () => {
  const { code, err } = await watched([problem(422, { code: "bundle_refused", title: "The bundle is refused" })]);
  expect([code, err]).toEqual([2, expect.stringContaining("The bundle is refused")]);
});
