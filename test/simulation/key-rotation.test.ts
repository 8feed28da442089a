// Rotations with a death at each call of their target, and consumers that never acknowledge.

import { expect, test } from "vitest";
import { rotationStates } from "../../shared/contract/http-rotations.ts";
import type { RotationTarget } from "../../shared/rotation/target.ts";
import { tenantId } from "./audit-events.ts";
import { alice, bob, call, kid, RotationWorld } from "./rotation-world.ts";

test("a rotation goes through its states in their order, each with its time and its event", async () => {
  const world = new RotationWorld();
  const { id } = world.started();
  await world.settle();
  const rotation = world.shown(id);
  expect(rotation).toMatchObject({ state: "revoked", waiting_for: [], obstacle: null, emergency: null });
  expect(rotation.transitions.map(({ state }) => state)).toEqual(rotationStates);
  expect(world.events().map(({ outcome }) => outcome)).toEqual(rotationStates);
  expect(world.events()[2]).toEqual({
    outcome: "acknowledged",
    principal: null,
    consumers: "api",
    new_kids: kid(2),
  });
  expect(world.keys).toMatchObject({ signing: 2, live: [2, 2, 2], destroyed: new Set([1]), revoked: new Set() });
  expect(world.rotations.counts(tenantId)).toEqual({ started: 1, completed: 1, emergency: 0, cancelled: 0 });
  expect(world.rotations.nextDue()).toBeNull();
});

test("MC-ZTE-1942: after a death at any call, before or after its effect, the rotation ends where it would have ended, and tells each state once", async () => {
  const counting = new RotationWorld();
  counting.started();
  await counting.settle();
  const calls = counting.death.calls;
  expect(calls).toBeGreaterThan(9);
  for (let at = 0; at < calls; at += 1) {
    for (const when of ["before", "after"] as const) {
      const world = new RotationWorld();
      Object.assign(world.death, { at, when });
      const { id } = world.started("intent");
      await Promise.race([world.settle(), world.death.happened]);
      world.reopen();
      const where = `died at call ${at}, ${when}`;
      expect(world.started("intent").id, where).toBe(id);
      await world.settle();
      expect(world.shown(id).state, where).toBe("revoked");
      expect(
        world.events().map(({ outcome }) => outcome),
        where,
      ).toEqual(rotationStates);
      expect(world.keys, where).toMatchObject({
        count: 2,
        signing: 2,
        live: [2, 2, 2],
        tainted: new Set([1]),
        published: new Set([1, 2]),
        destroyed: new Set([1]),
        revoked: new Set(),
      });
      const { order } = world.keys;
      const first = (name: string): number => order.indexOf(name);
      expect(order.lastIndexOf("publish"), where).toBeLessThan(first("activate"));
      expect(order.lastIndexOf("activate"), where).toBeLessThan(first("verify"));
      expect(order.lastIndexOf("verify"), where).toBeLessThan(first("revoke"));
    }
  }
});

test("a consumer that never acknowledges blocks the switch, and is named; however much time passes", async () => {
  const world = new RotationWorld();
  world.rotations.addConsumer(call(), "plant-7-verifier");
  world.rotations.addConsumer(call(), "plant-8-verifier");
  const { id } = world.started();
  await world.settle();
  expect(world.rotations.acknowledge(call(bob), id, "plant-8-verifier", [kid(2)])).toMatchObject({ ok: true });
  world.now += 400 * 24 * 3_600_000;
  await world.settle(50);
  expect(world.shown(id)).toMatchObject({
    state: "published",
    waiting_for: ["plant-7-verifier"],
    obstacle: "waiting for plant-7-verifier",
  });
  expect(world.keys.signing).toBe(1);
  // To strike it out would be an emergency by one person.
  expect(world.rotations.removeConsumer(call(), "plant-7-verifier")).toMatchObject({
    ok: false,
    code: "rotation_running",
  });
  expect(world.rotations.acknowledge(call(bob), id, "plant-7-verifier", [kid(9)])).toMatchObject({
    ok: false,
    code: "rotation_state",
    detail: expect.stringContaining(kid(2)) as string,
  });
  expect(world.rotations.acknowledge(call(bob), id, "stranger", [kid(2)])).toMatchObject({ code: "not_found" });
  for (const _ of [1, 2])
    expect(world.rotations.acknowledge(call(bob), id, "plant-7-verifier", [kid(2)])).toMatchObject({ ok: true });
  await world.settle();
  expect(world.shown(id).state).toBe("revoked");
  expect(world.events()[2]!.consumers).toBe("api,plant-7-verifier,plant-8-verifier");
});

