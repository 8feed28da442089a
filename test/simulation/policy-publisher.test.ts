// The publisher with a death at each of its calls, with providers that are down, slow, forgetful or lying, and what stock
// clients read from the stores all the while.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { channelNames, type Channel } from "../../shared/contract/names.ts";
import { barrierMs, collectedMax, keptMs } from "../../shared/edge/publisher-courier.ts";
import { lifeMs } from "../../shared/edge/tuf.ts";
import { isDeep, sampledPlaces } from "../support/sampled.ts";
import { onlineSigners } from "../support/tuf.ts";
import { intentOf, principal, PublisherWorld, slug, type MemoryStore } from "./publisher-world.ts";
import { tenantId } from "./audit-events.ts";

const begun = async (...texts: readonly string[]): Promise<PublisherWorld> => {
  const world = await PublisherWorld.make();
  expect(await world.putRoot(await world.root())).toMatchObject({ ok: true, version: 1 });
  for (const text of texts) expect(await world.publish(text)).toMatchObject({ ok: true });
  await world.settle();
  return world;
};
const stateOf = (world: PublisherWorld): Record<string, string> =>
  Object.fromEntries(world.publisher.providers().map(({ name, state }) => [name, state]));
const both = async (world: PublisherWorld): Promise<unknown[]> => [
  await world.served(world.a),
  await world.served(world.b),
];

describe("after a death at any call, before or after its effect,", () => {
  /** A repository's whole life, as a caller that tries again has it: each step with an intent of its own. */
  const steps = async (world: PublisherWorld): Promise<readonly (() => Promise<{ readonly ok: boolean }>)[]> => {
    const [first, second] = [await world.root(1), await world.root(2, ["two"], ["one", "two"])];
    const change = (intent: string, wish: { kind: "roll_back" } | { kind: "promote" }) =>
      world.publisher.change(
        { principal, intent: intentOf(intent, wish.kind) },
        wish.kind === "roll_back"
          ? { kind: "roll_back", policy: "gateway", channel: "stable", revision: null }
          : { kind: "promote", policy: "gateway", from: "stable", to: "canary" },
      );
    return [
      () => world.putRoot(first, "root 1"),
      () => world.publish("r1", "gateway", "stable", "publish 1"),
      () => world.publish("r2", "gateway", "stable", "publish 2"),
      () => world.putRoot(second, "root 2"),
      () => change("back", { kind: "roll_back" }),
      () => change("promote", { kind: "promote" }),
      () => world.publish("o1", "other", "stable", "publish other"),
      () => world.remove("other", "remove other"),
    ];
  };
  const live = async (world: PublisherWorld): Promise<void> => {
    for (const step of await steps(world)) {
      expect(await step()).toMatchObject({ ok: true });
      await world.publisher.catchUp();
    }
  };
  const countCalls = async (): Promise<number> => {
    const world = await PublisherWorld.make();
    world.fetchers = [{ key_sha256: "f".repeat(64), fetcher_id: "key_1", expires_at: null }];
    await live(world);
    return world.death.calls;
  };

  test("each store serves what belongs together, and the retry ends where it would have ended", async () => {
    const calls = await countCalls();
    expect(calls).toBeGreaterThan(80);
    for (const at of sampledPlaces(calls, 97)) {
      for (const when of ["before", "after"] as const) {
        const world = await PublisherWorld.make();
        world.fetchers = [{ key_sha256: "f".repeat(64), fetcher_id: "key_1", expires_at: null }];
        Object.assign(world.death, { at, when });
        await Promise.race([live(world), world.death.happened]);
        await world.reopen();
        // What a client reads in the middle of it all: a whole state, or none yet.
        for (const store of [world.a, world.b]) await world.served(store);
        await live(world);
        await world.settle();
        const where = `died at call ${at}, ${when}`;
        const stable = { version: "r1", revision: 3 };
        expect(await both(world), where).toEqual([stable, stable]);
        for (const store of [world.a, world.b]) {
          expect(await world.served(store, "gateway/canary/bundle.tar.gz"), where).toEqual({
            version: "r1",
            revision: 1,
          });
          expect(await world.served(store, "other/stable/bundle.tar.gz"), where).toBeNull();
          expect(store.objects.has(`fetchers/${"f".repeat(64)}.json`), where).toBe(true);
        }
        expect(stateOf(world), where).toEqual({ a: "current", b: "current" });
        const told = world.events();
        expect(
          told.map(({ type }) => type),
          where,
        ).toEqual([
          "mc.policy.root_changed",
          "mc.policy.published",
          "mc.policy.published",
          "mc.policy.root_changed",
          "mc.policy.rolled_back",
          "mc.policy.promoted",
          "mc.policy.published",
          "mc.policy.removed",
        ]);
        expect(
          told.map(({ source_seq: seq }) => seq),
          where,
        ).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
        expect(
          told.flatMap(({ attributes }) => attributes["targets_version"] ?? []),
          where,
        ).toEqual([2, 3, 5, 6, 7, 8]);
      }
    }
  });
});

