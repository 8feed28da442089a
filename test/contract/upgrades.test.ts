// Upgrades over HTTP: channels, cohorts, what is outside of them, and what holds installs where they are.

import { sql } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import type { Install } from "../../shared/contract/http-installs.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { Market, torn } from "../support/installs.ts";
import { contractOf } from "../support/openapi.ts";
import { freshKey, jsonCall, must, registeredSigner } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let market: Market;
let count = 0;
const newName = (): string => `upgrades/package-${(count += 1)}`;

beforeAll(async () => {
  const api = await contractOf(stack.apiUrl);
  const publisher = await stack.seedTenant("upgrades-publisher");
  const tenant = await stack.seedTenant("upgrades");
  market = new Market(api, publisher, await registeredSigner(api, publisher), tenant);
});

/** Hosts on 1.0.0 from stable, and 1.1.0 on canary. */
async function hosts(number: number): Promise<{ name: string; installs: Install[] }> {
  const name = newName();
  await market.publish(name, "1.0.0");
  await market.entitle(name);
  const installs = await market.install(name, number);
  await market.publish(name, "1.1.0", "canary");
  return { name, installs };
}

const namesBelow = (installs: readonly Install[], percent: number): string[] =>
  installs.filter(({ bucket }) => bucket < percent * 100).map((install) => install.name);
const namesOn = (versions: Record<string, string>, version: string): string[] =>
  Object.keys(versions).filter((name) => versions[name] === version);

describe("MC-MKT-1902: update channels", () => {
  test("a package's channel is in its manifest, an upgrade to canary follows the signed pointer, and a rollback undoes it", async () => {
    const { name, installs } = await hosts(2);
    const upgraded = must(201, await market.upgrade(name, { channel: "canary" })).json;
    expect(upgraded.rollout).toMatchObject({
      state: "completed",
      version: "1.1.0",
      channel: "canary",
      cohort_percent: 100,
    });
    expect(upgraded.moves.map((move: { to_version: string }) => move.to_version)).toEqual(["1.1.0", "1.1.0"]);
    expect(await market.versions(name)).toEqual({ "host-0": "1.1.0", "host-1": "1.1.0" });
    must(201, await market.rollback(name));
    expect(await market.versions(name)).toEqual({ "host-0": "1.0.0", "host-1": "1.0.0" });
    expect(installs.map(({ channel }) => channel)).toEqual(["stable", "stable"]);
  });

  test("promoting canary to stable is no upload: the pointer moves, and stable's followers upgrade to the same bytes", async () => {
    const { name } = await hosts(1);
    const { publisher, api } = market;
    const move = { package: name, channel: "stable", version: "1.1.0" };
    const moved = must(201, await api.fetch("/api/market/channels", jsonCall(publisher.keys.publisher, "POST", move)));
    const { channels } = await market.status(name);
    expect(channels.map(({ channel, version }) => [channel, version])).toEqual([
      ["stable", "1.1.0"],
      ["canary", "1.1.0"],
    ]);
    expect(new Set(channels.map((pointer) => pointer.artifact_sha256)).size).toBe(1);
    expect(moved.json.sequence).toBe(2);
    must(201, await market.upgrade(name));
    expect(await market.versions(name)).toEqual({ "host-0": "1.1.0" });
    const down = { ...move, version: "1.0.0" };
    const refused = await api.fetch("/api/market/channels", jsonCall(publisher.keys.publisher, "POST", down));
    expect([refused.status, refused.json.code]).toEqual([409, "channel_backwards"]);
    const allowed = jsonCall(publisher.keys.publisher, "POST", { ...down, down: true });
    expect(must(201, await api.fetch("/api/market/channels", allowed)).json).toMatchObject({
      version: "1.0.0",
      sequence: 3,
    });
  });
});

