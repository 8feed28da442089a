// Explanations where several things stand in the way at once: what is named, applied in the order in which it is printed, is
// an allow, and not before the last of it.

import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { Channel } from "../../shared/contract/names.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { contractOf, type CheckedAnswer, type Contract } from "../support/openapi.ts";
import { jsonCall, manifestOf, must, publishRelease, registeredSigner } from "../support/publisher.ts";
import { sampled } from "../support/sampled.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let api: Contract;
let publisher: SeededTenant;
let signer: Signer;
let count = 0;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  publisher = await stack.seedTenant("combined-publisher");
  signer = await registeredSigner(api, publisher);
});

const hindrances = [
  "canary only",
  "not entitled",
  "entitlement denied",
  "out of range",
  "stable only",
  "outside windows",
  "channels off",
  "entitlements off",
  "yanked",
  "all yanked",
  "barred",
  "older barred",
  "frozen",
  "pinned",
  "not installed",
  "budget spent",
  "role too low",
] as const;
type Hindrance = (typeof hindrances)[number];
type Way = "execution.start" | "install.write" | "upgrade.start";

interface Fix {
  readonly rule: string;
  readonly words: string;
  readonly method: string | null;
  readonly path: string | null;
  readonly body: unknown;
}

const call = (key: string, method: string, path: string, body?: unknown): Promise<CheckedAnswer> =>
  api.fetch(path, jsonCall(key, method, body));

/** The package's older release is 1.0.0, its newer 1.1.0, where its channel points. */
async function world(action: Way, having: readonly Hindrance[]) {
  const has = (one: Hindrance): boolean => having.includes(one);
  const tenant = await stack.seedTenant(`combined-${(count += 1)}`);
  const name = `combined/package-${count}`;
  const channel: Channel = has("canary only") ? "canary" : "stable";
  const publish = (version: string) =>
    publishRelease(api, publisher, signer, manifestOf(name, { version, channel, privacy_units: 5 }));
  const { admin, operator, viewer } = tenant.keys;
  const entitle = async (row: Record<string, unknown>) => {
    const entitlements = [{ package: name, channel: "canary", allowed: true, ...row }];
    must(200, await call(admin, "PUT", "/api/market/entitlements", { entitlements }));
  };
  const older = await publish("1.0.0");
  const everyInstall = action === "upgrade.start" && !has("not installed") ? ["default"] : [];
  // A package of which nothing is installed cannot be frozen.
  const installs = has("frozen") && everyInstall.length === 0 ? ["edge-0"] : everyInstall;
  if (installs.length > 0) await entitle({});
  for (const install of installs) {
    must(201, await call(operator, "POST", "/api/market/installs", { package: name, channel, name: install }));
  }
  if (has("pinned")) must(200, await call(operator, "PUT", "/api/market/pins", { package: name, pinned: true }));
  const newer = await publish("1.1.0");
  const bar = (version: string) => ({ package: name, version, barred: true, reason: "a test" });
  if (has("barred")) must(200, await call(operator, "PUT", "/api/market/bars", bar("1.1.0")));
  if (has("older barred")) must(200, await call(operator, "PUT", "/api/market/bars", bar("1.0.0")));
  if (has("frozen")) must(200, await call(operator, "PUT", "/api/market/freezes", { package: name, frozen: true }));
  const yank = async (id: string) => {
    must(200, await call(publisher.keys.publisher, "POST", `/api/market/releases/${id}/yank`, { reason: "broken" }));
  };
  if (has("yanked") || has("all yanked")) await yank(newer.id);
  if (has("all yanked")) await yank(older.id);
  const tomorrow = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][new Date().getUTCDay()]!;
  if (!has("not entitled")) {
    await entitle({
      channel: has("stable only") ? "stable" : "canary",
      allowed: !has("entitlement denied"),
      version_range: has("out of range") ? ">=5.0.0" : null,
      run_windows: has("outside windows") ? [{ days: [tomorrow], from: "00:00", to: "24:00" }] : null,
    });
  }
  for (const flag of ["market_channels", "market_entitlements"]) {
    const off = flag === "market_channels" ? has("channels off") : has("entitlements off");
    if (off) must(200, await call(admin, "PUT", "/api/flags", { flag, enabled: false }));
  }
  const budget = { limit_units: has("budget spent") ? 3 : 1_000, leak_units_per_hour: 0 };
  must(200, await call(admin, "PUT", "/api/privacy/budget", budget));

  const path = {
    "execution.start": "/api/executions",
    "install.write": "/api/market/installs",
    "upgrade.start": "/api/market/upgrades",
  }[action];
  const body = action === "execution.start" ? { package: name } : { package: name, channel };
  return {
    key: has("role too low") ? viewer : operator,
    explain: (key: string) => call(key, "POST", "/api/market/explain", { action, ...body }),
    attempt: (key: string) => call(key, "POST", path, body),
    /** Answers the credential that acts from then on, where it is another. */
    async apply(fix: Fix): Promise<string | null> {
      if (fix.method === null || fix.path === null) {
        expect(fix).toMatchObject({ method: null, path: null, body: null });
        expect(fix.words).toMatch(/^Have the publisher publish another release/);
        await publish(has("out of range") ? "5.0.0" : "1.2.0");
        return null;
      }
      const key = fix.path === "/api/market/channels" ? publisher.keys.publisher : admin;
      const answer = await call(key, fix.method, fix.path, fix.body);
      expect([fix, answer.status, answer.json]).toEqual([fix, fix.method === "POST" ? 201 : 200, expect.anything()]);
      return fix.path === "/api/keys" ? String(answer.json.key) : null;
    },
  };
}

