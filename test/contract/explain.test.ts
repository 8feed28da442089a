// Explanations over HTTP: for every rule that denies, the situation, the explanation, its calls as they are, and the action
// again. A rule without a case here fails the last test.

import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { rules } from "../../shared/policy/decide.ts";
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
import { sql } from "drizzle-orm";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { callsAs, TestDomain } from "../support/identities.ts";
import { anotherPerson } from "../support/people.ts";
import { sampled } from "../support/sampled.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let api: Contract;
let publisher: SeededTenant;
let signer: Signer;
let count = 0;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  publisher = await stack.seedTenant("explain-publisher");
  signer = await registeredSigner(api, publisher);
});

interface Fix {
  readonly rule: string;
  readonly words: string;
  readonly method: string | null;
  readonly path: string | null;
  readonly body: unknown;
}

/** What a case hands over: who asks what, and the action itself. */
interface Case {
  readonly tenant: SeededTenant;
  readonly key: string;
  readonly asked: Record<string, unknown>;
  attempt(key: string): Promise<CheckedAnswer>;
  /** Where the fix is someone else's to apply, or is in words; answers the credential of whoever acts then, if another. */
  readonly apply?: (fix: Fix) => Promise<string | void>;
  /** The status of the refusal, where it is not the policy's 403. */
  readonly refusal?: number;
}

const newTenant = (): Promise<SeededTenant> => stack.seedTenant(`explain-${(count += 1)}`);
const newName = (): string => `explain/package-${(count += 1)}`;

async function published(name: string, version = "1.0.0", channel: "stable" | "canary" = "stable", units = 0) {
  return publishRelease(api, publisher, signer, manifestOf(name, { version, channel, privacy_units: units }));
}

const entitle = async (tenant: SeededTenant, row: Record<string, unknown>): Promise<void> => {
  const entitlements = [{ channel: "stable", allowed: true, ...row }];
  must(200, await api.fetch("/api/market/entitlements", jsonCall(tenant.keys.admin, "PUT", { entitlements })));
};
const post = (key: string, path: string, body: unknown) => api.fetch(path, jsonCall(key, "POST", body));
const put = (key: string, path: string, body: unknown) => api.fetch(path, jsonCall(key, "PUT", body));
const install = async (tenant: SeededTenant, name: string, channel = "stable"): Promise<void> => {
  must(201, await post(tenant.keys.operator, "/api/market/installs", { package: name, channel }));
};

/** A tenant that is entitled to a new package and has it installed. */
async function installed(row: Record<string, unknown> = {}) {
  const [tenant, name] = [await newTenant(), newName()];
  await published(name);
  await entitle(tenant, { package: name });
  await install(tenant, name);
  if (Object.keys(row).length > 0) await entitle(tenant, { package: name, ...row });
  return { tenant, name };
}

const runCase = (tenant: SeededTenant, name: string): Case => ({
  tenant,
  key: tenant.keys.operator,
  asked: { action: "execution.start", package: name },
  attempt: (key) => post(key, "/api/executions", { package: name }),
});
const installCase = (tenant: SeededTenant, name: string, channel = "stable"): Case => ({
  tenant,
  key: tenant.keys.operator,
  asked: { action: "install.write", package: name, channel },
  attempt: (key) => post(key, "/api/market/installs", { package: name, channel }),
});
const upgradeCase = (tenant: SeededTenant, name: string, channel = "stable", cohort = 100): Case => ({
  tenant,
  key: tenant.keys.operator,
  asked: { action: "upgrade.start", package: name, channel, cohort_percent: cohort },
  attempt: (key) => post(key, "/api/market/upgrades", { package: name, channel, cohort_percent: cohort }),
});

