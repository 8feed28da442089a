// Rollbacks over HTTP: to the last good release or a named one, pinned and barred; with the new release's artifact gone,
// without a signer, with a clock that is wrong.

import { beforeAll, describe, expect, test } from "vitest";
import { Market, marketApi, torn } from "../support/installs.ts";
import { contractOf } from "../support/openapi.ts";
import { jsonCall, must, registeredSigner } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let market: Market;
let count = 0;
const newName = (): string => `rollbacks/package-${(count += 1)}`;

beforeAll(async () => {
  const api = await contractOf(stack.apiUrl);
  const publisher = await stack.seedTenant("rollbacks-publisher");
  const tenant = await stack.seedTenant("rollbacks");
  market = new Market(api, publisher, await registeredSigner(api, publisher), tenant);
});

/** Hosts that went through these versions of stable, one upgrade each. */
async function through(versions: readonly string[], hosts = 2): Promise<{ name: string; digests: string[] }> {
  const name = newName();
  const digests: string[] = [];
  await market.entitle(name);
  for (const [at, version] of versions.entries()) {
    digests.push((await market.publish(name, version)).artifact_sha256);
    if (at === 0) await market.install(name, hosts);
    else must(201, await market.upgrade(name));
  }
  return { name, digests };
}

const apiWith = (given: Record<string, unknown>) => marketApi(stack, market.tenant.tenant_id, given);

/** The bucket as it is; but the first time that it is asked, `work` is done first. */
function bucketThatWaitsFor(work: () => Promise<unknown>) {
  let waited: Promise<unknown> | null = null;
  return {
    async head(key: string) {
      await (waited ??= work());
      return await stack.readObject("artifacts", key);
    },
  };
}

describe("a rollback", () => {
  test("goes to the last good version, pins, bars what was left, and is in the log", async () => {
    const { name, digests } = await through(["1.0.0", "1.1.0"]);
    const result = must(201, await market.rollback(name, { reason: "it is slow" })).json;
    expect(result).toMatchObject({
      moves: [
        { name: "host-0", from_version: "1.1.0", to_version: "1.0.0", cause: "rollback" },
        { name: "host-1", from_version: "1.1.0", to_version: "1.0.0", cause: "rollback" },
      ],
      unmoved: [],
      barred: [{ version: "1.1.0", artifact_sha256: digests[1] }],
    });
    const status = await market.status(name);
    expect(status.installs.map(({ version, pinned }) => [version, pinned])).toEqual([
      ["1.0.0", true],
      ["1.0.0", true],
    ]);
    expect(status.bars).toMatchObject([{ version: "1.1.0", rule: "rollback", reason: "it is slow" }]);
    expect(status.good).toMatchObject([{ channel: "stable", version: "1.0.0" }]);
    await expect
      .poll(
        async () => (await market.events(`package = "${name}" AND outcome = "rolled_back"`)).map((row) => row["type"]),
        {
          timeout: 20_000,
        },
      )
      .toEqual(["mc.install.changed", "mc.install.changed", "mc.package.rolled_back"]);
    const path = `/api/market/installs/history?package=${name}&name=host-0`;
    const history = must(200, await market.api.fetch(path, jsonCall(market.tenant.keys.viewer, "GET")));
    expect(
      history.json.entries.map((entry: { cause: string; version: string }) => [entry.cause, entry.version]),
    ).toEqual([
      ["rollback", "1.0.0"],
      ["upgrade", "1.1.0"],
      ["install", "1.0.0"],
    ]);
  });

  test("goes to a named version that an install had, and to no other", async () => {
    const { name } = await through(["1.0.0", "1.1.0", "1.2.0"]);
    await market.publish(name, "0.9.0");
    const never = await market.rollback(name, { to_version: "0.9.0" });
    expect([never.status, never.json.code]).toEqual([409, "nothing_to_roll_back"]);
    expect(never.json.unmoved[0].why).toContain("never had 0.9.0");
    must(201, await market.rollback(name, { to_version: "1.0.0" }));
    expect(await market.versions(name)).toEqual({ "host-0": "1.0.0", "host-1": "1.0.0" });
    const again = await market.rollback(name);
    expect([again.status, again.json.code]).toEqual([409, "nothing_to_roll_back"]);
  });

  test("moves one install only where one is named", async () => {
    const { name } = await through(["1.0.0", "1.1.0"]);
    must(201, await market.rollback(name, { install: "host-1" }));
    expect(await market.versions(name)).toEqual({ "host-0": "1.1.0", "host-1": "1.0.0" });
    expect((await market.rollback(name, { install: "host-9" })).status).toBe(404);
  });

  test("ends the rollout that runs", async () => {
    const { name } = await through(["1.0.0", "1.1.0"], 6);
    await market.publish(name, "2.0.0", "canary");
    must(201, await market.upgrade(name, { channel: "canary", cohort_percent: 99 }));
    const result = must(201, await market.rollback(name)).json;
    expect((await market.status(name)).rollout).toMatchObject({
      id: result.rollout_aborted,
      state: "aborted",
      rule: "rollback",
    });
  });

  test("asks for nothing of the release that it leaves: it works when that artifact is gone", async () => {
    const { name, digests } = await through(["1.0.0", "1.1.0"]);
    await stack.deleteObject("artifacts", `artifact/${digests[1]}.tar.gz`);
    must(201, await market.rollback(name));
    expect(await market.versions(name)).toEqual({ "host-0": "1.0.0", "host-1": "1.0.0" });
  });

  test("goes past a release whose artifact is gone, to one that is still there", async () => {
    const { name, digests } = await through(["1.0.0", "1.1.0", "1.2.0"]);
    await stack.deleteObject("artifacts", `artifact/${digests[1]}.tar.gz`);
    const named = await market.rollback(name, { to_version: "1.1.0" });
    expect([named.status, named.json.unmoved[0].why]).toEqual([409, expect.stringContaining("artifacts are gone")]);
    must(201, await market.rollback(name));
    expect(await market.versions(name)).toEqual({ "host-0": "1.0.0", "host-1": "1.0.0" });
  });

  test.each([
    ["while the signer is down", () => Date.now()],
    ["with a clock ten minutes behind", () => Date.now() - 600_000],
    ["with a clock ten minutes ahead", () => Date.now() + 600_000],
  ])("works %s", async (_, clock) => {
    const { name } = await through(["1.0.0", "1.1.0"]);
    const api = await apiWith({ clock });
    const answer = await api.fetch(
      "/api/market/rollbacks",
      jsonCall(market.tenant.keys.operator, "POST", { package: name }),
    );
    expect(answer.status).toBe(201);
    expect(await market.versions(name)).toEqual({ "host-0": "1.0.0", "host-1": "1.0.0" });
  });

  test("is not done on a signature that does not verify with the pinned keys", async () => {
    const { name } = await through(["1.0.0", "1.1.0"]);
    const api = await apiWith({ releaseKeys: () => Promise.resolve(new Map()) });
    const answer = await api.fetch(
      "/api/market/rollbacks",
      jsonCall(market.tenant.keys.operator, "POST", { package: name }),
    );
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([409, "nothing_to_roll_back"]);
    expect(await market.versions(name)).toEqual({ "host-0": "1.1.0", "host-1": "1.1.0" });
  });

  test("outlives a bucket that fails twice, and says so when it fails longer", async () => {
    const { name } = await through(["1.0.0", "1.1.0"]);
    let failures = 0;
    const flaky = (times: number) => ({
      head: (key: string) =>
        (failures += 1) <= times ? Promise.reject(new Error("bucket")) : stack.readObject("artifacts", key),
    });
    const call = () => jsonCall(market.tenant.keys.operator, "POST", { package: name });
    const down = await (await apiWith({ artifacts: flaky(100) })).fetch("/api/market/rollbacks", call());
    expect([down.status, down.headers.get("retry-after")]).toEqual([503, "1"]);
    failures = 0;
    expect((await (await apiWith({ artifacts: flaky(2) })).fetch("/api/market/rollbacks", call())).status).toBe(201);
  });
});

