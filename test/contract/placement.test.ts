// Where installs stand while a release is tried, and where they go when it is taken back: the cohort alone gets it, everyone
// else the last good release for them, and nobody is ever sent to a release that is tried, barred, yanked or gone.

import { beforeAll, describe, expect, test } from "vitest";
import type { Install, PackageStatus } from "../../shared/contract/http-installs.ts";
import { failingRuns, Market } from "../support/installs.ts";
import { contractOf, type CheckedAnswer } from "../support/openapi.ts";
import { jsonCall, must, registeredSigner } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let market: Market;
let count = 0;
const newName = (): string => `placement/package-${(count += 1)}`;

beforeAll(async () => {
  const api = await contractOf(stack.apiUrl);
  const publisher = await stack.seedTenant("placement-publisher");
  const tenant = await stack.seedTenant("placement");
  market = new Market(api, publisher, await registeredSigner(api, publisher), tenant);
});

/** The percentage whose cohort is the first `wanted` installs, in the order of their buckets. */
function percentFor(installs: readonly Install[], wanted: number): number {
  const bucket = installs.toSorted((left, right) => left.bucket - right.bucket)[wanted - 1]!.bucket;
  return Math.min(98, Math.floor(bucket / 100) + 1);
}

const hostsMax = 40;

/** Hosts on the last of these stable versions, having had all of them, and `tried` on canary with half of the hosts. */
async function trying(
  versions: readonly string[],
  tried = "1.1.0",
): Promise<{ name: string; cohort: string[]; others: string[]; percent: number }> {
  const name = newName();
  await market.entitle(name);
  let installs: Install[] = [];
  let percent = 0;
  for (const [at, version] of versions.entries()) {
    await market.publish(name, version);
    if (at > 0) must(201, await market.upgrade(name));
    else {
      installs = await market.install(name, 4);
      percent = percentFor(installs, 2);
      // A bucket so near to the second one is in the cohort, too: at least two hosts are to be outside.
      const isOutside = ({ bucket }: Install): boolean => bucket >= percent * 100;
      while (installs.filter(isOutside).length < 2 && installs.length < hostsMax) {
        installs.push(must(201, await install(name, { name: `host-${installs.length}` })).json as Install);
      }
    }
  }
  await market.publish(name, tried, "canary");
  const started = must(201, await market.upgrade(name, { channel: "canary", cohort_percent: percent })).json;
  const cohort = started.moves.map((move: { name: string }) => move.name) as string[];
  return {
    name,
    cohort,
    others: installs.map((install) => install.name).filter((host) => !cohort.includes(host)),
    percent,
  };
}

const install = (name: string, given: Record<string, unknown>) =>
  market.post("/api/market/installs", { package: name, ...given });
const bar = async (name: string, version: string) =>
  must(200, await market.put("/api/market/bars", { package: name, version, barred: true, reason: "bad" }));
const yank = async (id: string) =>
  must(
    200,
    await market.api.fetch(
      `/api/market/releases/${id}/yank`,
      jsonCall(market.publisher.keys.publisher, "POST", { reason: "broken" }),
    ),
  );
const point = async (name: string, channel: string, version: string) =>
  must(
    201,
    await market.api.fetch(
      "/api/market/channels",
      jsonCall(market.publisher.keys.publisher, "POST", { package: name, channel, version }),
    ),
  );
const digestOf = (status: PackageStatus, channel: string): string =>
  status.good.find((good) => good.channel === channel)!.artifact_sha256;
const barred = (status: PackageStatus): string[] => status.bars.map(({ version }) => version);
const placed = (status: PackageStatus, hosts: readonly string[]): [string, boolean][] =>
  status.installs.filter(({ name }) => hosts.includes(name)).map(({ version, pinned }) => [version, pinned]);

/** The refusal's code; of a cohort of 1%, in which one install in a hundred is, also for one that is in it. */
const refusedOutside = ({ status, json }: CheckedAnswer): string =>
  status === 201 && json.bucket < 100 ? "no_good_release" : `${json.code ?? json.version}`;