const combinations: readonly (readonly [Way, readonly Hindrance[], readonly string[]])[] = [
  // A run of what is not installed meets what its install would meet.
  ["execution.start", ["frozen"], ["package_frozen", "not_installed"]],
  ["execution.start", ["canary only"], ["not_installed"]],
  ["execution.start", ["canary only", "stable only"], ["channel_not_entitled", "not_installed"]],
  ["execution.start", ["canary only", "channels off"], ["channels_off", "not_installed"]],
  [
    "execution.start",
    ["canary only", "channels off", "not entitled"],
    ["channels_off", "entitlement_missing", "not_installed"],
  ],
  ["execution.start", ["out of range"], ["version_not_entitled", "not_installed"]],
  ["execution.start", ["out of range", "outside windows"], ["version_not_entitled", "not_installed"]],
  ["execution.start", ["barred"], ["release_barred", "not_installed"]],
  [
    "execution.start",
    ["barred", "frozen", "entitlement denied"],
    ["entitlement_denied", "release_barred", "package_frozen", "not_installed"],
  ],
  ["execution.start", ["yanked"], ["release_yanked", "not_installed"]],
  ["execution.start", ["yanked", "barred"], ["release_yanked", "not_installed"]],
  ["execution.start", ["yanked", "older barred"], ["release_yanked", "not_installed"]],
  ["execution.start", ["yanked", "out of range"], ["version_not_entitled", "release_yanked", "not_installed"]],
  ["execution.start", ["all yanked", "barred"], ["release_yanked", "not_installed"]],
  ["execution.start", ["all yanked", "out of range"], ["release_yanked", "not_installed"]],
  ["execution.start", ["budget spent"], ["not_installed", "privacy_budget_exceeded"]],
  [
    "execution.start",
    ["budget spent", "frozen", "entitlement denied"],
    ["entitlement_denied", "package_frozen", "not_installed", "privacy_budget_exceeded"],
  ],
  ["execution.start", ["entitlements off", "frozen"], ["entitlements_off", "package_frozen", "not_installed"]],
  ["execution.start", ["role too low", "barred"], ["role_too_low", "release_barred", "not_installed"]],
  ["execution.start", ["role too low", "entitlements off"], ["entitlements_off", "not_installed"]],

  ["install.write", ["yanked", "older barred"], ["release_yanked"]],
  ["install.write", ["yanked", "barred"], ["release_yanked"]],
  ["install.write", ["yanked", "out of range"], ["version_not_entitled", "release_yanked"]],
  ["install.write", ["all yanked", "out of range", "frozen"], ["release_yanked", "package_frozen"]],
  ["install.write", ["all yanked", "barred"], ["release_yanked"]],
  ["install.write", ["canary only", "channels off", "stable only"], ["channels_off", "channel_not_entitled"]],
  ["install.write", ["barred", "frozen"], ["release_barred", "package_frozen"]],
  ["install.write", ["entitlement denied", "out of range", "barred"], ["entitlement_denied", "release_barred"]],
  ["install.write", ["role too low", "not entitled"], ["role_too_low", "entitlement_missing"]],

  ["upgrade.start", ["not installed"], ["not_installed"]],
  ["upgrade.start", ["not installed", "canary only"], ["not_installed"]],
  [
    "upgrade.start",
    ["not installed", "barred", "not entitled"],
    ["entitlement_missing", "release_barred", "not_installed"],
  ],
  ["upgrade.start", ["not installed", "yanked", "older barred"], ["release_yanked", "not_installed"]],
  ["upgrade.start", ["pinned", "frozen"], ["package_frozen", "install_pinned"]],
  ["upgrade.start", ["pinned", "yanked", "barred"], ["release_yanked", "install_pinned"]],
  ["upgrade.start", ["pinned", "canary only", "channels off"], ["channels_off", "install_pinned"]],
];