test("each word of a consumer is an event by whoever gave it: added, acknowledged, removed; said twice, it is one", async () => {
  const world = new RotationWorld();
  for (const _ of [1, 2]) world.rotations.addConsumer(call(), "plant-7-verifier");
  const { id } = world.started();
  await world.settle();
  world.rotations.acknowledge(call(bob), id, "plant-7-verifier", [kid(9)]);
  world.rotations.removeConsumer(call(bob), "plant-7-verifier");
  for (const _ of [1, 2]) world.rotations.acknowledge(call(bob), id, "plant-7-verifier", [kid(2)]);
  await world.settle();
  for (const _ of [1, 2]) world.rotations.removeConsumer(call(), "plant-7-verifier");
  expect(world.words()).toEqual([
    [alice, "added", "plant-7-verifier", null],
    [bob, "acknowledged", "plant-7-verifier", id],
    [alice, "removed", "plant-7-verifier", null],
  ]);
});

test("a step that fails is told, tried again ever more rarely, and at once when someone asks", async () => {
  const world = new RotationWorld();
  world.keys.fail = "activate";
  const { id } = world.started();
  await world.rotations.advance();
  const waits: number[] = [];
  for (let tries = 0; tries < 8; tries += 1) {
    const due = world.rotations.nextDue()!;
    waits.push(due - world.now);
    world.now = due;
    await world.rotations.advance();
  }
  expect(waits).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  expect(world.shown(id)).toMatchObject({
    state: "acknowledged",
    obstacle: "the step after acknowledged failed (Error)",
  });
  expect(world.rotations.start(call())).toMatchObject({ ok: false, code: "rotation_running" });
  world.keys.fail = null;
  world.rotations.resume(id);
  expect(world.rotations.nextDue()).toBe(world.now);
  await world.settle();
  expect(world.shown(id).state).toBe("revoked");
});

/** An authority that others rotate: `seen` says how far they are, and every step goes on at most one state behind them. */
function observed(world: RotationWorld, facts: { inForce: number[]; seen: string[] }): void {
  const key = (n: number) => ({ slot: "x509", kid: kid(n) });
  const unless = (fact: string) => (): Promise<string | null> =>
    Promise.resolve(facts.seen.includes(fact) ? null : `not ${fact} yet`);
  const target: RotationTarget = {
    cancellable: ["prepare", "published", "acknowledged"],
    withdraw: () => Promise.resolve(null),
    prepare: (_, found) => {
      const old = found?.old ?? facts.inForce.map(key);
      const next = facts.inForce.map(key).filter(({ kid: one }) => old.every(({ kid: other }) => other !== one));
      return Promise.resolve(
        next.length > 0 ? { old, new: next } : { found: { old, new: [] }, obstacle: "no new authority" },
      );
    },
    publish: () => Promise.resolve(),
    consumers: () => Promise.resolve([]),
    activate: unless("activated"),
    taint: unless("watched"),
    verify: unless("renewed"),
    revoke: unless("revoked"),
    breaks: () => Promise.resolve([]),
    lookAgainMs: (waitedMs) => 1_000 + waitedMs,
  };
  world.watch(() => target);
}

test("a rotation that only looks goes on as it sees, says what it waits for, and knows which keys were the old ones after a death at any state", async () => {
  const world = new RotationWorld();
  const facts = { inForce: [1, 2], seen: [] as string[] };
  observed(world, facts);
  const { id } = world.started();
  const anew = async () => {
    await world.settle(3);
    world.reopen();
    world.rotations.resume(id);
    await world.settle(3);
    return world.shown(id);
  };
  expect(await anew()).toMatchObject({ state: "prepare", obstacle: "no new authority", new_keys: [] });
  expect(world.rotations.acknowledge(call(), id, "nobody", [kid(3)])).toMatchObject({ code: "not_found" });
  facts.inForce = [1, 2, 3];
  expect(await anew()).toMatchObject({
    state: "acknowledged",
    obstacle: "not activated yet",
    old_keys: [{ kid: kid(1) }, { kid: kid(2) }],
    new_keys: [{ kid: kid(3) }],
  });
  for (const [fact, state] of [
    ["activated", "active"],
    ["watched", "tainted"],
    ["renewed", "verified"],
  ] as const) {
    facts.seen.push(fact);
    expect(await anew()).toMatchObject({ state, obstacle: expect.stringMatching(/^not \w+ yet$/) as string });
  }
  facts.seen.push("revoked");
  expect(await anew()).toMatchObject({ state: "revoked", obstacle: null });
  expect(world.events().map(({ outcome }) => outcome)).toEqual(rotationStates);
});

test("what waits for people is looked at ever more rarely, and at once when someone asks", async () => {
  const world = new RotationWorld();
  observed(world, { inForce: [1], seen: [] });
  const { id } = world.started();
  const waits: number[] = [];
  for (let looks = 0; looks < 4; looks += 1) {
    await world.rotations.advance();
    const due = world.rotations.nextDue()!;
    waits.push(due - world.now);
    world.now = due;
  }
  expect(waits).toEqual([1_000, 2_000, 4_000, 8_000]);
  world.rotations.resume(id);
  expect(world.rotations.nextDue()).toBe(world.now);
});