describe("a provider that is down", () => {
  test("is told, holds up nobody once it has failed, and catches up by itself", async () => {
    const world = await begun("r1");
    world.b.meet = () => {
      throw new Error("down");
    };
    expect(await world.publish("r2")).toMatchObject({ ok: true });
    await world.publisher.catchUp();
    expect(await both(world)).toEqual([
      { version: "r2", revision: 2 },
      { version: "r1", revision: 1 },
    ]);
    const [a, b] = world.publisher.providers();
    expect(a).toMatchObject({ state: "current", behind_since: null, attempts: 0 });
    expect(b).toMatchObject({ state: "behind", attempts: 1, reason: "store_unavailable" });
    expect(b!.behind_since).toBe(new Date(world.now).toISOString());
    for (let tries = 0; tries < 10; tries += 1) {
      world.now = world.publisher.nextDue()!;
      await world.publisher.catchUp();
    }
    expect(world.publisher.providers()[1]).toMatchObject({ attempts: 11, behind_since: b!.behind_since });
    expect(world.publisher.nextDue()! - world.now).toBe(60_000);
    await world.publish("r3");
    await world.publisher.catchUp();
    expect(await world.served(world.a)).toMatchObject({ version: "r3" });
    world.b.meet = () => undefined;
    await world.settle();
    expect(await both(world)).toEqual([
      { version: "r3", revision: 3 },
      { version: "r3", revision: 3 },
    ]);
    expect(world.publisher.providers()[1]).toMatchObject({
      state: "current",
      behind_since: null,
      attempts: 0,
      reason: null,
    });
  });

  test("and hangs is waited for until the barrier ends, and no longer", async () => {
    const world = await begun("r1");
    let release = (): void => undefined;
    const hung = new Promise<void>((resolve) => (release = resolve));
    world.b.meet = () => hung;
    const pauses: number[] = [];
    let endBarrier = (): void => undefined;
    world.pause = (ms) => {
      pauses.push(ms);
      return new Promise((resolve) => (endBarrier = resolve));
    };
    await world.publish("r2");
    const caughtUp = world.publisher.catchUp();
    await expect.poll(() => pauses).toEqual([barrierMs]);
    expect(await world.served(world.a)).toMatchObject({ version: "r1" });
    world.now += barrierMs;
    endBarrier();
    await expect.poll(() => stateOf(world)).toEqual({ a: "current", b: "behind" });
    expect(await world.served(world.a)).toMatchObject({ version: "r2" });
    world.b.meet = () => undefined;
    release();
    await caughtUp;
    expect(stateOf(world)).toEqual({ a: "current", b: "current" });
  });

  test("no timestamp is put anywhere before both stores have what it names", async () => {
    const world = await begun();
    const order: string[] = [];
    for (const store of [world.a, world.b])
      store.meet = (call, key) =>
        void (call === "put" && order.push(`${store.name} ${key.replace(/[0-9a-f]{64}/, "…")}`));
    await world.publish("r1");
    await world.publisher.catchUp();
    const flips = order.filter((line) => line.endsWith("timestamp.json"));
    expect(flips.toSorted()).toEqual([`a tuf/${slug}/timestamp.json`, `b tuf/${slug}/timestamp.json`]);
    expect(order.slice(-2).toSorted()).toEqual(flips.toSorted());
    expect(order).toHaveLength(10);
  });
});