/** A tenant with a trust domain; `svidOf` answers a JWT-SVID of that path, which is one of the tenant's principals, however it is named. */
async function workloads(shared: boolean) {
  const tenant = await newTenant();
  const domain = await TestDomain.make(`explain-${(count += 1)}.example`);
  const admin = callsAs(api, { authorization: `Bearer ${tenant.keys.admin}` });
  must(204, await admin.state(domain.name, { shared }));
  must(200, await admin.handIn(domain.name, domain.document()));
  const svidOf = async (path: string, role: "admin" | "viewer" = "viewer"): Promise<string> => {
    // The API registers no ID that the policy would refuse.
    await inBatch(databaseAs(stack, "owner"), [
      sql`insert into workloads values (${`spiffe://${domain.name}${path}`}, ${domain.name}, ${tenant.tenant_id},
            ${tenant.principals[role]}, now(), ${tenant.principals.admin})`,
    ]);
    return await domain.token(path);
  };
  return { tenant, svidOf };
}

const idCase = (tenant: SeededTenant, key: string, svidOf: (path: string) => Promise<string>): Case => ({
  tenant,
  key,
  asked: { action: "release.read" },
  attempt: (svid) => api.fetch("/api/market/packages", jsonCall(svid, "GET")),
  apply: inWords(/^Ask an admin of the tenant to register an ID below \/tenant\//, () =>
    svidOf(`/tenant/${tenant.slug}/viewer/a`),
  ),
});

/** A fix that is no call: what its words say, done. */
const inWords =
  (words: RegExp, act: () => Promise<string | void>) =>
  (fix: Fix): Promise<string | void> => {
    expect(fix).toMatchObject({ words: expect.stringMatching(words), method: null, path: null, body: null });
    return act();
  };

/** A day on which no run of today starts. */
const otherDay = (): string => ["sun", "mon", "tue", "wed", "thu", "fri", "sat"][(new Date().getUTCDay() + 3) % 7]!;

const cases: Readonly<Record<string, () => Promise<Case>>> = {
  async role_too_low() {
    const { tenant, name } = await installed();
    return { ...runCase(tenant, name), key: tenant.keys.viewer };
  },
  async own_release() {
    const [tenant, name] = [await newTenant(), newName()];
    const own = await registeredSigner(api, tenant);
    const manifest = manifestOf(name);
    const artifact = await packageOf(manifest);
    const bundle = await signRelease(own, manifest, artifact);
    const upload = uploadOf(tenant.keys.admin, bundle, artifact);
    const { json } = must(201, await api.fetch("/api/market/releases", upload));
    return {
      tenant,
      key: tenant.keys.admin,
      asked: { action: "release.review", package: name, version: "1.0.0" },
      attempt: (key) => post(key, `/api/market/reviews/${json.id}/approve`, {}),
      apply: inWords(/^Ask another person with the role reviewer/, () => Promise.resolve(tenant.keys.reviewer)),
    };
  },
  async own_change() {
    const tenant = await newTenant();
    const entitlements = [{ package: newName(), channel: "stable", allowed: true }];
    const { json } = must(
      201,
      await post(tenant.keys.admin, "/api/market/entitlement-changes", { entitlements, reason: "a test" }),
    );
    return {
      tenant,
      key: tenant.keys.admin,
      asked: { action: "entitlement.approve", change_id: json.id },
      attempt: (key) => api.fetch(`/api/market/entitlement-changes/${json.id}/approve`, jsonCall(key, "POST")),
      apply: inWords(/^Ask another person with the role admin/, () => anotherPerson(stack, tenant, "admin")),
    };
  },
  async person_needed() {
    const { tenant, svidOf } = await workloads(false);
    const entitlements = [{ package: newName(), channel: "stable", allowed: true }];
    const proposal = { entitlements, reason: "a test" };
    const { json } = must(201, await post(tenant.keys.operator, "/api/market/entitlement-changes", proposal));
    return {
      tenant,
      key: await svidOf("/approver", "admin"),
      asked: { action: "entitlement.approve", change_id: json.id },
      attempt: (key) => api.fetch(`/api/market/entitlement-changes/${json.id}/approve`, jsonCall(key, "POST")),
      apply: inWords(/^Log in as a person/, () => stack.issueToken({ subject: tenant.local_subjects.admin })),
    };
  },
  async tenant_not_curating() {
    const tenant = await stack.seedTenant(`explain-${(count += 1)}`, { curates: false });
    return {
      tenant,
      key: tenant.keys.admin,
      asked: { action: "rotation.read" },
      attempt: (key) => api.fetch("/api/rotations", jsonCall(key, "GET")),
      apply: inWords(/^Ask whoever runs the platform/, async () => {
        await inBatch(databaseAs(stack, "owner"), [
          sql`update tenants set curates = true where id = ${tenant.tenant_id}`,
        ]);
      }),
    };
  },
  async bar_lift_by_person() {
    const { tenant, name } = await installed();
    const bar = { package: name, version: "1.0.0", barred: true, reason: "a test" };
    must(200, await put(tenant.keys.operator, "/api/market/bars", bar));
    const { json } = must(201, await post(tenant.keys.admin, "/api/keys", { role: "operator" }));
    return {
      tenant,
      key: String(json.key),
      asked: { action: "bar.write", package: name, version: "1.0.0", barred: false },
      attempt: (key) => put(key, "/api/market/bars", { ...bar, barred: false }),
      apply: inWords(/^Log in as a person/, () => stack.issueToken({ subject: tenant.local_subjects.operator })),
    };
  },
  async package_of_another_publisher() {
    const [tenant, name] = [await newTenant(), newName()];
    await published(name);
    const own = await registeredSigner(api, tenant);
    let mine = name;
    const asked = { action: "release.publish", package: name };
    return {
      tenant,
      key: tenant.keys.publisher,
      asked,
      async attempt(key) {
        const manifest = manifestOf(mine);
        const artifact = await packageOf(manifest);
        return api.fetch("/api/market/releases", uploadOf(key, await signRelease(own, manifest, artifact), artifact));
      },
      // In words: a name of one's own.
      apply: async () => {
        mine = newName();
        asked.package = mine;
        await Promise.resolve();
      },
    };
  },
  async channels_off() {
    const [tenant, name] = [await newTenant(), newName()];
    await published(name, "1.0.0", "canary");
    await entitle(tenant, { package: name, channel: "canary" });
    must(200, await put(tenant.keys.admin, "/api/flags", { flag: "market_channels", enabled: false }));
    return installCase(tenant, name, "canary");
  },
  async entitlements_off() {
    const { tenant, name } = await installed();
    must(200, await put(tenant.keys.admin, "/api/flags", { flag: "market_entitlements", enabled: false }));
    return runCase(tenant, name);
  },
  async entitlement_missing() {
    const [tenant, name] = [await newTenant(), newName()];
    await published(name);
    return installCase(tenant, name);
  },
  async entitlement_denied() {
    const { tenant, name } = await installed({ allowed: false });
    return runCase(tenant, name);
  },
  async channel_not_entitled() {
    const { tenant, name } = await installed();
    await published(name, "1.1.0", "canary");
    return upgradeCase(tenant, name, "canary");
  },
  async version_not_entitled() {
    const { tenant, name } = await installed({ version_range: ">=2.0.0" });
    return runCase(tenant, name);
  },
  async release_yanked() {
    const [tenant, name] = [await newTenant(), newName()];
    await published(name);
    const { id } = await published(name, "1.1.0");
    await entitle(tenant, { package: name });
    must(200, await post(publisher.keys.publisher, `/api/market/releases/${id}/yank`, { reason: "it is broken" }));
    return {
      ...installCase(tenant, name),
      apply: async (fix) => {
        must(201, await post(publisher.keys.publisher, fix.path!, fix.body));
      },
    };
  },
  async release_barred() {
    const [tenant, name] = [await newTenant(), newName()];
    await published(name);
    await entitle(tenant, { package: name });
    const bar = { package: name, version: "1.0.0", barred: true, reason: "a test" };
    must(200, await put(tenant.keys.operator, "/api/market/bars", bar));
    return installCase(tenant, name);
  },
  async package_frozen() {
    const { tenant, name } = await installed();
    must(200, await put(tenant.keys.operator, "/api/market/freezes", { package: name, frozen: true }));
    return upgradeCase(tenant, name);
  },
  async not_installed() {
    const [tenant, name] = [await newTenant(), newName()];
    await published(name);
    await entitle(tenant, { package: name });
    const one = runCase(tenant, name);
    return {
      ...one,
      asked: { ...one.asked, install: "edge-7" },
      attempt: (key) => post(key, "/api/executions", { package: name, install: "edge-7" }),
    };
  },
  async nothing_to_roll_back() {
    const { tenant, name } = await installed();
    return {
      tenant,
      key: tenant.keys.operator,
      asked: { action: "rollback.start", package: name },
      attempt: (key) => post(key, "/api/market/rollbacks", { package: name }),
      refusal: 409,
      apply: inWords(/^Nothing can be taken back before something has moved/, async () => {
        await published(name, "1.1.0");
        must(201, await post(tenant.keys.operator, "/api/market/upgrades", { package: name }));
      }),
    };
  },
  async install_pinned() {
    const { tenant, name } = await installed();
    must(200, await put(tenant.keys.operator, "/api/market/pins", { package: name, pinned: true }));
    return upgradeCase(tenant, name);
  },
  async gate_holds() {
    const { tenant, name } = await installed();
    await published(name, "1.1.0", "canary");
    await entitle(tenant, { package: name, channel: "canary" });
    const first = { package: name, channel: "canary", cohort_percent: 1 };
    must(201, await post(tenant.keys.operator, "/api/market/upgrades", first));
    const wider = upgradeCase(tenant, name, "canary", 2);
    let despite = false;
    return {
      ...wider,
      // The fix is the action itself, with one word more.
      attempt: (key) =>
        post(key, "/api/market/upgrades", {
          package: name,
          channel: "canary",
          cohort_percent: 2,
          despite_gate: despite,
        }),
      apply: async (fix) => {
        expect(fix.body).toEqual({ package: name, channel: "canary", cohort_percent: 2, despite_gate: true });
        despite = true;
        must(201, await post(tenant.keys.operator, fix.path!, fix.body));
      },
    };
  },
  async outside_run_window() {
    const { tenant, name } = await installed({ run_windows: [{ days: [otherDay()], from: "00:00", to: "24:00" }] });
    return runCase(tenant, name);
  },
  async run_cap_reached() {
    const { tenant, name } = await installed({ runs_per_day_max: 1 });
    must(201, await post(tenant.keys.operator, "/api/executions", { package: name }));
    return runCase(tenant, name);
  },
  async privacy_budget_exceeded() {
    const [tenant, name] = [await newTenant(), newName()];
    await published(name, "1.0.0", "stable", 7);
    await entitle(tenant, { package: name });
    await install(tenant, name);
    const budget = { limit_units: 10, leak_units_per_hour: 0 };
    must(200, await put(tenant.keys.admin, "/api/privacy/budget", budget));
    must(201, await post(tenant.keys.operator, "/api/executions", { package: name }));
    return runCase(tenant, name);
  },
};

async function explained(one: Case, key = one.key) {
  return must(200, await api.fetch("/api/market/explain", jsonCall(key, "POST", one.asked))).json;
}

/** Applies the fixes in order; answers the key that a new principal has, where one of them made it. */
async function applyAll(one: Case, fixes: readonly Fix[]): Promise<string> {
  let key = one.key;
  for (const fix of fixes) {
    if (one.apply !== undefined) {
      key = (await one.apply(fix)) ?? key;
      continue;
    }
    if (fix.method === null || fix.path === null) throw new Error(`in words alone: ${fix.words}`);
    const answer = await api.fetch(fix.path, jsonCall(one.tenant.keys.admin, fix.method, fix.body));
    expect([fix, answer.status]).toEqual([fix, fix.method === "POST" ? 201 : 200]);
    if (fix.path === "/api/keys") key = String(answer.json.secret ?? answer.json.key);
  }
  return key;
}

/** Whoever comes by such an ID may not ask for an explanation either: the refusal itself says what helps. */
const wrongIds = [
  ["spiffe_id_of_another_tenant", () => "/tenant/somebody-else/viewer/a"],
  ["spiffe_id_of_another_role", ({ slug }: SeededTenant) => `/tenant/${slug}/admin/a`],
] as const;

test.each(wrongIds)("%s: the refusal says which ID would do, and it does", async (rule, pathOf) => {
  const { tenant, svidOf } = await workloads(true);
  const one = idCase(tenant, await svidOf(pathOf(tenant)), svidOf);
  const denied = await one.attempt(one.key);
  expect([denied.status, denied.json.rule]).toEqual([403, rule]);
  expect(await api.fetch("/api/market/explain", jsonCall(one.key, "POST", one.asked))).toMatchObject({ status: 403 });
  const svid = await one.apply!(denied.json.fix as Fix);
  expect((await one.attempt(String(svid))).status).toBe(200);
});

test("svid_needed: the refusal of a fetcher's key says what helps, an admin does it, and the key opens", async () => {
  const tenant = await newTenant();
  const domain = await TestDomain.make(`explain-${(count += 1)}.example`);
  const admin = callsAs(api, { authorization: `Bearer ${tenant.keys.admin}` });
  must(204, await admin.state(domain.name));
  must(201, await admin.register(`spiffe://${domain.name}/fetcher`, "fetcher"));
  const read = () => api.fetch("/api/whoami", jsonCall(tenant.keys.fetcher, "GET"));
  const denied = await read();
  expect([denied.status, denied.json.rule]).toEqual([403, "svid_needed"]);
  const { method, path, body } = denied.json.fix as Fix;
  must(200, await api.fetch(path!, jsonCall(tenant.keys.admin, method!, body)));
  expect((await read()).status).toBe(200);
});

describe("every rule", () => {
  test.each(sampled(Object.keys(cases), 5))(
    "%s: what the explanation names, applied as it is, allows it",
    async (rule) => {
      const one = await cases[rule]!();
      const denied = await one.attempt(one.key);
      expect([denied.status, denied.json.rule ?? denied.json.code]).toEqual([one.refusal ?? 403, rule]);
      const before = await explained(one);
      expect(before).toMatchObject({ allow: false, rule, complete: true });
      expect(before.fixes.length).toBeGreaterThan(0);
      expect(before.fixes[0]).toMatchObject({ rule, words: expect.stringMatching(/\S/) });

      const key = await applyAll(one, before.fixes);
      expect(await explained(one, key)).toMatchObject({ allow: true, fixes: [] });
      expect((await one.attempt(key)).status).toBeOneOf([200, 201]);
    },
  );

  test("has a case above", () => {
    const denying = rules.filter((rule) => rule !== "ok" && rule !== "policy_error");
    const told = ["svid_needed", ...wrongIds.map(([rule]) => rule)];
    expect([...Object.keys(cases), ...told].toSorted()).toEqual([...denying].toSorted());
  });
});

test("whether somebody may take a rotation back is explained as it is decided", async () => {
  const [curating, other] = [await newTenant(), await stack.seedTenant(`explain-${(count += 1)}`, { curates: false })];
  const id = "rot_01k9x6f6c8a0b1c2d3e4f5g6h7";
  for (const [key, rule, status] of [
    [curating.keys.admin, "ok", 404],
    [curating.keys.operator, "role_too_low", 403],
    [other.keys.admin, "tenant_not_curating", 403],
  ] as const) {
    const asked = { action: "rotation.cancel", rotation_id: id };
    expect(must(200, await post(key, "/api/market/explain", asked)).json).toMatchObject({ rule, complete: true });
    const attempt = await post(key, `/api/rotations/${id}/cancel`, undefined);
    expect([attempt.status, attempt.json.rule ?? "ok"]).toEqual([status, rule]);
  }
});

test("where several rules deny, every fix is needed, and together they suffice", async () => {
  const { tenant, name } = await installed({ allowed: false });
  await published(name, "1.1.0");
  const bar = { package: name, version: "1.1.0", barred: true, reason: "a test" };
  must(200, await put(tenant.keys.operator, "/api/market/bars", bar));
  must(200, await put(tenant.keys.operator, "/api/market/pins", { package: name, pinned: true }));
  must(200, await put(tenant.keys.operator, "/api/market/freezes", { package: name, frozen: true }));
  const one = upgradeCase(tenant, name);
  const { fixes } = await explained(one);
  expect(fixes.map((fix: Fix) => fix.rule)).toEqual([
    "entitlement_denied",
    "release_barred",
    "package_frozen",
    "install_pinned",
  ]);
  for (const fix of fixes as Fix[]) {
    expect((await one.attempt(one.key)).status).toBe(403);
    await applyAll(one, [fix]);
  }
  expect((await one.attempt(one.key)).status).toBe(201);
});

test("an allow has nothing to fix, and shows what it was decided on", async () => {
  const { tenant, name } = await installed();
  const answer = await explained(runCase(tenant, name));
  expect(answer).toMatchObject({ allow: true, rule: "ok", reasons: [], fixes: [], complete: true });
  expect(answer.facts).toMatchObject({ package: name, install: { channel: "stable", version: "1.0.0" } });
});

test("asking reserves nothing, starts nothing and leaves no decision in the log", async () => {
  const [tenant, name] = [await newTenant(), newName()];
  await published(name, "1.0.0", "stable", 5);
  await entitle(tenant, { package: name });
  await install(tenant, name);
  must(200, await put(tenant.keys.admin, "/api/privacy/budget", { limit_units: 5, leak_units_per_hour: 0 }));
  for (let asked = 0; asked < 3; asked += 1)
    expect(await explained(runCase(tenant, name))).toMatchObject({ allow: true });
  const budget = await api.fetch("/api/privacy/budget", jsonCall(tenant.keys.viewer, "GET"));
  expect(budget.json).toMatchObject({ held_units: 0, remaining_units: 5 });
  expect((await api.fetch("/api/executions", jsonCall(tenant.keys.viewer, "GET"))).json.executions).toEqual([]);
});

test("an unknown action, and an action without what it is decided on, are told what is missing", async () => {
  const tenant = await newTenant();
  const ask = (asked: unknown) => api.fetch("/api/market/explain", jsonCall(tenant.keys.operator, "POST", asked));
  const unknown = await ask({ action: "tenant.delete" });
  expect([unknown.status, unknown.json.errors[0].path]).toEqual([400, "action"]);
  expect(unknown.json.errors[0].message).toContain("execution.start");
  const bare = await ask({ action: "execution.start" });
  expect([bare.status, bare.json.errors[0].path]).toEqual([400, "package"]);
  expect((await ask({ action: "install.write", package: "explain/nothing" })).status).toBe(404);
  expect((await ask({ action: "pql.query" })).json).toMatchObject({ allow: true, facts: null, complete: true });
});