describe("MC-MKT-1902: with the flag market_channels off", () => {
  test("canary is denied, stable is upgraded and rolled back as ever, and canary is back with the flag", async () => {
    const { name } = await hosts(2);
    await market.publish(name, "1.2.0");
    const flag = (enabled: boolean) =>
      market.put("/api/flags", { flag: "market_channels", enabled }, market.tenant.keys.admin);
    must(200, await flag(false));
    try {
      const denied = await market.upgrade(name, { channel: "canary" });
      expect([denied.status, denied.json.rule]).toEqual([403, "channels_off"]);
      must(201, await market.upgrade(name));
      expect(await market.versions(name)).toEqual({ "host-0": "1.2.0", "host-1": "1.2.0" });
      must(201, await market.rollback(name));
      expect(await market.versions(name)).toEqual({ "host-0": "1.0.0", "host-1": "1.0.0" });
    } finally {
      must(200, await flag(true));
    }
    must(200, await market.put("/api/market/pins", { package: name, pinned: false }));
    must(201, await market.upgrade(name, { channel: "canary" }));
    expect(await market.versions(name)).toEqual({ "host-0": "1.1.0", "host-1": "1.1.0" });
  });
});

describe("cohorts", () => {
  test("are the installs whose bucket is below the percentage, and a wider one contains a narrower one", async () => {
    const { name, installs } = await hosts(8);
    let before: string[] = [];
    for (const percent of [20, 55, 90]) {
      const answer = must(
        201,
        await market.upgrade(name, { channel: "canary", cohort_percent: percent, despite_gate: true }),
      );
      const upgraded = namesOn(await market.versions(name), "1.1.0");
      expect(upgraded.toSorted()).toEqual(namesBelow(installs, percent).toSorted());
      expect(upgraded).toEqual(expect.arrayContaining(before));
      expect(answer.json).toMatchObject({ installs: 8, in_cohort: upgraded.length, rollout: { state: "running" } });
      before = upgraded;
    }
    const smallest = Math.min(...installs.map(({ bucket }) => bucket));
    const narrower = must(201, await market.upgrade(name, { channel: "canary", cohort_percent: 10 }));
    expect(narrower.json).toMatchObject({ moves: [], rollout: { cohort_percent: 90 } });
    expect(narrower.json.smallest_cohort_percent).toBe(Math.floor(smallest / 100) + 1);
    must(201, await market.upgrade(name, { channel: "canary", despite_gate: true }));
    const { rollout, good } = await market.status(name);
    expect(rollout).toMatchObject({ state: "completed", rule: "cohort_complete" });
    expect(good.find(({ channel }) => channel === "canary")?.version).toBe("1.1.0");
    expect(await torn(stack, name)).toEqual([]);
  });

  test("those outside get the last good version for them, however old they are", async () => {
    const name = newName();
    await market.publish(name, "1.0.0");
    await market.entitle(name);
    const installs = await market.install(name, 4);
    const pinned = installs.map((install) => install.name).slice(0, 2);
    for (const install of pinned)
      must(200, await market.put("/api/market/pins", { package: name, install, pinned: true }));
    await market.publish(name, "1.1.0");
    must(201, await market.upgrade(name));
    await market.publish(name, "1.2.0");
    must(201, await market.upgrade(name));
    must(200, await market.put("/api/market/pins", { package: name, pinned: false }));
    expect(namesOn(await market.versions(name), "1.0.0").toSorted()).toEqual(pinned.toSorted());
    await market.publish(name, "2.0.0");
    const answer = must(201, await market.upgrade(name, { cohort_percent: 1 }));
    const inside = namesBelow(installs, 1);
    const expected = Object.fromEntries(
      installs.map((install) => [install.name, inside.includes(install.name) ? "2.0.0" : "1.2.0"]),
    );
    expect(await market.versions(name)).toEqual(expected);
    for (const move of answer.json.moves) {
      expect(move.cause).toBe(inside.includes(move.name) ? "upgrade" : "last_good");
    }
  });

  test("a new install meets the rollout that runs: inside the cohort the new release, outside the last good one", async () => {
    const { name } = await hosts(1);
    await market.publish(name, "1.2.0");
    must(201, await market.upgrade(name, { cohort_percent: 50 }));
    for (let host = 0; host < 6; host += 1) {
      const answer = await market.post("/api/market/installs", { package: name, name: `late-${host}` });
      const { bucket, version } = must(201, answer).json;
      expect(version).toBe(bucket < 5_000 ? "1.2.0" : "1.0.0");
    }
  });

  test("an upgrade to another release takes the place of the one that runs, and strands nobody on it", async () => {
    const { name, installs } = await hosts(6);
    must(201, await market.upgrade(name, { channel: "canary", cohort_percent: 90 }));
    await market.publish(name, "1.2.0", "canary");
    must(201, await market.upgrade(name, { channel: "canary", cohort_percent: 30 }));
    const inside = namesBelow(installs, 30);
    const versions = await market.versions(name);
    expect(namesOn(versions, "1.2.0").toSorted()).toEqual(inside.toSorted());
    expect(namesOn(versions, "1.1.0")).toEqual([]);
    const path = `/api/market/rollouts?package=${name}`;
    const { json } = must(200, await market.api.fetch(path, jsonCall(market.tenant.keys.viewer, "GET")));
    expect(json.rollouts.map((one: { state: string }) => one.state)).toEqual(["running", "superseded"]);
  });
});