describe("a provider that does not do as it says", () => {
  test("and keeps other bytes gets no timestamp that names them", async () => {
    const world = await begun("r1");
    world.b.bend = (key, bytes) => (key.startsWith("policies/") ? bytes.map((byte) => byte ^ 1) : bytes);
    await world.publish("r2");
    await world.publisher.catchUp();
    expect(await both(world)).toEqual([
      { version: "r2", revision: 2 },
      { version: "r1", revision: 1 },
    ]);
    expect(world.publisher.providers()[1]).toMatchObject({ state: "behind", reason: "digest_differs" });
  });

  test("and lost everything is filled anew by the next sweep", async () => {
    const world = await begun("r1", "r2");
    world.b.objects.clear();
    await world.publisher.catchUp();
    expect(await world.served(world.b)).toBeNull();
    await world.publisher.sweep();
    await world.settle();
    expect(await both(world)).toEqual([
      { version: "r2", revision: 2 },
      { version: "r2", revision: 2 },
    ]);
  });

  test("and gets an older timestamp late is put right by the next sweep", async () => {
    const world = await begun("r1");
    const key = `tuf/${slug}/timestamp.json`;
    const late = world.a.objects.get(key)!;
    await world.publish("r2");
    await world.settle();
    world.a.objects.set(key, late);
    expect(await world.served(world.a)).toMatchObject({ version: "r1" });
    await world.publisher.sweep();
    expect(await world.served(world.a)).toMatchObject({ version: "r2" });
  });

  test("and does not answer a sweep keeps what it has", async () => {
    const world = await begun("r1");
    const before = world.b.written.length;
    world.b.meet = () => {
      throw new Error("down");
    };
    await world.publisher.sweep();
    world.b.meet = () => undefined;
    await world.publisher.sweep();
    expect(stateOf(world)).toEqual({ a: "current", b: "current" });
    expect(world.b.written.length).toBe(before);
  });
});

describe("what is signed", () => {
  const versions = (store: MemoryStore): number[] =>
    [...store.objects.keys()]
      .flatMap((key) => /\/(\d+)\.(?:targets|snapshot)\.json$/.exec(key)?.[1] ?? [])
      .map(Number)
      .toSorted((left, right) => left - right);

  test("is signed again after a third of its life, and only what is due", async () => {
    const world = await begun("r1");
    const timestampBefore = world.a.text("timestamp.json");
    const before = versions(world.a);
    expect(world.publisher.nextDue()! - world.now).toBeLessThanOrEqual(lifeMs.timestamp / 3);
    world.now += lifeMs.timestamp / 3 - 2_000;
    await world.publisher.sweep();
    expect(world.a.text("timestamp.json")).toBe(timestampBefore);
    world.now += 2_000;
    await world.publisher.sweep();
    expect(world.a.text("timestamp.json")).not.toBe(timestampBefore);
    expect(world.b.text("timestamp.json")).toBe(world.a.text("timestamp.json"));
    expect(versions(world.a)).toEqual(before);
    expect(await both(world)).toEqual([
      { version: "r1", revision: 1 },
      { version: "r1", revision: 1 },
    ]);
    world.now += lifeMs.snapshot / 3;
    await world.publisher.sweep();
    expect(versions(world.a)).toEqual([...before, 3]);
    world.now += lifeMs.targets / 3;
    await world.publisher.sweep();
    expect(await world.served(world.a)).toEqual({ version: "r1", revision: 1 });
    expect(world.events()).toHaveLength(2);
  });

  test("is signed once the signer is back", async () => {
    const world = await begun("r1");
    world.isSignerDown = true;
    expect(await world.publish("r2")).toMatchObject({ ok: false, code: "policy_unavailable" });
    world.now += lifeMs.timestamp / 3;
    await world.publisher.catchUp();
    expect(world.publisher.nextDue()! - world.now).toBe(60_000);
    world.isSignerDown = false;
    expect(await world.publish("r2")).toMatchObject({ ok: true, revision: { revision: 2 } });
  });

  test("is missed by nobody while it is not signed: the log says what to do, the view since when and why", async () => {
    const world = await begun("r1");
    const { expires } = world.publisher.view().signing;
    expect(world.publisher.view().signing).toEqual({ failing_since: null, reason: null, expires });
    world.isSignerDown = true;
    world.now += lifeMs.timestamp / 3;
    const since = new Date(world.now).toISOString();
    await world.publisher.catchUp();
    expect(world.publisher.view().signing).toEqual({ failing_since: since, reason: "signer_unavailable", expires });
    expect(world.logged.at(-1)).toContain("Look at the signer worker");
    await world.reopen();
    world.isSignerDown = false;
    world.signers = await onlineSigners(tenantId, "other secret");
    world.now += 60_000;
    await world.publisher.catchUp();
    expect(world.publisher.view().signing).toEqual({ failing_since: since, reason: "keys_changed", expires });
    expect(world.logged.at(-1)).toContain("maestro policy root rotate");
    expect(await world.putRoot(await world.root(2, ["one"]))).toMatchObject({ ok: true });
    expect(world.publisher.view().signing).toMatchObject({ failing_since: null, reason: null });
  });

  test("and a call that never answers holds up no revocation of a fetcher", async () => {
    const world = await begun("r1");
    world.fetchers = [{ key_sha256: "f".repeat(64), fetcher_id: "key_1", expires_at: null }];
    await world.publisher.sweep();
    world.isSignerHung = true;
    void world.publish("r2");
    await expect.poll(() => world.hungCalls).toBe(1);
    world.fetchers = [];
    world.publisher.nudgeFetchers();
    void world.publisher.catchUp();
    await expect.poll(() => world.a.has(`fetchers/${"f".repeat(64)}.json`)).toBe(false);
  });

  test("is signed by keys that the root names, and by no others", async () => {
    const world = await begun("r1");
    world.signers = await onlineSigners(tenantId, "other secret");
    expect(await world.publish("r2")).toMatchObject({ ok: false, code: "policy_keys_changed" });
    expect(await world.putRoot(await world.root(2, ["one"]))).toMatchObject({ ok: true, version: 2 });
    expect(await world.publish("r2")).toMatchObject({ ok: true });
    await world.settle();
    expect(await both(world)).toEqual([
      { version: "r2", revision: 2 },
      { version: "r2", revision: 2 },
    ]);
  });
});