async function aborted(name: string): Promise<PackageStatus> {
  await failingRuns(stack, name);
  await stack.runScheduled();
  await expect.poll(async () => (await market.status(name)).rollout?.state, { timeout: 20_000 }).toBe("aborted");
  const status = await market.status(name);
  expect(status.rollout?.rule).toBe("health_gate");
  return status;
}

describe("a new install while a release is tried", () => {
  test("gets it inside the cohort, and the last good one outside, whichever channel it follows or leads there", async () => {
    const { name, percent } = await trying(["1.0.0"]);
    // A cohort only ever grows: where chance made it larger than this already, it stays what it was.
    const cohort = Math.max(50, percent);
    must(201, await market.upgrade(name, { channel: "canary", cohort_percent: cohort, despite_gate: true }));
    await point(name, "stable", "1.1.0");
    for (let host = 0; host < 6; host += 1) {
      const channel = host % 2 === 0 ? "canary" : "stable";
      const { version, bucket } = must(201, await install(name, { channel, name: `late-${host}` })).json;
      expect(version).toBe(bucket < cohort * 100 ? "1.1.0" : "1.0.0");
    }
    const status = await market.status(name);
    expect(status.good.map(({ version }) => version)).not.toContain("1.1.0");
  });

  test("is refused where nothing is known to be good, and says what would help", async () => {
    const name = newName();
    await market.entitle(name);
    await market.publish(name, "1.0.0", "canary");
    must(201, await install(name, { channel: "canary", name: "first" }));
    must(201, await market.upgrade(name, { channel: "canary", cohort_percent: 1 }));
    expect(refusedOutside(await install(name, { channel: "canary", name: "late" }))).toBe("no_good_release");
  });

  test("is not put on a last good release that is barred, out of range, yanked or gone", async () => {
    const fresh = async (): Promise<{ name: string; id: string }> => {
      const made = newName();
      await market.entitle(made);
      const { id } = await market.publish(made, "1.0.0");
      await market.install(made, 1);
      await market.publish(made, "1.2.0");
      must(201, await market.upgrade(made, { cohort_percent: 1 }));
      return { name: made, id };
    };
    const refused = async (made: string) =>
      expect(refusedOutside(await install(made, { name: "late" }))).toBe("no_good_release");
    const one = await fresh();
    await bar(one.name, "1.0.0");
    await refused(one.name);
    const two = await fresh();
    const row = { package: two.name, channel: "canary", allowed: true, version_range: ">=1.2.0" };
    must(200, await market.put("/api/market/entitlements", { entitlements: [row] }, market.tenant.keys.admin));
    await refused(two.name);
    const three = await fresh();
    await yank(three.id);
    await refused(three.name);
    const four = await fresh();
    await stack.deleteObject("artifacts", `artifact/${digestOf(await market.status(four.name), "stable")}.tar.gz`);
    await refused(four.name);
  });

  test("of a host that has a newer one than the last good stays where it is", async () => {
    const name = newName();
    await market.entitle(name);
    await market.publish(name, "1.0.0");
    await market.install(name, 1);
    await market.publish(name, "1.1.0");
    must(201, await install(name, { name: "host-0" }));
    await market.publish(name, "1.2.0");
    must(201, await market.upgrade(name, { cohort_percent: 1 }));
    expect(must(201, await install(name, { name: "host-0" })).json.version).toBeOneOf(["1.1.0", "1.2.0"]);
  });
});

