// What a caller may not see makes no difference to what the caller is told: the same question in two states that differ in
// hidden facts alone is answered with the same bytes.

import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { contractOf, type CheckedAnswer, type Contract } from "../support/openapi.ts";
import {
  jsonCall,
  manifestOf,
  must,
  packageOf,
  publishRelease,
  registeredSigner,
  signRelease,
  uploadOf,
} from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let api: Contract;
let publisher: SeededTenant;
let signer: Signer;
/** Two tenants: in one everything is entitled, installed, pinned, barred, frozen and spent; in the other nothing is. */
let full: SeededTenant;
let empty: SeededTenant;
const name = "differential/package";

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  publisher = await stack.seedTenant("differential-publisher");
  full = await stack.seedTenant("differential-full");
  empty = await stack.seedTenant("differential-empty");
  signer = await registeredSigner(api, publisher);
  await publishRelease(api, publisher, signer, manifestOf(name));
  const put = async (path: string, body: unknown) =>
    void must(200, await api.fetch(path, jsonCall(full.keys.admin, "PUT", body)));
  const row = {
    package: name,
    channel: "canary",
    allowed: true,
    version_range: "^1.0.0",
    run_windows: [],
    runs_per_day_max: 3,
  };
  await put("/api/market/entitlements", { entitlements: [row] });
  must(201, await api.fetch("/api/market/installs", jsonCall(full.keys.operator, "POST", { package: name })));
  await put("/api/market/pins", { package: name, pinned: true });
  await put("/api/market/bars", { package: name, version: "1.0.0", barred: true, reason: "hidden" });
  await put("/api/market/freezes", { package: name, frozen: true, reason: "hidden" });
  await put("/api/privacy/budget", { limit_units: 1, leak_units_per_hour: 0 });
  await put("/api/flags", { flag: "market_channels", enabled: false });
});

/** An answer without what differs by nature: the request's id, and the ids of who asks. */
const told = ({ status, bytes }: CheckedAnswer): string =>
  `${status} ${new TextDecoder().decode(bytes).replaceAll(/req_[0-9a-z]{26}/g, "req")}`;

const asked = [
  { action: "execution.start", package: name },
  { action: "install.write", package: name },
  { action: "install.write", package: name, channel: "canary" },
  { action: "upgrade.start", package: name },
  { action: "rollback.start", package: name, version: "1.0.0" },
  { action: "entitlement.approve", change_id: `chg_${"0".repeat(26)}` },
  { action: "budget.write" },
];

test("one that is decided on what was asked alone, with nothing looked up, is explained whole", async () => {
  const question = { action: "bar.write", package: name, version: "1.0.0", barred: false };
  const [one, other] = await Promise.all(
    [full, empty].map((tenant) => api.fetch("/api/market/explain", jsonCall(tenant.keys.reviewer, "POST", question))),
  );
  expect(told(one!)).toBe(told(other!));
  expect(one!.json).toMatchObject({ allow: false, rule: "role_too_low", complete: true });
});

describe.each(["publisher", "reviewer"] as const)("to a %s", (role) => {
  test.each(asked)("$action is explained alike, whatever the tenant has", async (question) => {
    const [one, other] = await Promise.all(
      [full, empty].map((tenant) => api.fetch("/api/market/explain", jsonCall(tenant.keys[role], "POST", question))),
    );
    expect(told(one!)).toBe(told(other!));
    expect(one!.json).toMatchObject({ allow: false, rule: "role_too_low", facts: null });
    expect(one!.json.fixes).toHaveLength(1);
    // An action that the role alone decides has nothing behind it.
    expect(one!.json.complete).toBe(question.action === "budget.write");
  });
});

test("who may read the facts is told them, so that the sameness above is not that of an answer that says nothing", async () => {
  const ask = (tenant: SeededTenant) =>
    api.fetch("/api/market/explain", jsonCall(tenant.keys.viewer, "POST", { action: "install.write", package: name }));
  const [one, other] = [must(200, await ask(full)).json, must(200, await ask(empty)).json];
  expect(one.facts.frozen).toBe(true);
  expect(other.facts.frozen).toBe(false);
  expect(one.fixes.length).toBeGreaterThan(other.fixes.length);
});