describe("a change is refused", () => {
  test("where its key came before with another body, also to a publisher that has died since", async () => {
    const world = await begun();
    const first = await world.publish("r1", "gateway", "stable", "a key");
    await world.reopen();
    expect(await world.publish("r1", "gateway", "stable", "a key")).toEqual(first);
    expect(await world.publish("r2", "gateway", "stable", "a key")).toMatchObject({ code: "idempotency_conflict" });
    const next = await world.root(2, ["two"], ["one", "two"]);
    expect(await world.putRoot(next, "a key")).toMatchObject({ code: "idempotency_conflict" });
    await world.settle();
    expect(await world.served(world.a)).toEqual({ version: "r1", revision: 1 });
    expect(world.events()).toHaveLength(2);
  });

  test("before there is a root, and a root that is not the next one is too", async () => {
    const world = await PublisherWorld.make();
    expect(await world.publish("r1")).toMatchObject({ ok: false, code: "policy_root_missing" });
    expect(world.publisher.nextDue()).toBeNull();
    await world.publisher.sweep();
    expect(await world.putRoot(await world.root(2))).toMatchObject({ ok: false, code: "policy_root_invalid" });
    await world.putRoot(await world.root());
    expect(await world.putRoot(await world.root(2, ["two"]))).toMatchObject({
      ok: false,
      detail: expect.stringContaining("0 of the keys of root 1"),
    });
    expect(await world.putRoot(await world.root())).toMatchObject({ ok: true, version: 1 });
    expect(world.events()).toHaveLength(1);
  });

  test("where a revision's name has other bytes, or there is nothing to go to", async () => {
    const world = await begun("r1");
    const change = (wish: Parameters<typeof world.publisher.change>[1]) =>
      world.publisher.change({ principal, intent: null }, wish);
    const bundle = { ...(await world.keep("other")), version: "r1" };
    expect(await change({ kind: "publish", policy: "gateway", channel: "canary", bundle })).toMatchObject({
      code: "policy_version_taken",
    });
    const back = { kind: "roll_back", policy: "gateway", channel: "stable" } as const;
    expect(await change({ ...back, revision: null })).toMatchObject({ code: "policy_no_revision" });
    expect(await change({ ...back, revision: 7 })).toMatchObject({ code: "policy_no_revision" });
    expect(await change({ ...back, policy: "other", revision: null })).toMatchObject({ code: "not_found" });
    expect(await change({ kind: "promote", policy: "gateway", from: "canary", to: "stable" })).toMatchObject({
      code: "not_found",
    });
    expect(world.events()).toHaveLength(2);
  });
});

