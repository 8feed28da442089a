// The off-path of both flags, end to end: what still works, for whom, and what the log is told.

import { beforeAll, expect, test } from "vitest";
import type { PackageManifest } from "../../shared/contract/http-market.ts";
import { Market } from "../support/installs.ts";
import { contractOf } from "../support/openapi.ts";
import {
  jsonCall,
  manifestOf,
  must,
  packageOf,
  registeredSigner,
  signRelease,
  uploadOf,
} from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let market: Market;
let count = 0;
const newName = (): string => `flags/package-${(count += 1)}`;

beforeAll(async () => {
  const api = await contractOf(stack.apiUrl);
  const publisher = await stack.seedTenant("flags-publisher");
  const tenant = await stack.seedTenant("flags");
  market = new Market(api, publisher, await registeredSigner(api, publisher), tenant);
});

const flag = async (name: string, enabled: boolean) =>
  must(200, await market.put("/api/flags", { flag: name, enabled }, market.tenant.keys.admin)).json;

const as = (key: string, path: string, body: unknown) => market.api.fetch(path, jsonCall(key, "POST", body));

test("every flag says what off means, admins alone switch them, and every switch is in the log", async () => {
  const { keys } = market.tenant;
  const listed = must(200, await market.api.fetch("/api/flags", jsonCall(keys.viewer, "GET"))).json;
  expect(listed.flags.map((one: { flag: string }) => one.flag)).toEqual([
    "market_entitlements",
    "market_channels",
    "audit_rt_export",
    "pql_v1_2",
    "edge_multicdn",
    "spiffe_everywhere",
  ]);
  for (const one of listed.flags) expect([one.enabled, one.off_means.length > 20]).toEqual([true, true]);
  const denied = await market.put("/api/flags", { flag: "market_channels", enabled: false });
  expect([denied.status, denied.json.code]).toEqual([403, "role_too_low"]);
  await flag("market_channels", false);
  await flag("market_channels", true);
  await expect
    .poll(async () => (await market.events('type = "mc.flag.changed"')).map((row) => row["outcome"]), {
      timeout: 20_000,
    })
    .toEqual(["on", "off"]);
});

test("market_entitlements off: admins install and run what nobody entitled, each time told; others are denied; on again, no row means no", async () => {
  const name = newName();
  const { keys } = market.tenant;
  await market.publish(name, "1.0.0");
  await flag("market_entitlements", false);
  for (const path of ["/api/market/installs", "/api/executions"]) {
    const denied = await as(keys.operator, path, { package: name });
    expect([denied.status, denied.json.rule]).toEqual([403, "entitlements_off"]);
  }
  must(201, await as(keys.admin, "/api/market/installs", { package: name }));
  must(201, await as(keys.admin, "/api/executions", { package: name }));
  must(201, await as(keys.admin, "/api/market/upgrades", { package: name }));
  await flag("market_entitlements", true);
  for (const key of [keys.admin, keys.operator]) {
    const denied = await as(key, "/api/executions", { package: name });
    expect([denied.status, denied.json.rule]).toEqual([403, "entitlement_missing"]);
  }
  await expect
    .poll(
      async () =>
        (await market.events(`type = "mc.policy.decision" AND package = "${name}" AND outcome = "allow"`))
          .map((row) => `${String(row["action"])} ${String(row["rule"])}`)
          .toSorted(),
      { timeout: 20_000 },
    )
    .toEqual(["execution.start entitlements_off", "install.write entitlements_off", "upgrade.start entitlements_off"]);
});

test("market_channels off: stable only; what is on canary runs on, and a rollback works", async () => {
  const name = newName();
  await market.publish(name, "1.0.0");
  await market.entitle(name);
  await market.install(name, 1);
  await market.publish(name, "1.1.0", "canary");
  must(201, await market.upgrade(name, { channel: "canary" }));
  await flag("market_channels", false);
  const install = { package: name, channel: "canary", name: "another" };
  expect((await market.post("/api/market/installs", install)).json.rule).toBe("channels_off");
  expect((await market.upgrade(name, { channel: "canary" })).json.rule).toBe("channels_off");
  must(201, await market.post("/api/market/installs", { ...install, channel: "stable" }));
  await market.run(name, "host-0");
  must(201, await market.rollback(name));
  expect(await market.versions(name)).toEqual({ another: "1.0.0", "host-0": "1.0.0" });
  await flag("market_channels", true);
  must(
    201,
    await market
      .post("/api/market/installs", { ...install, name: "third" })
      .then((denied) => (denied.status === 403 ? liftAndTry(name) : denied)),
  );
});

