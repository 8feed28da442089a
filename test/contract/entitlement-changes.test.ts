// Changes of entitlements over HTTP: proposed, approved by another, applied, reverted; their history; and what constraints do
// to runs and installs.

import { beforeAll, describe, expect, test } from "vitest";
import { Market } from "../support/installs.ts";
import { contractOf } from "../support/openapi.ts";
import { jsonCall, must, registeredSigner } from "../support/publisher.ts";
import { anotherPerson } from "../support/people.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let market: Market;
/** A second admin. */
let other: string;
let count = 0;
const newName = (): string => `changes/package-${(count += 1)}`;
const path = "/api/market/entitlement-changes";

beforeAll(async () => {
  const api = await contractOf(stack.apiUrl);
  const publisher = await stack.seedTenant("changes-publisher");
  const tenant = await stack.seedTenant("changes");
  market = new Market(api, publisher, await registeredSigner(api, publisher), tenant);
  other = await anotherPerson(stack, tenant, "admin");
});

const full = (row: Record<string, unknown>) => ({
  version_range: null,
  run_windows: null,
  runs_per_day_max: null,
  ...row,
});
const act = (key: string, id: string, verb: string) => market.api.fetch(`${path}/${id}/${verb}`, jsonCall(key, "POST"));
const propose = async (entitlements: unknown[], key = market.tenant.keys.operator) =>
  must(201, await market.api.fetch(path, jsonCall(key, "POST", { entitlements, reason: "wanted" }))).json;
const rowsOf = async (names: readonly string[]) => {
  const { json } = await market.api.fetch("/api/market/entitlements", jsonCall(market.tenant.keys.viewer, "GET"));
  return json.entitlements.filter((row: { package: string }) => names.includes(row.package));
};
const put = async (row: Record<string, unknown>) => {
  const entitlements = [{ channel: "stable", allowed: true, ...row }];
  must(200, await market.put("/api/market/entitlements", { entitlements, reason: "a test" }, market.tenant.keys.admin));
};

describe("a reviewed change", () => {
  test("is proposed, approved by another, applied, and reverted with one call: every row is as it was", async () => {
    const [kept, made] = [newName(), newName()];
    await put({ package: kept, version_range: "^1.0.0" });
    const before = await rowsOf([kept, made]);
    const change = await propose([
      { package: kept, channel: "canary", allowed: true, runs_per_day_max: 5 },
      { package: made, channel: "stable", allowed: true },
    ]);
    expect((await act(other, change.id, "apply")).json).toMatchObject({ code: "change_state", state_now: "proposed" });
    const approved = must(200, await act(other, change.id, "approve")).json;
    expect(approved).toMatchObject({ state: "approved", proposed_by: market.tenant.principals.operator });
    expect(await rowsOf([kept, made])).toEqual(before);

    const applied = must(200, await act(market.tenant.keys.admin, change.id, "apply")).json;
    expect(await rowsOf([kept, made])).toEqual([
      full({ package: kept, channel: "canary", allowed: true, runs_per_day_max: 5 }),
      full({ package: made, channel: "stable", allowed: true }),
    ]);
    expect(applied.before).toEqual([
      {
        package: kept,
        entitlement: full({ package: kept, channel: "stable", allowed: true, version_range: "^1.0.0" }),
      },
      { package: made, entitlement: null },
    ]);
    const reverted = must(200, await act(market.tenant.keys.admin, change.id, "revert")).json;
    expect(reverted).toMatchObject({ state: "reverted", reverted_version: applied.applied_version + 1 });
    expect(await rowsOf([kept, made])).toEqual(before);
    expect((await act(other, change.id, "revert")).json.code).toBe("change_state");

    const history = await market.api.fetch(
      `/api/market/entitlements/history?package=${made}`,
      jsonCall(market.tenant.keys.viewer, "GET"),
    );
    expect(history.json.entries).toMatchObject([
      { removed: true, change_id: change.id, principal_id: market.tenant.principals.admin },
      { removed: false, change_id: change.id, reason: "wanted", version: applied.applied_version },
    ]);
    await expect
      .poll(
        async () =>
          (await market.events(`type = "mc.entitlement.reviewed" AND attrs.change_id = "${change.id}"`)).map(
            (row) => row["outcome"],
          ),
        { timeout: 20_000 },
      )
      .toEqual(["reverted", "applied", "approved", "proposed"]);
    expect(await market.events(`type = "mc.entitlement.removed" AND package = "${made}"`)).toHaveLength(1);
  });

  test("is not approved by who proposed it, but may be withdrawn", async () => {
    const change = await propose([{ package: newName(), channel: "stable", allowed: true }], market.tenant.keys.admin);
    const own = await act(market.tenant.keys.admin, change.id, "approve");
    expect([own.status, own.json.rule]).toEqual([403, "own_change"]);
    expect(must(200, await act(market.tenant.keys.admin, change.id, "reject")).json.state).toBe("rejected");
    expect((await act(other, change.id, "approve")).json.state_now).toBe("rejected");
  });

  test("is not approved with a key that its proposer made, nor the other way round, nor through a chain of keys", async () => {
    const keyBy = async (key: string, role = "admin"): Promise<string> =>
      String(must(201, await market.api.fetch("/api/keys", jsonCall(key, "POST", { role }))).json.key);
    const { admin } = market.tenant.keys;
    const child = await keyBy(admin);
    const [sibling, grandchild] = [await keyBy(admin), await keyBy(child)];
    const row = () => [{ package: newName(), channel: "stable", allowed: true }];
    for (const [proposer, approver] of [
      [admin, child],
      [admin, grandchild],
      [child, admin],
      [child, sibling],
      [grandchild, sibling],
    ] as const) {
      const change = await propose(row(), proposer);
      const own = await act(approver, change.id, "approve");
      expect([own.status, own.json.rule, own.json.fix.path]).toEqual([403, "own_change", null]);
      const asked = { action: "entitlement.approve", change_id: change.id };
      const explained = await market.api.fetch("/api/market/explain", jsonCall(approver, "POST", asked));
      expect(explained.json).toMatchObject({ allow: false, rule: "own_change" });
      // A key that another person made is that person.
      must(200, await act(await keyBy(other), change.id, "approve"));
    }
  });

  test("is not reverted over a later change", async () => {
    const name = newName();
    const change = await propose([{ package: name, channel: "stable", allowed: true }]);
    must(200, await act(other, change.id, "approve"));
    must(200, await act(other, change.id, "apply"));
    await put({ package: name, allowed: false });
    const refused = await act(other, change.id, "revert");
    expect([refused.status, refused.json.code, refused.json.packages]).toEqual([409, "change_superseded", [name]]);
    expect(await rowsOf([name])).toEqual([full({ package: name, channel: "stable", allowed: false })]);
  });

  test("is applied once, whoever asks at once", async () => {
    const change = await propose([{ package: newName(), channel: "stable", allowed: true }]);
    must(200, await act(other, change.id, "approve"));
    const answers = await Promise.all([1, 2, 3, 4].map(() => act(other, change.id, "apply")));
    expect(answers.map(({ status }) => status).toSorted((left, right) => left - right)).toEqual([200, 409, 409, 409]);
  });

  test("of another tenant is not there", async () => {
    const change = await propose([{ package: newName(), channel: "stable", allowed: true }]);
    const stranger = await stack.seedTenant("changes-stranger");
    for (const verb of ["approve", "reject", "apply", "revert"]) {
      expect((await act(stranger.keys.admin, change.id, verb)).status).toBe(404);
    }
    const read = await market.api.fetch(`${path}/${change.id}`, jsonCall(stranger.keys.viewer, "GET"));
    expect(read.status).toBe(404);
  });
});