describe("what holds installs where they are", () => {
  test("a pin: upgrades pass by, an install by name is denied, and both go on after it", async () => {
    const { name } = await hosts(2);
    must(200, await market.put("/api/market/pins", { package: name, install: "host-0", pinned: true }));
    expect(must(201, await market.upgrade(name, { channel: "canary" })).json).toMatchObject({ pinned: 1 });
    expect(await market.versions(name)).toEqual({ "host-0": "1.0.0", "host-1": "1.1.0" });
    const denied = await market.post("/api/market/installs", { package: name, channel: "canary", name: "host-0" });
    expect([denied.status, denied.json.rule]).toEqual([403, "install_pinned"]);
    const twice = must(200, await market.put("/api/market/pins", { package: name, install: "host-0", pinned: true }));
    expect(twice.json.version).toBe((await market.status(name)).version);
  });

  test("a freeze: nothing moves but a rollback", async () => {
    const { name } = await hosts(1);
    must(201, await market.upgrade(name, { channel: "canary" }));
    const frozen = must(
      200,
      await market.put("/api/market/freezes", { package: name, frozen: true, reason: "an audit" }),
    );
    expect(frozen.json).toMatchObject({ frozen: true, frozen_reason: "an audit" });
    await market.publish(name, "1.2.0", "canary");
    expect((await market.upgrade(name, { channel: "canary" })).json.rule).toBe("package_frozen");
    must(201, await market.rollback(name));
    expect(await market.versions(name)).toEqual({ "host-0": "1.0.0" });
  });

  test("a bar: the digest is not installed again until someone lifts it, and lifting is told", async () => {
    const { name } = await hosts(1);
    const bar = { package: name, version: "1.1.0", barred: true, reason: "it leaks" };
    must(200, await market.put("/api/market/bars", bar));
    expect((await market.upgrade(name, { channel: "canary" })).json.rule).toBe("release_barred");
    must(200, await market.put("/api/market/bars", { ...bar, barred: false, reason: "it does not" }));
    must(201, await market.upgrade(name, { channel: "canary" }));
    await expect
      .poll(
        async () =>
          (await market.events(`type = "mc.release.barred" AND package = "${name}"`)).map((row) => row["outcome"]),
        {
          timeout: 20_000,
        },
      )
      .toEqual(["lifted", "barred"]);
  });
});