/** The rollback has barred what it left. */
async function liftAndTry(name: string) {
  const bar = { package: name, version: "1.1.0", barred: false, reason: "a test" };
  must(200, await market.put("/api/market/bars", bar));
  return market.post("/api/market/installs", { package: name, channel: "canary", name: "third" });
}

test("once a switch has answered, no check sees the flag as it was", async () => {
  const name = newName();
  const { keys } = market.tenant;
  await market.publish(name, "1.0.0");
  await market.entitle(name, "stable");
  await market.install(name, 1);
  for (let round = 0; round < 10; round += 1) {
    await flag("market_entitlements", false);
    const off = await Promise.all(
      [1, 2, 3].map(() => as(keys.operator, "/api/executions", { package: name, install: "host-0" })),
    );
    expect(off.map(({ json }) => json.rule)).toEqual(Array(3).fill("entitlements_off"));
    await flag("market_entitlements", true);
    expect((await as(keys.operator, "/api/executions", { package: name, install: "host-0" })).status).toBe(201);
  }
});

test("denies and upgrades are counted, by action and reason and by channel and outcome, for this tenant alone", async () => {
  const read = async (key: string) => {
    const answer = await market.api.fetch("/api/metrics", jsonCall(key, "GET"));
    expect([answer.status, answer.headers.get("content-type")]).toEqual([
      200,
      "text/plain; version=0.0.4; charset=utf-8",
    ]);
    return new TextDecoder().decode(answer.bytes);
  };
  const sample = (text: string, series: string): number =>
    Number(
      text
        .split("\n")
        .find((line) => line.startsWith(`${series} `))
        ?.slice(series.length + 1) ?? 0,
    );
  const denies = 'mc_entitlement_denies_total{action="execution.start",reason="entitlement_missing"}';
  const completed = 'mc_channel_upgrades_total{channel="stable",outcome="completed"}';
  const name = newName();
  const before = await read(market.tenant.keys.viewer);
  for (let round = 0; round < 3; round += 1) await market.post("/api/executions", { package: name });
  await market.publish(name, "1.0.0");
  await market.entitle(name, "stable");
  await market.install(name, 1);
  must(201, await market.upgrade(name));
  const after = await read(market.tenant.keys.viewer);
  expect([
    sample(after, denies) - sample(before, denies),
    sample(after, completed) - sample(before, completed),
  ]).toEqual([3, 1]);
  for (const metric of ["mc_entitlement_denies_total", "mc_channel_upgrades_total"]) {
    expect(after).toContain(`# TYPE ${metric} counter\n`);
    expect(after).toMatch(new RegExp(`# HELP ${metric} \\S`));
  }
  // Who reviews a release and who publishes a name is no matter of entitlements: denied, and counted nowhere.
  const { keys } = market.tenant;
  const own = manifestOf(newName());
  const artifact = await packageOf(own);
  const upload = async (manifest: PackageManifest, bytes: Awaited<ReturnType<typeof packageOf>>) =>
    market.api.fetch("/api/market/releases", uploadOf(keys.admin, await signRelease(signer, manifest, bytes), bytes));
  const signer = await registeredSigner(market.api, market.tenant);
  const { json: uploaded } = must(201, await upload(own, artifact));
  const reviewed = await as(keys.admin, `/api/market/reviews/${uploaded.id}/approve`, {});
  const taken = manifestOf(name, { version: "9.0.0" });
  const refused = await upload(taken, await packageOf(taken));
  expect([reviewed.json.rule, refused.json.rule]).toEqual(["own_release", "package_of_another_publisher"]);
  expect(await read(keys.viewer)).toBe(after);
  const stranger = await stack.seedTenant("flags-stranger");
  expect(await read(stranger.keys.viewer)).not.toContain("{");
});