/** Each takes a tenant and several releases of its own, most of a second: all of them in `npm run test:deep`. */
const taken = sampled(combinations, 18);

describe("what is named, applied in its order, is an allow:", () => {
  test.each(taken)("%s with %j needs %j", async (action, having, rules) => {
    const one = await world(action, having);
    let { key } = one;
    const before = must(200, await one.explain(key)).json;
    expect(before.fixes.map((fix: Fix) => fix.rule)).toEqual(rules);
    const denied = await one.attempt(key);
    expect([denied.status, denied.json.rule]).toEqual([403, before.rule]);
    for (const fix of before.fixes as Fix[]) {
      expect((await one.attempt(key)).status).toBe(403);
      key = (await one.apply(fix)) ?? key;
    }
    expect(must(200, await one.explain(key)).json).toMatchObject({ allow: true, fixes: [] });
    expect((await one.attempt(key)).status).toBe(201);
  });

  test("has every hindrance in it", () => {
    const met = new Set(combinations.flatMap(([, having]) => having));
    expect([...met].toSorted()).toEqual([...hindrances].toSorted());
  });
});

describe("where both channels point somewhere", () => {
  const both = async () => {
    const tenant = await stack.seedTenant(`combined-${(count += 1)}`);
    const name = `combined/package-${count}`;
    for (const [version, channel] of [
      ["1.0.0", "stable"],
      ["1.1.0", "canary"],
    ] as const) {
      await publishRelease(api, publisher, signer, manifestOf(name, { version, channel }));
    }
    const entitlements = [{ package: name, channel: "canary", allowed: true }];
    must(200, await call(tenant.keys.admin, "PUT", "/api/market/entitlements", { entitlements }));
    const asked = { action: "execution.start", package: name };
    const fixes = async (): Promise<Fix[]> =>
      must(200, await call(tenant.keys.operator, "POST", "/api/market/explain", asked)).json.fixes;
    return { tenant, name, fixes };
  };

  test("a run is told to install from stable, and from canary where that needs less", async () => {
    const { tenant, name, fixes } = await both();
    expect(await fixes()).toMatchObject([{ body: { package: name, name: "default" } }]);
    const bar = { package: name, version: "1.0.0", barred: true, reason: "a test" };
    must(200, await call(tenant.keys.operator, "PUT", "/api/market/bars", bar));
    const [only, ...more] = await fixes();
    expect([only!.body, more]).toEqual([{ package: name, name: "default", channel: "canary" }, []]);
    const { method, path, body } = only!;
    must(201, await call(tenant.keys.operator, method!, path!, body));
    must(201, await call(tenant.keys.operator, "POST", "/api/executions", { package: name }));
  });
});