describe("a policy that is removed", () => {
  test("is named no more, has no revisions to go back to, and may be published again, counting on", async () => {
    const world = await begun("r1", "r2");
    await world.publish("r1", "billing");
    const gone = { policy: "gateway", stable_revision: 2, canary_revision: null, targets_version: 5 };
    expect(await world.remove("gateway", "a key")).toMatchObject({ ok: true, removal: gone });
    await world.settle();
    expect(await both(world)).toEqual([null, null]);
    expect(await world.served(world.b, "billing/stable/bundle.tar.gz")).toMatchObject({ version: "r1" });
    expect(world.publisher.view().policies.map(({ name }) => name)).toEqual(["billing"]);
    expect(world.publisher.policy("gateway")).toBeNull();
    expect(await world.remove("gateway", "a key")).toMatchObject({ ok: true, removal: gone });
    expect(await world.remove("gateway")).toMatchObject({ code: "not_found" });
    expect(world.events().at(-1)).toMatchObject({ type: "mc.policy.removed", attributes: gone });
    expect(world.events()).toHaveLength(5);

    const taken = { ...(await world.keep("other")), version: "r1" };
    const change = (wish: Parameters<typeof world.publisher.change>[1]) =>
      world.publisher.change({ principal, intent: null }, wish);
    expect(await change({ kind: "publish", policy: "gateway", channel: "stable", bundle: taken })).toMatchObject({
      code: "policy_version_taken",
    });
    expect(await world.publish("r2")).toMatchObject({ ok: true, revision: { revision: 3 } });
    const back = { kind: "roll_back", policy: "gateway", channel: "stable" } as const;
    for (const revision of [null, 1, 2])
      expect(await change({ ...back, revision })).toMatchObject({ code: "policy_no_revision" });
    await world.settle();
    expect(await both(world)).toEqual([
      { version: "r2", revision: 3 },
      { version: "r2", revision: 3 },
    ]);
    expect(world.publisher.policy("gateway")!.revisions).toHaveLength(1);
  });
});

test("a version is of one bundle for ever, however many revisions came since", { timeout: 60_000 }, async () => {
  const world = await begun("r0", "r1", "r2");
  for (let moves = 0; moves < (isDeep ? 1_000 : 80); moves += 1) {
    const back = { kind: "roll_back", policy: "gateway", channel: "stable", revision: null } as const;
    expect(await world.publisher.change({ principal, intent: null }, back)).toMatchObject({ ok: true });
  }
  const bundle = { ...(await world.keep("other")), version: "r0" };
  const change = { kind: "publish", policy: "gateway", channel: "canary", bundle } as const;
  expect(await world.publisher.change({ principal, intent: null }, change)).toMatchObject({
    code: "policy_version_taken",
  });
});