describe("an upgrade", () => {
  test("leaves those outside the cohort where nothing better is good for them: no yanked one, none of a channel that is off", async () => {
    const yankedName = newName();
    await market.entitle(yankedName);
    await market.publish(yankedName, "1.0.0");
    await market.install(yankedName, 3);
    must(200, await market.put("/api/market/pins", { package: yankedName, install: "host-0", pinned: true }));
    const { id } = await market.publish(yankedName, "1.1.0");
    must(201, await market.upgrade(yankedName));
    must(200, await market.put("/api/market/pins", { package: yankedName, pinned: false }));
    await yank(id);
    await market.publish(yankedName, "1.2.0");
    const first = must(201, await market.upgrade(yankedName, { cohort_percent: 1 })).json;
    expect(first.moves.filter((move: { cause: string }) => move.cause === "last_good")).toEqual([]);

    const name = newName();
    await market.entitle(name);
    await market.publish(name, "1.0.0");
    await market.publish(name, "1.1.0", "canary");
    must(201, await install(name, { channel: "canary", name: "host-0" }));
    must(200, await market.put("/api/market/pins", { package: name, install: "host-0", pinned: true }));
    must(201, await install(name, { channel: "canary", name: "host-1" }));
    await market.publish(name, "1.2.0", "canary");
    must(201, await market.upgrade(name, { channel: "canary" }));
    must(200, await market.put("/api/market/pins", { package: name, pinned: false }));
    await market.publish(name, "2.0.0");
    const { admin } = market.tenant.keys;
    must(200, await market.put("/api/flags", { flag: "market_channels", enabled: false }, admin));
    await market.entitle(name, "stable");
    const answer = await market.upgrade(name, { cohort_percent: 1 });
    must(200, await market.put("/api/flags", { flag: "market_channels", enabled: true }, admin));
    const moves = must(201, answer).json.moves as { to_version: string }[];
    expect(moves.map((move) => move.to_version)).not.toContain("1.2.0");
  });

  test("leads on, never back", async () => {
    const name = newName();
    await market.entitle(name);
    await market.publish(name, "1.0.0");
    await market.publish(name, "0.5.0", "canary");
    await market.install(name, 2);
    const answer = await market.upgrade(name, { channel: "canary" });
    expect([answer.status, answer.json.code]).toEqual([409, "nothing_to_upgrade"]);
    expect(await market.versions(name)).toEqual({ "host-0": "1.0.0", "host-1": "1.0.0" });
  });

  test("does not get past the gate by another channel that points to the release that is tried", async () => {
    const { name } = await trying(["1.0.0"]);
    await point(name, "stable", "1.1.0");
    const answer = await market.upgrade(name, { channel: "stable" });
    expect([answer.status, answer.json.rule]).toEqual([403, "gate_holds"]);
  });
});

describe("a rollback while a release is tried", () => {
  test("takes back that release alone: those who never had it stay, and what is good stays good", async () => {
    const { name, cohort, others } = await trying(["0.9.0", "1.0.0"]);
    const result = must(201, await market.rollback(name)).json;
    expect(result.moves.map((move: { name: string }) => move.name).toSorted()).toEqual(cohort.toSorted());
    const status = await market.status(name);
    expect(placed(status, cohort)).toEqual(cohort.map(() => ["1.0.0", true]));
    expect(placed(status, others)).toEqual(others.map(() => ["1.0.0", false]));
    expect(barred(status)).toEqual(["1.1.0"]);
    expect(status.good).toMatchObject([{ channel: "stable", version: "1.0.0" }]);
    expect(status.rollout).toMatchObject({ state: "aborted", rule: "rollback" });
    const fresh = must(201, await install(name, { name: "fresh" })).json;
    expect(fresh.version).toBe("1.0.0");
  });

  test("of one host outside the cohort ends nothing, and bars nothing that others run", async () => {
    const { name, cohort, others } = await trying(["0.9.0", "1.0.0"]);
    const result = must(201, await market.rollback(name, { install: others[0] })).json;
    expect(result).toMatchObject({ moves: [{ to_version: "0.9.0" }], barred: [], rollout_aborted: null });
    const status = await market.status(name);
    expect(status.rollout?.state).toBe("running");
    expect(placed(status, cohort)).toEqual(cohort.map(() => ["1.1.0", false]));
  });

  test("of the cohort, host by host, ends it with the last one", async () => {
    const { name, cohort } = await trying(["1.0.0"]);
    for (const [at, host] of cohort.entries()) {
      const result = must(201, await market.rollback(name, { install: host })).json;
      const isLast = at === cohort.length - 1;
      expect([result.barred.length, result.rollout_aborted !== null]).toEqual(isLast ? [1, true] : [0, false]);
    }
    expect(barred(await market.status(name))).toEqual(["1.1.0"]);
  });

  test("ends it and bars its release also where its cohort is empty", async () => {
    const name = newName();
    await market.entitle(name);
    await market.publish(name, "1.0.0");
    const [host] = await market.install(name, 1);
    await market.publish(name, "1.1.0", "canary");
    const percent = Math.max(1, Math.floor(host!.bucket / 100) - 1);
    must(201, await market.upgrade(name, { channel: "canary", cohort_percent: percent }));
    const result = must(201, await market.rollback(name)).json;
    expect(result.barred).toMatchObject([{ version: "1.1.0" }]);
    expect((await market.status(name)).rollout?.state).toBe("aborted");
  });
});