describe("one key, one effect, one answer", () => {
  test("an upgrade that changes nothing is remembered: its key, sent again after a rollback, moves nothing", async () => {
    const { name } = await hosts(3);
    must(201, await market.upgrade(name, { channel: "canary", cohort_percent: 99 }));
    const key = { "idempotency-key": freshKey() };
    const body = { package: name, channel: "canary", cohort_percent: 50 };
    const first = must(201, await market.post("/api/market/upgrades", body, key));
    expect(first.json.moves).toEqual([]);
    must(201, await market.rollback(name));
    must(200, await market.put("/api/market/pins", { package: name, pinned: false }));
    must(
      200,
      await market.put("/api/market/bars", { package: name, version: "1.1.0", barred: false, reason: "again" }),
    );
    const before = await market.status(name);
    const again = must(201, await market.post("/api/market/upgrades", body, key));
    expect([again.json, again.headers.get("idempotency-replayed")]).toEqual([first.json, "true"]);
    expect(await market.status(name)).toEqual(before);
    const other = await market.post("/api/market/upgrades", { ...body, reason: "another" }, key);
    expect([other.status, other.json.code]).toEqual([409, "idempotency_conflict"]);
  });

  const holds = [
    ["freezes", { frozen: true, reason: "an audit" }, { frozen: false }],
    ["pins", { pinned: true, install: "host-0" }, { pinned: false }],
    ["bars", { version: "1.1.0", barred: true, reason: "it leaks" }, { version: "1.1.0", barred: false, reason: "no" }],
  ] as const;

  test.each(holds)(
    "%s: a key is done once, answers what stood then, and takes no other body",
    async (kind, on, off) => {
      const { name } = await hosts(2);
      const path = `/api/market/${kind}`;
      const put = (given: object, key = freshKey()) =>
        market.api.fetch(
          path,
          jsonCall(market.tenant.keys.operator, "PUT", { package: name, ...given }, { "idempotency-key": key }),
        );
      const [key, key2, key3] = [freshKey(), freshKey(), freshKey()];
      // Each answer is the status as it is read afterwards: for a change, and where there is nothing to change.
      const first = must(200, await put(on, key));
      expect(first.json).toEqual(await market.status(name));
      const nothing = must(200, await put(on, key2));
      expect(nothing.json).toEqual(first.json);
      const undone = must(200, await put(off, key3));
      expect(undone.json).toEqual(await market.status(name));
      for (const other of [await put(off, key), await put(off, key2), await put(on, key3)]) {
        expect([other.status, other.json.code]).toEqual([409, "idempotency_conflict"]);
      }
      for (const replayed of [await put(on, key), await put(on, key2)]) {
        expect([replayed.status, replayed.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
        expect(replayed.json).toEqual(first.json);
      }
      expect(await market.status(name)).toEqual(undone.json);
      // Without a key it is done each time, and once where it comes at once under one.
      expect(must(200, await market.put(path, { package: name, ...on })).json.version).toBe(undone.json.version + 1);
      must(200, await market.put(path, { package: name, ...off }));
      const together = freshKey();
      const answers = await Promise.all([1, 2, 3].map(() => put(on, together)));
      for (const answer of answers) expect(must(200, answer).json.version).toBe(Number(undone.json.version) + 3);
    },
  );

  test("a hold of a package that nothing was ever done with is remembered, too", async () => {
    const name = newName();
    await market.publish(name, "1.0.0");
    const lift = { package: name, version: "1.0.0", barred: false, reason: "no" };
    const key = { "idempotency-key": freshKey() };
    const put = (body: object) =>
      market.api.fetch("/api/market/bars", jsonCall(market.tenant.keys.operator, "PUT", body, key));
    const first = must(200, await put(lift));
    expect(first.json.version).toBe(0);
    must(200, await market.put("/api/market/bars", { ...lift, barred: true }));
    const again = must(200, await put(lift));
    expect([again.json, again.headers.get("idempotency-replayed")]).toEqual([first.json, "true"]);
    expect((await put({ ...lift, barred: true })).status).toBe(409);
  });
});

describe("at once", () => {
  test("two upgrades, and upgrades and rollbacks, leave every install wholly on one release", async () => {
    const { name } = await hosts(3);
    await market.publish(name, "1.2.0");
    for (let round = 0; round < 3; round += 1) {
      const answers = await Promise.all([
        market.upgrade(name, { channel: "canary", despite_gate: true }),
        market.upgrade(name, { despite_gate: true }),
        market.rollback(name),
        market.put("/api/market/pins", { package: name, pinned: false }),
      ]);
      for (const { status, json } of answers) {
        // Each is done, denied by what another has just done, or has nothing to go back or on to.
        expect([status, json.code ?? null]).toBeOneOf([
          [200, null],
          [201, null],
          [403, "denied"],
          [409, "nothing_to_roll_back"],
          [409, "nothing_to_upgrade"],
          [503, "package_busy"],
        ]);
      }
      expect(await torn(stack, name)).toEqual([]);
      const { bars } = await market.status(name);
      for (const { version } of bars) {
        must(200, await market.put("/api/market/bars", { package: name, version, barred: false, reason: "again" }));
      }
    }
  });

  test("sixteen hosts that install one package at the same moment all get it", async () => {
    const name = newName();
    await market.publish(name, "1.0.0");
    await market.entitle(name);
    const names = Array.from({ length: 16 }, (_, index) => `host-${index}`);
    const answers = await Promise.all(
      names.map((host) => market.post("/api/market/installs", { package: name, channel: "stable", name: host })),
    );
    expect(answers.map(({ status, json }) => [status, json.code ?? null])).toEqual(names.map(() => [201, null]));
    expect(await market.versions(name)).toEqual(Object.fromEntries(names.map((host) => [host, "1.0.0"])));
    expect(await torn(stack, name)).toEqual([]);
  });

  test("the same key twice is one upgrade with one answer, told once", async () => {
    const { name } = await hosts(2);
    const key = { "idempotency-key": freshKey() };
    const body = { package: name, channel: "canary" };
    const [first, second] = await Promise.all([
      market.post("/api/market/upgrades", body, key),
      market.post("/api/market/upgrades", body, key),
    ]);
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.json).toEqual(first.json);
    await expect
      .poll(
        async () =>
          (await market.events(`type = "mc.install.changed" AND package = "${name}" AND outcome = "upgraded"`)).length,
        {
          timeout: 20_000,
        },
      )
      .toBe(2);
    expect(await market.events(`type = "mc.rollout.changed" AND package = "${name}"`)).toHaveLength(2);
  });

  test("three hundred installs move in one upgrade, and back in one rollback", async () => {
    const { name } = await hosts(1);
    const owner = databaseAs(stack, "owner");
    const rows = Array.from({ length: 299 }, (_, at) => ({
      id: `ins_${String(at).padStart(26, "0")}`,
      name: `many-${at}`,
      bucket: (at * 33) % 10_000,
    }));
    await inBatch(owner, [
      sql`with made as (
            insert into installs (tenant_id, package, id, release_id, version, channel, artifact_sha256, units, changed_at, name,
              bucket)
            select i.tenant_id, i.package, m.id, i.release_id, i.version, i.channel, i.artifact_sha256, i.units, now(), m.name,
              m.bucket
            from installs i, jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as m(id text, name text, bucket int)
            where i.package = ${name} returning *
          )
          insert into install_history (tenant_id, package, install_id, name, release_id, version, channel, artifact_sha256,
            principal_id, changed_at)
          select tenant_id, package, id, name, release_id, version, channel, artifact_sha256, null, now() from made`,
    ]);
    const upgraded = must(201, await market.upgrade(name, { channel: "canary" }));
    expect(upgraded.json.moves).toHaveLength(300);
    const back = must(201, await market.rollback(name));
    expect(back.json.moves).toHaveLength(300);
    expect(await torn(stack, name)).toEqual([]);
  });
});