test("whatever is asked in whatever order, also at once, revisions count up by one and the stores end where the last one led", async () => {
  const text = fc.constantFrom("r1", "r2", "r3");
  const channel = fc.constantFrom(...channelNames);
  const step = fc.oneof(
    fc.record({ kind: fc.constant("publish" as const), text, channel }),
    fc.record({ kind: fc.constant("promote" as const), from: channel, to: channel }),
    fc.record({
      kind: fc.constant("roll_back" as const),
      channel,
      revision: fc.option(fc.integer({ min: 1, max: 4 })),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), fc.boolean(), async (wishes, atOnce) => {
      const world = await begun();
      const history: Record<Channel, string[]> = { stable: [], canary: [] };
      const expectMoved = (on: Channel, to: string | undefined): boolean => {
        if (to === undefined) return false;
        if (history[on].at(-1) !== to) history[on].push(to);
        return true;
      };
      const ask = async (wish: (typeof wishes)[number]): Promise<boolean> => {
        if (wish.kind === "publish") return (await world.publish(wish.text, "gateway", wish.channel)).ok;
        return (await world.publisher.change({ principal, intent: null }, { policy: "gateway", ...wish })).ok;
      };
      const model = (wish: (typeof wishes)[number]): boolean => {
        if (wish.kind === "publish") return expectMoved(wish.channel, wish.text);
        if (wish.kind === "promote") return expectMoved(wish.to, history[wish.from].at(-1));
        const past = history[wish.channel];
        const to = wish.revision === null ? past.findLast((other) => other !== past.at(-1)) : past[wish.revision - 1];
        return expectMoved(wish.channel, to);
      };
      // Publishes keep their bundle first, which takes turns: at once comes only what needs no upload.
      const moves = atOnce ? wishes.filter(({ kind }) => kind !== "publish") : [];
      for (const wish of wishes.filter((one) => !moves.includes(one))) expect(await ask(wish)).toBe(model(wish));
      expect(await Promise.all(moves.map(ask))).toEqual(moves.map(model));
      await world.settle();
      for (const on of channelNames) {
        const path = `gateway/${on}/bundle.tar.gz`;
        const last = history[on].at(-1);
        const expected = last === undefined ? null : { version: last, revision: history[on].length };
        expect([await world.served(world.a, path), await world.served(world.b, path)]).toEqual([expected, expected]);
      }
      const changes = world.events().slice(1);
      expect(changes.map(({ attributes }) => attributes["targets_version"])).toEqual(
        changes.map((_, index) => index + 2),
      );
    }),
    { numRuns: isDeep ? 300 : 6 },
  );
});

describe("what nothing names", () => {
  const dayMs = 24 * 3_600_000;
  const days = async (world: PublisherWorld, count: number): Promise<void> => {
    for (let day = 0; day < count; day += 10) {
      world.now += Math.min(10, count - day) * dayMs;
      await world.publisher.sweep();
      await world.settle();
    }
  };
  /** Both revisions were at both providers. */
  const moved = async (): Promise<PublisherWorld> => {
    const world = await begun("r1");
    await world.publish("r2");
    await world.settle();
    return world;
  };
  const back = (world: PublisherWorld) =>
    world.publisher.change(
      { principal, intent: null },
      { kind: "roll_back", policy: "gateway", channel: "stable", revision: 1 },
    );
  const contents = (store: MemoryStore, prefix: string): string[] =>
    [...store.objects.keys()].filter((key) => key.startsWith(prefix)).toSorted();
  const bundleKey = async (world: PublisherWorld, text: string): Promise<string> =>
    `policies/${slug}/${(await world.keep(text)).bundle_sha256}.tar.gz`;

  test("for longer than any metadata lives is taken from both stores, and nothing else is", async () => {
    const world = await moved();
    const [first, second] = [await bundleKey(world, "r1"), await bundleKey(world, "r2")];
    await days(world, keptMs / dayMs - 10);
    for (const store of [world.a, world.b]) expect(contents(store, "policies/")).toEqual([first, second].toSorted());
    await days(world, 20);
    for (const store of [world.a, world.b]) {
      expect(contents(store, "policies/")).toEqual([second]);
      expect(contents(store, "statements/")).toHaveLength(1);
      expect(contents(store, "tuf/")).toContain(`tuf/${slug}/1.root.json`);
      expect(contents(store, "tuf/")).not.toContain(`tuf/${slug}/2.targets.json`);
      expect(await world.served(store)).toEqual({ version: "r2", revision: 2 });
    }
    // What was collected is there again where a rollback names it.
    expect(await back(world)).toMatchObject({ ok: true, revision: { revision: 3 } });
    await world.settle();
    expect(await both(world)).toEqual([
      { version: "r1", revision: 3 },
      { version: "r1", revision: 3 },
    ]);
  });

  test("is collected a bounded number at a time, from a store that is well while the other one is down", async () => {
    const world = await begun();
    for (let count = 0; count < 20; count += 1) {
      await world.publish(`r${count}`);
      await world.settle();
    }
    const before = contents(world.a, "").length;
    await days(world, keptMs / dayMs - 5);
    world.b.meet = (call) => {
      if (call === "remove") throw new Error("down");
    };
    const removed: number[] = [];
    let runs = 0;
    world.a.meet = (call) => void (call === "remove" && (removed[runs] = (removed[runs] ?? 0) + 1));
    world.now += 10 * dayMs;
    for (runs = 0; runs < 4; runs += 1) await world.publisher.sweep();
    expect(removed.slice(0, 2)).toEqual([collectedMax, collectedMax]);
    expect(contents(world.a, "").length).toBeLessThan(before - collectedMax);
    expect(contents(world.b, "policies/")).toHaveLength(20);
    expect(stateOf(world)).toEqual({ a: "current", b: "current" });
  });

  test(
    "may be named again at any call of a collection, and is there then, also after a death",
    { timeout: 60_000 },
    async () => {
      const aged = async (): Promise<PublisherWorld> => {
        const world = await moved();
        await days(world, keptMs / dayMs - 5);
        world.now += 10 * dayMs;
        return world;
      };
      const counted = await aged();
      const before = counted.death.calls;
      await counted.publisher.sweep();
      const calls = counted.death.calls - before;
      expect(calls).toBeGreaterThan(20);
      for (const at of sampledPlaces(calls, 34)) {
        for (const when of ["before", "after"] as const) {
          const world = await aged();
          Object.assign(world.death, { at: world.death.calls + at, when });
          await Promise.race([world.publisher.sweep(), world.death.happened]);
          await world.reopen();
          const where = `died at call ${at}, ${when}`;
          for (const store of [world.a, world.b])
            expect(await world.served(store), where).toMatchObject({ version: "r2" });
          expect(await back(world), where).toMatchObject({ ok: true });
          await world.settle();
          for (let minute = 0; minute < 3; minute += 1) await world.publisher.sweep();
          const expected = { version: "r1", revision: 3 };
          expect(await both(world), where).toEqual([expected, expected]);
        }
        // Without a death: the decision comes in the middle of the collection.
        const world = await aged();
        let count = 0;
        let decided: Promise<unknown> = Promise.resolve();
        const meet = (): void => {
          count += 1;
          if (count === at) decided = back(world).then(() => world.publisher.catchUp());
        };
        world.a.meet = meet;
        world.b.meet = meet;
        await world.publisher.sweep();
        await decided;
        await back(world);
        await world.settle();
        const expected = { version: "r1", revision: 3 };
        expect(await both(world), `decided at call ${at}`).toEqual([expected, expected]);
      }
    },
  );
});

