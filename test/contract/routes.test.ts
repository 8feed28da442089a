// Every route of the API, found in the router itself: none can be reached without a decision, the open ones that are pinned here by
// nobody's name.

import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { actions } from "../../shared/policy/actions.ts";
import { localApi, loadApp, type LocalApi } from "../support/api.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const app = await loadApp();
const decidedRoutes = app.entries.filter(({ action }) => action !== null);

/** Adding a line here makes a route public: say in the review why it may be. */
const openRoutes = [
  "GET /.well-known/spiffe/{name}/bundle.json",
  "GET /api/audit/events.schema.json",
  "GET /api/audit/keys",
  "GET /api/disclosures/{token}",
  "GET /docs",
  "GET /healthz",
  "GET /openapi.json",
];

const name = ({ route }: { route: { method: string; path: string } }): string =>
  `${route.method.toUpperCase()} ${route.path}`;

/** A path of this route that its patterns take. */
const examplePath = (path: string): string =>
  path
    .replace("/keys/{id}", "/keys/key_01k9x6f6c8a0b1c2d3e4f5g6h7")
    .replace(/\/(releases|reviews)\/\{id\}/, "/$1/rel_01k9x6f6c8a0b1c2d3e4f5g6h7")
    .replace("/entitlement-changes/{id}", "/entitlement-changes/chg_01k9x6f6c8a0b1c2d3e4f5g6h7")
    .replace("/rollouts/{id}", "/rollouts/rol_01k9x6f6c8a0b1c2d3e4f5g6h7")
    .replace("/rotations/{id}", "/rotations/rot_01k9x6f6c8a0b1c2d3e4f5g6h7")
    .replace("/consumers/{kind}/{name}", "/consumers/release/plant-7-verifier")
    .replace("/executions/{id}", "/executions/exe_01k9x6f6c8a0b1c2d3e4f5g6h7")
    .replace("/trust-domains/{name}", "/trust-domains/acme.example")
    .replace("/workloads/{id}", "/workloads/pri_01k9x6f6c8a0b1c2d3e4f5g6h7")
    .replace("/policies/{name}", "/policies/gateway")
    .replace("/fleet/{instance}", "/fleet/fet_01k9x6f6c8a0b1c2d3e4f5g6h7")
    .replace("/spiffe/{name}/", "/spiffe/acme.example/")
    .replace("{token}", "t".repeat(43))
    .replace("{sha256}", "0".repeat(64))
    .replace("{range}", "00000000000000000000-00000000000000000001")
    .replace("{+path}", "0/000");

let api: LocalApi;
let tenant: SeededTenant;

beforeAll(async () => {
  tenant = await stack.seedTenant("door-routes");
  api = await localApi(stack);
});

test("the open routes are these, and no others", () => {
  expect(
    app.entries
      .filter(({ action }) => action === null)
      .map(name)
      .sort(),
  ).toEqual(openRoutes);
});

describe.each(app.entries.filter(({ action }) => action === null).map((entry) => [name(entry), entry] as const))(
  "%s",
  (route, entry) => {
    test("is open by the policy's word, which is asked first; without it the route is shut", async () => {
      const before = api.opened.length;
      expect((await api.fetch(examplePath(entry.route.path))).status).not.toBe(403);
      expect(api.opened.slice(before)).toEqual([route]);
      const shut = await localApi(stack, { openRoutes: () => ({ allow: false, reason: "Shut." }) });
      const response = await shut.fetch(examplePath(entry.route.path));
      expect(response.status).toBe(403);
      expect(await response.json()).toMatchObject({ code: "denied", detail: "Shut.", reasons: ["Shut."], fix: null });
    });
  },
);

test("the router holds the door's routes and nothing else", () => {
  const fromDoor = new Map(app.entries.map((entry) => [name(entry), entry]));
  const handled = app.hono.routes.filter(({ method }) => method !== "ALL");
  expect(handled).toHaveLength(fromDoor.size);
  // `ALL` is the wrapper of every request, and one answer of 405 a path.
  expect(app.hono.routes.filter(({ method }) => method === "ALL")).toHaveLength(
    1 + new Set(app.entries.map(({ route }) => route.path)).size,
  );
});

test("every action of the policy has a route, and every route's action is one of the policy's", () => {
  expect(new Set(decidedRoutes.map(({ action }) => action))).toEqual(new Set(actions));
});

/** Questions change nothing; a report is ordered by its own sequence number. */
const withoutKey = ["POST /api/edge/reports", "POST /api/market/explain", "POST /api/pql"];

test("every POST that changes something needs an Idempotency-Key; PUT and DELETE take one", () => {
  const byMethod = { get: "none", post: "required", put: "optional", delete: "optional" };
  for (const entry of app.entries) {
    const rule = withoutKey.includes(name(entry)) ? "none" : byMethod[entry.route.method as keyof typeof byMethod];
    expect([name(entry), entry.idempotency]).toEqual([name(entry), rule]);
  }
});

test("a credential is checked with the answer by questions to the log alone, and by nothing that changes anything", () => {
  const checked = app.entries.filter(({ credential }) => credential === "checked_with_the_answer");
  expect(checked.map((entry) => [name(entry), entry.idempotency])).toEqual([["POST /api/pql", "none"]]);
});

describe.each(decidedRoutes.map((entry) => [name(entry), entry] as const))("%s", (_, { route, action }) => {
  const call = (headers: Record<string, string>): Promise<Response> =>
    api.fetch(examplePath(route.path), { method: route.method.toUpperCase(), headers });

  test("answers 401 without credentials, and decides nothing for nobody", async () => {
    const before = api.decided.length;
    const response = await call({});
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe('Bearer realm="maestro"');
    expect(await response.json()).toMatchObject({ code: "unauthenticated" });
    expect(api.decided).toHaveLength(before);
  });

  test("is decided first, and a deny of the policy keeps it shut even for an admin", async () => {
    const shut = await localApi(stack, { policy: { sha256: "0".repeat(64), evaluate: () => [] } });
    const response = await shut.fetch(examplePath(route.path), {
      method: route.method.toUpperCase(),
      headers: { authorization: `Bearer ${tenant.keys.admin}` },
    });
    expect(response.status).toBe(403);
    expect(await response.json()).toMatchObject({ code: "denied", rule: "policy_error" });
  });

  test("asks the policy for its own action, with the caller as the database knows it", async () => {
    const before = api.decided.length;
    await call({ authorization: `Bearer ${tenant.keys.viewer}` });
    expect(api.decided[before]).toEqual({
      action,
      caller: {
        tenant_id: tenant.tenant_id,
        tenant: tenant.slug,
        principal_id: tenant.principals.viewer,
        role: "viewer",
        kind: "person",
        credential: "key",
        fetcher_svids: { registered: false, everywhere: true },
        spiffe_id: null,
        spiffe_domain: null,
      },
    });
  });
});