describe("constraints", () => {
  async function installed(): Promise<string> {
    const name = newName();
    await market.publish(name, "1.0.0");
    await put({ package: name });
    await market.install(name, 1);
    return name;
  }
  const start = (name: string) => market.post("/api/executions", { package: name, install: "host-0" });

  test("a range holds at install and at run", async () => {
    const name = await installed();
    await put({ package: name, version_range: ">=2.0.0" });
    expect((await start(name)).json.rule).toBe("version_not_entitled");
    const install = await market.post("/api/market/installs", { package: name, name: "host-1" });
    expect([install.status, install.json.rule]).toEqual([403, "version_not_entitled"]);
    await put({ package: name, version_range: "1.x || >=2.0.0" });
    expect((await start(name)).status).toBe(201);
  });

  test("a window holds at run, and an install asks for none", async () => {
    const name = await installed();
    const today = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"][new Date().getUTCDay()]!;
    const tomorrow = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"][(new Date().getUTCDay() + 2) % 7]!;
    await put({ package: name, run_windows: [{ days: [tomorrow], from: "00:00", to: "24:00" }] });
    expect((await start(name)).json.rule).toBe("outside_run_window");
    must(201, await market.post("/api/market/installs", { package: name, name: "host-1" }));
    await put({ package: name, run_windows: [{ days: [today, tomorrow], from: "00:00", to: "24:00" }] });
    expect((await start(name)).status).toBe(201);
  });

  test("a day's cap is exact: of twenty runs at once as many start as it says", async () => {
    const name = await installed();
    await put({ package: name, runs_per_day_max: 7 });
    const answers = await Promise.all(Array.from({ length: 20 }, () => start(name)));
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(7);
    for (const { status, json } of answers.filter((answer) => answer.status !== 201)) {
      expect([status, json.rule ?? json.code]).toBeOneOf([
        [403, "run_cap_reached"],
        [503, "database_unavailable"],
      ]);
    }
    expect((await start(name)).json.rule).toBe("run_cap_reached");
  });

  test.each([
    ["a range that is none", { version_range: "not a range" }],
    ["a window that ends before it begins", { run_windows: [{ days: ["mon"], from: "10:00", to: "09:00" }] }],
    ["a window with a day twice", { run_windows: [{ days: ["mon", "mon"], from: "08:00", to: "09:00" }] }],
    ["a window past midnight", { run_windows: [{ days: ["mon"], from: "22:00", to: "25:00" }] }],
    ["a cap below zero", { runs_per_day_max: -1 }],
  ])("%s is refused, and says where", async (_, given) => {
    const entitlements = [{ package: newName(), channel: "stable", allowed: true, ...given }];
    const answer = await market.put("/api/market/entitlements", { entitlements }, market.tenant.keys.admin);
    expect([answer.status, answer.json.code]).toEqual([400, "invalid_request"]);
    expect(answer.json.errors[0].path).toContain(`#/entitlements/0/${Object.keys(given)[0]}`);
  });
});