describe("where no call helps, the words say so:", () => {
  const explained = async (key: string, asked: unknown): Promise<Fix[]> =>
    must(200, await call(key, "POST", "/api/market/explain", asked)).json.fixes;

  test("a run of a package that no channel points to", async () => {
    const tenant = await stack.seedTenant(`combined-${(count += 1)}`);
    const name = `combined/package-${count}`;
    const entitlements = [{ package: name, channel: "stable", allowed: true }];
    must(200, await call(tenant.keys.admin, "PUT", "/api/market/entitlements", { entitlements }));
    const asked = { action: "execution.start", package: name };
    const fixes = await explained(tenant.keys.operator, asked);
    expect(fixes).toMatchObject([{ rule: "not_installed", method: null, path: null, body: null }]);
    expect(fixes[0]!.words).toContain(`No channel of ${name} points to a release`);
    await publishRelease(api, publisher, signer, manifestOf(name));
    const [then] = await explained(tenant.keys.operator, asked);
    must(201, await call(tenant.keys.operator, then!.method!, then!.path!, then!.body));
    must(201, await call(tenant.keys.operator, "POST", "/api/executions", { package: name }));
  });

  test("a rollback of what is not installed, of what never moved, and of what went back already", async () => {
    const tenant = await stack.seedTenant(`combined-${(count += 1)}`);
    const name = `combined/package-${count}`;
    const { operator, admin } = tenant.keys;
    const rollback = (given: Record<string, unknown> = {}) =>
      call(operator, "POST", "/api/market/rollbacks", { package: name, ...given });
    const asked = { action: "rollback.start", package: name };
    await publishRelease(api, publisher, signer, manifestOf(name));
    const entitlements = [{ package: name, channel: "stable", allowed: true }];
    must(200, await call(admin, "PUT", "/api/market/entitlements", { entitlements }));
    expect(await explained(operator, asked)).toMatchObject([{ rule: "not_installed", path: null }]);
    expect((await rollback()).json.rule).toBe("not_installed");

    must(201, await call(operator, "POST", "/api/market/installs", { package: name }));
    expect(await explained(operator, asked)).toMatchObject([{ rule: "nothing_to_roll_back", path: null }]);
    expect((await rollback()).json.code).toBe("nothing_to_roll_back");

    await publishRelease(api, publisher, signer, manifestOf(name, { version: "1.1.0" }));
    must(201, await call(operator, "POST", "/api/market/upgrades", { package: name }));
    expect(await explained(operator, asked)).toEqual([]);
    expect(await explained(operator, { ...asked, version: "7.0.0" })).toMatchObject([
      { rule: "nothing_to_roll_back", words: expect.stringContaining("7.0.0 is none"), path: null },
    ]);
    expect((await rollback({ to_version: "7.0.0" })).json.code).toBe("nothing_to_roll_back");

    // Its one older release is barred: lifting that is a call, and it helps.
    const bar = { package: name, version: "1.0.0", barred: true, reason: "a test" };
    must(200, await call(operator, "PUT", "/api/market/bars", bar));
    expect((await rollback()).json.code).toBe("nothing_to_roll_back");
    const [lift] = await explained(operator, asked);
    expect(lift).toMatchObject({ rule: "nothing_to_roll_back", path: "/api/market/bars" });
    must(200, await call(operator, lift!.method!, lift!.path!, lift!.body));
    must(201, await rollback());

    expect(await explained(operator, asked)).toMatchObject([{ rule: "nothing_to_roll_back", path: null }]);
    expect((await rollback()).json.code).toBe("nothing_to_roll_back");
  });
});

test.each([1, 19, 20])("a tenant with %i run windows keeps them all", async (windows) => {
  const tenant = await stack.seedTenant(`combined-${(count += 1)}`);
  const name = `combined/package-${count}`;
  await publishRelease(api, publisher, signer, manifestOf(name));
  const day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][(new Date().getUTCDay() + 1) % 7]!;
  const clock = (at: number, minutes: string): string => `${String(at).padStart(2, "0")}:${minutes}`;
  const before = Array.from({ length: windows }, (_, at) => ({
    days: [day],
    from: clock(at, "00"),
    to: clock(at, "30"),
  }));
  const entitle = async (row: Record<string, unknown>) => {
    const entitlements = [{ package: name, channel: "stable", allowed: true, ...row }];
    must(200, await call(tenant.keys.admin, "PUT", "/api/market/entitlements", { entitlements }));
  };
  await entitle({});
  must(201, await call(tenant.keys.operator, "POST", "/api/market/installs", { package: name }));
  await entitle({ run_windows: before });
  const asked = { action: "execution.start", package: name };
  const { fixes } = must(200, await call(tenant.keys.operator, "POST", "/api/market/explain", asked)).json;
  const after = fixes[0].body.entitlements[0].run_windows as typeof before;
  const open = (list: typeof before, on: string, time: string): boolean =>
    list.some(({ days, from, to }) => days.includes(on) && from <= time && time < to);
  for (const { from } of before) {
    for (const time of [from, from.replace(":00", ":29")]) expect([time, open(after, day, time)]).toEqual([time, true]);
  }
  expect(after).toHaveLength(Math.min(windows + 1, 20));
  must(200, await call(tenant.keys.admin, fixes[0].method, fixes[0].path, fixes[0].body));
  must(201, await call(tenant.keys.operator, "POST", "/api/executions", { package: name }));
});
