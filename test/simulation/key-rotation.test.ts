// Rotations with a death at each call of their target, consumers that never acknowledge, and emergencies.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { parseEvent } from "../../shared/contract/events.ts";
import { rotationStates } from "../../shared/contract/http-rotations.ts";
import { objectOutboxSchema } from "../../shared/outbox/object-outbox.ts";
import type { RotationCall } from "../../shared/rotation/rotation-ledger.ts";
import { Rotations } from "../../shared/rotation/rotations.ts";
import type { RotatedKeys } from "../../shared/rotation/service.ts";
import type { RotationTarget } from "../../shared/rotation/target.ts";
import { openSql, type OpenSql } from "../support/sqlite.ts";
import { randomBytes, seeded, tenantId } from "./audit-events.ts";
import { Death } from "./publisher-world.ts";

const [alice, bob] = [`pri_${"a".repeat(26)}`, `pri_${"b".repeat(26)}`] as const;
const call = (principal: string = alice, intent: string | null = null): RotationCall => ({
  tenant_id: tenantId,
  principal,
  intent,
});
const kid = (n: number): string => n.toString(16).padStart(64, "0");

/** Keys as their ring and their verifiers have them. */
class Keys {
  count = 1;
  signing = 1;
  readonly made = new Map<string, number>();
  readonly published = new Set([1]);
  readonly tainted = new Set<number>();
  readonly destroyed = new Set<number>();
  readonly revoked = new Set<number>();
  /** By which key what is live was signed. */
  live = [1, 1, 1];
  isHeld = true;
  readonly order: string[] = [];
  fail: string | null = null;

  target(death: Death): RotationTarget {
    const does = <T>(name: string, work: () => T): Promise<T> =>
      death.around(() => {
        if (this.fail === name) throw new Error(`${name} failed`);
        this.order.push(name);
        return work();
      });
    const numbers = ({ old, new: next }: RotatedKeys) =>
      [Number(`0x${old[0]!.kid}`), Number(`0x${next[0]!.kid}`)] as const;
    return {
      prepare: (rotation) =>
        does("prepare", () => {
          const known = this.made.get(rotation) ?? (this.count += 1);
          this.made.set(rotation, known);
          return { old: [{ slot: "release", kid: kid(this.signing) }], new: [{ slot: "release", kid: kid(known) }] };
        }),
      publish: (_, keys) => does("publish", () => void this.published.add(numbers(keys)[1])),
      consumers: () => does("consumers", () => [{ name: "api", holds: this.isHeld }]),
      activate: (_, keys) => does("activate", () => void (this.signing = numbers(keys)[1])),
      taint: (_, keys) => does("taint", () => void this.tainted.add(numbers(keys)[0])),
      verify: (_, keys) =>
        does("verify", () => {
          const at = this.live.findIndex((by) => by === numbers(keys)[0]);
          if (at < 0) return null;
          this.live[at] = this.signing;
          return "one was signed anew";
        }),
      revoke: (_, keys, compromised) =>
        does("revoke", () => {
          this.destroyed.add(numbers(keys)[0]);
          if (compromised) this.revoked.add(numbers(keys)[0]);
        }),
      breaks: () => does("breaks", () => ["Signatures are refused."]),
    };
  }
}

class RotationWorld {
  now = Date.UTC(2026, 5, 1);
  readonly keys = new Keys();
  readonly logged: string[] = [];
  death = new Death();
  #watched: (() => RotationTarget) | null = null;
  rotations!: Rotations;
  #sql!: OpenSql;
  readonly #path: string;
  readonly #next = seeded(3);

  constructor() {
    const folder = mkdtempSync(join(tmpdir(), "rotations-"));
    this.#path = join(folder, "object.sqlite");
    this.reopen();
    onTestFinished(() => {
      this.#sql.close();
      rmSync(folder, { recursive: true, force: true });
    });
  }