test("whether a name is taken is told to those who could publish, and to nobody else", async () => {
  const outsider = await stack.seedTenant("differential-outsider", { curates: false });
  const [taken, absent] = ["differential/draft", "differential/none"];
  const manifest = manifestOf(taken);
  const artifact = await packageOf(manifest);
  const upload = uploadOf(publisher.keys.publisher, await signRelease(signer, manifest, artifact), artifact);
  const headers = { ...(upload.headers as Record<string, string>), "maestro-release-draft": "true" };
  must(201, await api.fetch("/api/market/releases", { ...upload, headers }));
  const ask = (role: keyof typeof outsider.keys, name: string) =>
    api.fetch(
      "/api/market/explain",
      jsonCall(outsider.keys[role], "POST", { action: "release.publish", package: name }),
    );
  for (const role of ["operator", "auditor", "reviewer", "viewer"] as const) {
    const [one, other] = [await ask(role, taken), await ask(role, absent)];
    expect(told(one)).toBe(told(other));
    expect(one.json).toMatchObject({ allow: false, rule: "role_too_low", facts: null, complete: false });
  }

  // To a publisher it tells what publishing tells: names are unique.
  const own = await registeredSigner(api, outsider);
  for (const name of [taken, absent]) {
    const explained = must(200, await ask("publisher", name)).json;
    const mine = manifestOf(name);
    const bytes = await packageOf(mine);
    const bundle = await signRelease(own, mine, bytes);
    const done = await api.fetch("/api/market/releases", uploadOf(outsider.keys.publisher, bundle, bytes));
    expect([name, explained.rule]).toEqual([name, name === taken ? "package_of_another_publisher" : "ok"]);
    expect([name, done.status, done.json.rule]).toEqual([
      name,
      name === taken ? 403 : 201,
      name === taken ? explained.rule : undefined,
    ]);
  }
});

test("another tenant's release that is not published is the 404 of one that is not there", async () => {
  const outsider = await stack.seedTenant("differential-outsider", { curates: false });
  const hidden = "differential/hidden";
  const manifest = manifestOf(hidden);
  const artifact = await packageOf(manifest);
  const bundle = await signRelease(signer, manifest, artifact);
  const { json } = must(
    201,
    await api.fetch("/api/market/releases", uploadOf(publisher.keys.publisher, bundle, artifact)),
  );
  const absent = "differential/absent";
  const get = (path: string) => api.fetch(path, jsonCall(outsider.keys.admin, "GET"));
  const post = (path: string, body: unknown) => api.fetch(path, jsonCall(outsider.keys.admin, "POST", body));
  const put = (path: string, body: unknown) => api.fetch(path, jsonCall(outsider.keys.admin, "PUT", body));
  const nobody = `rel_${"9".repeat(26)}`;
  const pairs: (readonly [CheckedAnswer, CheckedAnswer])[] = [
    [await get(`/api/market/releases/${json.id}`), await get(`/api/market/releases/${nobody}`)],
    [await get(`/api/market/reviews/${json.id}`), await get(`/api/market/reviews/${nobody}`)],
    [await get(`/api/market/releases?package=${hidden}`), await get(`/api/market/releases?package=${absent}`)],
    [
      await get(`/api/market/releases?package=${hidden}&version=1.0.0`),
      await get(`/api/market/releases?package=${absent}&version=1.0.0`),
    ],
    [await get(`/api/market/versions?package=${hidden}`), await get(`/api/market/versions?package=${absent}`)],
    [await get(`/api/market/channels?package=${hidden}`), await get(`/api/market/channels?package=${absent}`)],
    [await get(`/api/market/artifacts/${json.artifact_sha256}`), await get(`/api/market/artifacts/${"0".repeat(64)}`)],
    [await post(`/api/market/reviews/${json.id}/approve`, {}), await post(`/api/market/reviews/${nobody}/approve`, {})],
    [
      await post(`/api/market/releases/${json.id}/yank`, { reason: "x" }),
      await post(`/api/market/releases/${nobody}/yank`, { reason: "x" }),
    ],
    [
      await post("/api/market/explain", { action: "install.write", package: hidden }),
      await post("/api/market/explain", { action: "install.write", package: absent }),
    ],
    [
      await put("/api/market/bars", { package: hidden, version: "1.0.0", barred: true, reason: "x" }),
      await put("/api/market/bars", { package: absent, version: "1.0.0", barred: true, reason: "x" }),
    ],
  ];
  for (const [one, other] of pairs) expect(told(one)).toBe(told(other));
  expect((await get("/api/market/reviews")).json.releases).toEqual([]);
  expect((await get("/api/market/packages?q=differential hidden")).json.packages).toEqual([]);
});