describe("a rollback and an upgrade at once", () => {
  test("a rollback between an upgrade's decision and its write holds: the upgrade is decided anew, and denied", async () => {
    const { name } = await through(["1.0.0", "1.1.0"]);
    await market.publish(name, "1.2.0");
    const rolledBack: number[] = [];
    const artifacts = bucketThatWaitsFor(async () => rolledBack.push((await market.rollback(name)).status));
    const call = jsonCall(market.tenant.keys.operator, "POST", { package: name });
    const answer = await (await apiWith({ artifacts })).fetch("/api/market/upgrades", call);
    const { rule } = (await answer.json()) as { rule: string };
    expect([rolledBack, answer.status, rule]).toEqual([[201], 403, "install_pinned"]);
    expect(await market.versions(name)).toEqual({ "host-0": "1.0.0", "host-1": "1.0.0" });
    expect(await torn(stack, name)).toEqual([]);
  });

  test("an upgrade between a rollback's decision and its write is what is rolled back", async () => {
    const { name } = await through(["1.0.0", "1.1.0"]);
    await market.publish(name, "1.2.0");
    const upgraded: number[] = [];
    const artifacts = bucketThatWaitsFor(async () => upgraded.push((await market.upgrade(name)).status));
    const call = jsonCall(market.tenant.keys.operator, "POST", { package: name });
    const answer = await (await apiWith({ artifacts })).fetch("/api/market/rollbacks", call);
    expect([upgraded, answer.status]).toEqual([[201], 201]);
    expect(await answer.json()).toMatchObject({
      moves: [
        { name: "host-0", from_version: "1.2.0", to_version: "1.1.0" },
        { name: "host-1", from_version: "1.2.0", to_version: "1.1.0" },
      ],
      barred: [{ version: "1.2.0" }],
    });
    const { installs } = await market.status(name);
    expect(installs.map(({ version, pinned }) => [version, pinned])).toEqual([
      ["1.1.0", true],
      ["1.1.0", true],
    ]);
    expect(await torn(stack, name)).toEqual([]);
  });
});