  /** The object anew, on what was durable. */
  reopen(): void {
    (this.#sql as OpenSql | undefined)?.close();
    this.#sql = openSql(this.#path);
    this.#sql.exec(objectOutboxSchema);
    this.death = new Death();
    const { death } = this;
    this.rotations = new Rotations({
      sql: this.#sql,
      clock: () => this.now,
      random: (byteCount) => randomBytes(this.#next, byteCount),
      log: (_, message) => void this.logged.push(message),
      rotated: { kind: "release", trust_domain: null },
      target: () => this.#watched?.() ?? this.keys.target(death),
    });
  }

  /** Another kind of keys than those of a ring. */
  watch(target: () => RotationTarget): void {
    this.#watched = target;
  }

  /** The alarm, as often as it comes. */
  async settle(turnsMax = 20): Promise<void> {
    for (let turns = 0; turns < turnsMax; turns += 1) {
      const due = this.rotations.nextDue();
      if (due === null) return;
      this.now = due;
      await this.rotations.advance();
    }
  }

  started(intent: string | null = null) {
    const answer = this.rotations.start(call(alice, intent));
    if (!answer.ok) throw new Error(answer.detail);
    return answer.rotation;
  }

  shown(id: string) {
    const answer = this.rotations.show(id);
    if (!answer.ok) throw new Error(answer.detail);
    return answer.rotation;
  }

  events(): { outcome: string; principal: string | null; consumers: string; new_kids: string }[] {
    return this.#eventsOf("mc.key.rotation").map(({ principal, attributes }) => {
      const { outcome, consumers, new_kids } = attributes;
      return { principal, outcome: outcome!, consumers: consumers!, new_kids: new_kids! };
    });
  }

  /** What was done to consumers, in order: by whom, what, to which, and for which rotation. */
  words(): unknown[] {
    return this.#eventsOf("mc.key.consumer").map(({ principal, attributes }) => {
      const { outcome, consumer, rotation_id } = attributes;
      return [principal, outcome, consumer, rotation_id];
    });
  }

  #eventsOf(type: string) {
    return this.#sql
      .exec<{ body: string }>("select body from outbox order by id")
      .map(({ body }) => {
        const event: unknown = JSON.parse(body);
        if (!parseEvent(event).ok) throw new Error(`not of the catalogue: ${body}`);
        return event as { type: string; principal: string; attributes: Record<string, never> };
      })
      .filter((event) => event.type === type);
  }
}

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
  expect(world.rotations.counts(tenantId)).toEqual({ started: 1, completed: 1, emergency: 0 });
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

test("what is built in must be seen to hold the new keys, in an emergency too", async () => {
  const world = new RotationWorld();
  world.keys.isHeld = false;
  const { id } = world.started();
  await world.settle();
  expect(world.shown(id)).toMatchObject({ state: "published", waiting_for: ["api"] });
  await world.rotations.propose(call(), "stolen", null);
  await world.rotations.approve(call(bob), id);
  await world.settle();
  expect(world.shown(id)).toMatchObject({ state: "published", waiting_for: ["api"] });
  world.keys.isHeld = true;
  await world.settle();
  expect(world.shown(id).state).toBe("revoked");
});

test("an emergency says what it breaks, does nothing before it is approved, waits for nobody then, and revokes", async () => {
  const world = new RotationWorld();
  world.rotations.addConsumer(call(), "plant-7-verifier");
  const { id } = world.started();
  await world.settle();
  const proposed = await world.rotations.propose(call(alice, "intent"), "the key was seen elsewhere", null);
  expect(proposed).toMatchObject({
    ok: true,
    proposal: {
      id,
      breaks: [expect.stringContaining("plant-7-verifier has not acknowledged") as string, "Signatures are refused."],
    },
  });
  expect(await world.rotations.propose(call(alice, "intent"), "the key was seen elsewhere", null)).toEqual(proposed);
  await world.settle();
  expect(world.shown(id)).toMatchObject({ state: "published", emergency: null });
  for (const _ of [1, 2]) expect(await world.rotations.approve(call(bob), id)).toMatchObject({ ok: true });
  await world.settle();
  expect(world.shown(id)).toMatchObject({
    state: "revoked",
    emergency: { proposed_by: alice, approved_by: bob, reason: "the key was seen elsewhere" },
  });
  expect(world.keys.revoked).toEqual(new Set([1]));
  expect(world.events().map(({ outcome }) => outcome)).toEqual([
    "prepare",
    "published",
    "proposed",
    "approved",
    ...rotationStates.slice(2),
  ]);
  expect(world.rotations.counts(tenantId)).toEqual({ started: 1, completed: 0, emergency: 1 });
  expect(world.rotations.list().proposals).toEqual([]);
});