describe("fetchers' keys", () => {
  const key = (letter: string) => ({ key_sha256: letter.repeat(64), fetcher_id: `key_${letter}`, expires_at: null });
  const names = (store: MemoryStore): string[] =>
    [...store.objects.keys()].filter((name) => name.startsWith("fetchers/")).map((name) => name[9]!);

  test("are in both stores while they may read, and in none after", async () => {
    const world = await begun();
    world.fetchers = [key("a"), { ...key("b"), expires_at: "2026-12-31T00:00:00.000Z" }];
    world.publisher.nudgeFetchers();
    await world.publisher.catchUp();
    expect([names(world.a), names(world.b)]).toEqual([
      ["a", "b"],
      ["a", "b"],
    ]);
    const text = Buffer.from(world.a.objects.get(`fetchers/${"b".repeat(64)}.json`)!).toString();
    expect(JSON.parse(text)).toEqual({ fetcher_id: "key_b", tenant: slug, expires_at: "2026-12-31T00:00:00.000Z" });
    world.fetchers = [key("b")];
    await world.publisher.sweep();
    expect([names(world.a), names(world.b)]).toEqual([["b"], ["b"]]);
  });

  test("are taken from a store that was down as soon as it is back", async () => {
    const world = await begun();
    world.fetchers = [key("a")];
    await world.publisher.sweep();
    world.fetchers = [];
    world.b.meet = () => {
      throw new Error("down");
    };
    world.publisher.nudgeFetchers();
    await world.publisher.catchUp();
    expect([names(world.a), names(world.b)]).toEqual([[], ["a"]]);
    world.b.meet = () => undefined;
    await world.settle();
    expect(names(world.b)).toEqual([]);
  });

  test("wait for a store that is down without being read again and again, and a revoked one waits for nobody", async () => {
    const world = await begun("r1");
    world.fetchers = [key("a"), key("b")];
    await world.publisher.sweep();
    world.fetchers = [key("b")];
    world.b.meet = () => {
      throw new Error("down");
    };
    world.publisher.nudgeFetchers();
    await world.publisher.catchUp();
    expect(world.publisher.nextDue()).toBe(world.now + 60_000);
    world.fetchers = [];
    world.publisher.nudgeFetchers();
    expect(world.publisher.nextDue()).toBe(world.now);
    await world.publisher.catchUp();
    expect([names(world.a), names(world.b)]).toEqual([[], ["a", "b"]]);
    world.b.meet = () => undefined;
    await world.settle();
    expect([names(world.a), names(world.b)]).toEqual([[], []]);
  });

  test("do not come back with a write that arrives after they were taken back", async () => {
    const world = await begun();
    world.fetchers = [key("a")];
    let arrive = (): void => undefined;
    const late = new Promise<void>((resolve) => (arrive = resolve));
    world.b.delay = (name) => (name.startsWith("fetchers/") ? late : null);
    await world.publisher.sweep();
    world.b.delay = () => null;
    world.fetchers = [];
    await world.publisher.sweep();
    await world.reopen();
    expect([names(world.a), names(world.b)]).toEqual([[], []]);
    arrive();
    await late;
    expect(names(world.b)).toEqual(["a"]);
    world.now += 60_000;
    await world.publisher.sweep();
    expect(names(world.b)).toEqual([]);
    expect(world.logged.at(-1)).toContain("taken back");
    // Looked for each minute for a day, and then no more; one that may read again is nobody's to remove.
    const looks: string[] = [];
    world.b.meet = (call, name) => void looks.push(`${call} ${name.slice(0, 10)}`);
    world.now += 60_000;
    await world.publisher.sweep();
    expect(looks).toContain("digest fetchers/a");
    world.fetchers = [key("a")];
    for (let minute = 0; minute < 3; minute += 1) {
      world.now += 60_000;
      await world.publisher.sweep();
    }
    expect(names(world.b)).toEqual(["a"]);
    world.fetchers = [];
    await world.publisher.sweep();
    world.now += 24 * 3_600_000;
    looks.length = 0;
    await world.publisher.sweep();
    expect(looks.filter((look) => look.endsWith("fetchers/a"))).toEqual([]);
  });

  test("are taken from a store that is well while another one hangs", async () => {
    const world = await begun("r1");
    world.fetchers = [key("a"), key("b")];
    await world.publisher.sweep();
    let release = (): void => undefined;
    const hung = new Promise<void>((resolve) => (release = resolve));
    world.b.meet = () => hung;
    const sweeping = world.publisher.sweep();
    world.fetchers = [key("a")];
    world.publisher.nudgeFetchers();
    const first = world.publisher.catchUp();
    await expect.poll(() => names(world.a)).toEqual(["a"]);
    world.fetchers = [];
    world.publisher.nudgeFetchers();
    const second = world.publisher.catchUp();
    await expect.poll(() => names(world.a)).toEqual([]);
    expect(names(world.b)).toEqual(["a", "b"]);
    world.b.meet = () => undefined;
    release();
    await Promise.all([sweeping, first, second]);
    await world.settle();
    expect(names(world.b)).toEqual([]);
  });

  test("are taken back also from a store that got an older timestamp late", async () => {
    const world = await begun("r1");
    const old = world.b.objects.get("tuf/acme/timestamp.json")!;
    world.fetchers = [key("a"), key("b")];
    await world.publisher.sweep();
    await world.publish("r2");
    await world.settle();
    world.b.objects.set("tuf/acme/timestamp.json", old);
    world.fetchers = [key("b")];
    await world.publisher.sweep();
    await world.settle();
    expect([names(world.a), names(world.b)]).toEqual([["b"], ["b"]]);
  });

  test("are taken back also where the publisher died while it put them", async () => {
    for (const when of ["before", "after"] as const) {
      for (let calls = 0; calls < 6; calls += 1) {
        const world = await begun();
        world.fetchers = [key("a")];
        world.publisher.nudgeFetchers();
        Object.assign(world.death, { at: world.death.calls + calls, when });
        await Promise.race([world.publisher.catchUp(), world.death.happened]);
        world.fetchers = [];
        await world.reopen();
        world.publisher.nudgeFetchers();
        await world.settle();
        expect([names(world.a), names(world.b)], `died at call ${calls}, ${when}`).toEqual([[], []]);
      }
    }
  });
});