test("a rollback of installs that differ takes back the last rollout's release, and sends nobody to one that it bars", async () => {
  const name = newName();
  await market.entitle(name);
  await market.publish(name, "1.0.0");
  await market.install(name, 2);
  await market.publish(name, "1.1.0");
  must(201, await market.upgrade(name));
  must(200, await market.put("/api/market/pins", { package: name, install: "host-0", pinned: true }));
  await market.publish(name, "1.2.0");
  must(201, await market.upgrade(name));
  must(201, await market.rollback(name));
  const status = await market.status(name);
  expect(await market.versions(name)).toEqual({ "host-0": "1.1.0", "host-1": "1.1.0" });
  expect(barred(status)).toEqual(["1.2.0"]);
});

test("a rollback passes over a yanked release, unless it is named", async () => {
  const name = newName();
  await market.entitle(name);
  await market.publish(name, "1.0.0");
  await market.install(name, 1);
  const { id } = await market.publish(name, "1.1.0");
  must(201, await market.upgrade(name));
  await market.publish(name, "1.2.0");
  must(201, await market.upgrade(name));
  await yank(id);
  must(201, await market.rollback(name));
  expect(await market.versions(name)).toEqual({ "host-0": "1.0.0" });
  must(201, await market.rollback(name, { to_version: "1.1.0" }));
  expect(await market.versions(name)).toEqual({ "host-0": "1.1.0" });
});

describe("when the gate aborts", () => {
  test("the cohort goes to what was good before, not to a release whose own rollout was cut short", async () => {
    const { name, cohort, percent } = await trying(["1.0.0"]);
    await market.publish(name, "1.2.0", "canary");
    must(201, await market.upgrade(name, { channel: "canary", cohort_percent: percent }));
    const status = await aborted(name);
    expect(placed(status, cohort)).toEqual(cohort.map(() => ["1.0.0", true]));
    expect(barred(status)).toEqual(["1.2.0"]);
  });

  test("an install that was made meanwhile, and never had another release, goes to the last good one", async () => {
    const { name, percent } = await trying(["1.0.0"]);
    const late: string[] = [];
    for (let host = 0; late.length === 0 && host < 40; host += 1) {
      const made = must(201, await install(name, { channel: "canary", name: `late-${host}` })).json;
      if (made.bucket < percent * 100) late.push(made.name);
    }
    const status = await aborted(name);
    expect(placed(status, late)).toEqual(late.map(() => ["1.0.0", true]));
  });

  test("its digest is barred and its rollout over, though no install can go back", async () => {
    const { name, cohort } = await trying(["1.0.0"]);
    await bar(name, "1.0.0");
    const status = await aborted(name);
    expect(barred(status).toSorted()).toEqual(["1.0.0", "1.1.0"]);
    expect(placed(status, cohort)).toEqual(cohort.map(() => ["1.1.0", false]));
  });

  test("nobody is sent to a release whose artifact is gone", async () => {
    const { name, cohort } = await trying(["0.9.0", "1.0.0"]);
    const digest = digestOf(await market.status(name), "stable");
    await stack.deleteObject("artifacts", `artifact/${digest}.tar.gz`);
    const status = await aborted(name);
    expect(placed(status, cohort)).toEqual(cohort.map(() => ["0.9.0", true]));
  });
});