test("an emergency where nothing runs begins with its approval", async () => {
  const world = new RotationWorld();
  const proposed = await world.rotations.propose(call(), "stolen", null);
  const id = proposed.ok ? proposed.proposal.id : "";
  expect([world.rotations.nextDue(), world.rotations.show(id).ok]).toEqual([null, false]);
  expect(await world.rotations.approve(call(bob), `rot_${"0".repeat(26)}`)).toMatchObject({ code: "not_found" });
  expect(await world.rotations.approve(call(bob), id)).toMatchObject({ ok: true });
  await world.settle();
  expect(world.keys).toMatchObject({ signing: 2, revoked: new Set([1]) });
});

test("a rotation that became an emergency after it was verified revokes all the same", async () => {
  const world = new RotationWorld();
  world.keys.fail = "revoke";
  const { id } = world.started();
  await world.settle(6);
  expect(world.shown(id)).toMatchObject({ state: "verified" });
  await world.rotations.propose(call(), "stolen", null);
  await world.rotations.approve(call(bob), id);
  world.keys.fail = null;
  await world.settle();
  expect([world.shown(id).state, world.keys.revoked]).toEqual(["revoked", new Set([1])]);
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

/** Authorities of a trust domain: none of them the product's, so that an emergency distrusts those that it names. */
class Authorities {
  readonly inForce = new Set([1, 2]);
  readonly distrusted: number[] = [];
  readonly order: string[] = [];
  isReady = false;
  isMirrored = true;

  target(death: Death): RotationTarget {
    const does = <T>(name: string, work: () => T): Promise<T> =>
      death.around(() => {
        this.order.push(name);
        return work();
      });
    const named = (numbers: readonly number[]) => numbers.map((n) => ({ slot: "x509", kid: kid(n) }));
    const numbersOf = (keys: readonly { readonly kid: string }[]) => keys.map(({ kid: text }) => Number(`0x${text}`));
    const nothing = () => does("nothing", () => null);
    return {
      prepare: (_, found, compromised) =>
        does("prepare", () => {
          const old = found?.old ?? named([1]);
          if (!compromised && !this.isReady) return { found: { old, new: [] }, obstacle: "nothing new is in force" };
          if (compromised) for (const n of numbersOf(old)) if (this.inForce.delete(n)) this.distrusted.push(n);
          return { old, new: named([...this.inForce]) };
        }),
      publish: nothing,
      consumers: () => does("consumers", () => []),
      activate: nothing,
      taint: nothing,
      verify: nothing,
      revoke: () => does("revoke", () => (this.isMirrored ? null : "edge-b has not the bundle in force yet")),
      breaks: (keys) => does("breaks", () => [`Refused: ${numbersOf(keys).join(", ")}.`]),
      emergencyKeys: (wanted) =>
        does("emergencyKeys", () => {
          const keys = wanted ?? named([...this.inForce]);
          if (keys.length > 0) return { ok: true, keys };
          return { ok: false, code: "rotation_distrusts_max", detail: "There is no room." };
        }),
    };
  }
}

function worldOfAuthorities(): { readonly world: RotationWorld; readonly authorities: Authorities } {
  const world = new RotationWorld();
  const authorities = new Authorities();
  world.watch(() => authorities.target(world.death));
  return { world, authorities };
}

async function proposedId(world: RotationWorld, n: number | null): Promise<string> {
  const wanted = n === null ? null : [{ slot: "x509", kid: kid(n) }];
  const answer = await world.rotations.propose(call(), "stolen", wanted);
  if (!answer.ok) throw new Error(answer.detail);
  return answer.proposal.id;
}

test("MC-ZTE-1942: an emergency that names its keys goes beside the rotation that runs, is not held up by it, and leaves it as it was", async () => {
  const { world, authorities } = worldOfAuthorities();
  world.rotations.addConsumer(call(), "plant-7-proxy");
  const planned = world.started();
  await world.settle(2);
  expect(world.shown(planned.id)).toMatchObject({ state: "prepare", old_keys: [{ kid: kid(1) }] });
  // Nobody named any: the old ones of the rotation that runs.
  const first = await world.rotations.propose(call(), "stolen", null);
  expect(first).toMatchObject({
    proposal: {
      old_keys: [{ kid: kid(1) }],
      breaks: [expect.stringContaining("plant-7-proxy verifies with a bundle of its own") as string, "Refused: 1."],
    },
  });
  const id = await proposedId(world, 2);
  expect([id === planned.id, authorities.distrusted]).toEqual([false, []]);
  // A proposal that was replaced is none: what is approved is what was read.
  expect(await world.rotations.approve(call(bob), first.ok ? first.proposal.id : "")).toMatchObject({
    code: "not_found",
  });
  authorities.isMirrored = false;
  expect(await world.rotations.approve(call(bob), id)).toMatchObject({ ok: true });
  await world.rotations.advance();
  expect([authorities.distrusted, world.shown(id).state]).toEqual([[2], "verified"]);
  expect(world.shown(planned.id)).toMatchObject({ state: "prepare", emergency: null });
  // A second one waits for neither.
  const second = await proposedId(world, 1);
  await world.rotations.approve(call(bob), second);
  await world.rotations.advance();
  expect([authorities.distrusted, world.shown(second).state]).toEqual([[2, 1], "verified"]);
  expect(world.started.bind(world)).toThrow("is verified");
  authorities.isMirrored = true;
  await world.settle(6);
  expect([id, second].map((each) => world.shown(each).state)).toEqual(["revoked", "revoked"]);
  authorities.isReady = true;
  authorities.inForce.add(3);
  await world.settle(6);
  expect(world.shown(planned.id)).toMatchObject({ state: "published", waiting_for: ["plant-7-proxy"] });
  expect(world.rotations.removeConsumer(call(), "plant-7-proxy")).toMatchObject({ code: "rotation_running" });
  world.rotations.acknowledge(call(bob), planned.id, "plant-7-proxy", [kid(3)]);
  await world.settle(6);
  expect(world.shown(planned.id)).toMatchObject({ state: "revoked", emergency: null });
  expect(world.rotations.counts(tenantId)).toEqual({ started: 3, completed: 1, emergency: 2 });
});

test("one that is refused, for want of room, is no proposal", async () => {
  const { world, authorities } = worldOfAuthorities();
  authorities.inForce.clear();
  expect(await world.rotations.propose(call(), "stolen", null)).toMatchObject({ code: "rotation_distrusts_max" });
  expect([world.rotations.list().proposals, world.events()]).toEqual([[], []]);
});

test("MC-ZTE-1942: after a death at any call of it, before or after its effect, it distrusts once, and tells each state once", async () => {
  const counting = worldOfAuthorities();
  await counting.world.rotations.approve(call(bob), await proposedId(counting.world, 1));
  await counting.world.settle();
  const { calls } = counting.world.death;
  expect(calls).toBeGreaterThan(8);
  for (let at = 2; at < calls; at += 1) {
    for (const when of ["before", "after"] as const) {
      const { world, authorities } = worldOfAuthorities();
      const where = `died at call ${at}, ${when}`;
      const id = await proposedId(world, 1);
      Object.assign(world.death, { at, when });
      await world.rotations.approve(call(bob), id);
      await Promise.race([world.settle(), world.death.happened]);
      world.reopen();
      await world.settle();
      expect([where, world.shown(id).state, authorities.distrusted]).toEqual([where, "revoked", [1]]);
      expect(
        world.events().map(({ outcome }) => outcome),
        where,
      ).toEqual(["proposed", "prepare", "approved", ...rotationStates.slice(1)]);
    }
  }
});
