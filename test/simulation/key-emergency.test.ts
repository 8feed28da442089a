// Emergencies of rotations: what they break, two persons, keys that are named, and a death at each call of their target.

import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { rotationStates } from "../../shared/contract/http-rotations.ts";
import type { ProposalAnswer } from "../../shared/rotation/rotation-ledger.ts";
import type { RotationTarget } from "../../shared/rotation/target.ts";
import { tenantId } from "./audit-events.ts";
import type { Death } from "./publisher-world.ts";
import { alice, bob, call, carol, kid, RotationWorld } from "./rotation-world.ts";

const digestOf = (proposed: ProposalAnswer): string => (proposed.ok ? proposed.proposal.proposal_sha256 : "");

test("what is built in must be seen to hold the new keys, in an emergency too", async () => {
  const world = new RotationWorld();
  world.keys.isHeld = false;
  const { id } = world.started();
  await world.settle();
  expect(world.shown(id)).toMatchObject({ state: "published", waiting_for: ["api"] });
  await world.rotations.propose(call(), "stolen", null);
  await world.approved(id);
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
  const digest = digestOf(proposed);
  for (const _ of [1, 2]) expect(await world.rotations.approve(call(bob), id, digest)).toMatchObject({ ok: true });
  await world.settle();
  expect(world.shown(id)).toMatchObject({
    state: "revoked",
    emergency: { proposed_by: alice, approved_by: bob, reason: "the key was seen elsewhere", proposal_sha256: digest },
  });
  expect(world.keys.revoked).toEqual(new Set([1]));
  expect(world.events().map(({ outcome }) => outcome)).toEqual([
    "prepare",
    "published",
    "proposed",
    "approved",
    ...rotationStates.slice(2),
  ]);
  expect(world.rotations.counts(tenantId)).toEqual({ started: 1, completed: 0, emergency: 1, cancelled: 0 });
  expect(world.rotations.list().proposals).toEqual([]);
});

test("who approves approves what they read: what was proposed anew under the same id, by whomever, is refused, and changes nothing", async () => {
  for (const proposer of [alice, carol, bob]) {
    const world = new RotationWorld();
    world.rotations.addConsumer(call(), "plant-7-verifier");
    const { id } = world.started();
    await world.settle();
    const read = await world.rotations.propose(call(), "the key was seen elsewhere", null);
    const anew = await world.rotations.propose(call(proposer), "the key was seen elsewhere, and all else", null);
    expect([read, anew]).toMatchObject([{ proposal: { id } }, { proposal: { id, proposed_by: proposer } }]);
    const before = world.events();
    for (const _ of [1, 2])
      expect(await world.rotations.approve(call(bob), id, digestOf(read))).toEqual({
        ok: false,
        code: "proposal_changed",
        detail: expect.stringContaining(`by ${proposer}`) as string,
      });
    await world.settle();
    expect(world.shown(id)).toMatchObject({ state: "published", emergency: null });
    expect(world.events()).toEqual(before);
    expect(await world.rotations.approve(call(alice), id, digestOf(anew))).toMatchObject({ ok: true });
    expect(world.shown(id).emergency).toMatchObject({
      reason: "the key was seen elsewhere, and all else",
      proposed_by: proposer,
      proposal_sha256: digestOf(anew),
    });
    expect(world.proposals()).toEqual([
      [alice, "proposed", digestOf(read)],
      [proposer, "proposed", digestOf(anew)],
      [alice, "approved", digestOf(anew)],
    ]);
  }
});

test("a word, a moment or a proposer that differs is another digest, which anyone can compute from what is shown", async () => {
  const world = new RotationWorld();
  const texts = [];
  for (const [who, reason] of [
    [alice, "stolen"],
    [alice, "stolen"],
    [alice, "Stolen"],
    [carol, "Stolen"],
  ] as const) {
    world.now += 1;
    const answer = await world.rotations.propose(call(who), reason, null);
    const { proposal_sha256: digest, ...words } = answer.ok ? answer.proposal : ({} as never);
    // RFC 8785 for members of texts alone, written out.
    const sorted = Object.fromEntries(Object.entries(words).toSorted(([left], [right]) => (left < right ? -1 : 1)));
    expect(digest).toBe(createHash("sha256").update(JSON.stringify(sorted)).digest("hex"));
    texts.push(digest);
  }
  expect(new Set(texts).size).toBe(4);
  expect(world.rotations.list().proposals).toMatchObject([{ proposal_sha256: texts.at(-1) }]);
});

test("an approval whose answer was lost is answered again, also after the rotation has ended; by another digest it is refused", async () => {
  const world = new RotationWorld();
  const proposed = await world.rotations.propose(call(), "stolen", null);
  const [id, digest] = [proposed.ok ? proposed.proposal.id : "", digestOf(proposed)];
  await world.rotations.approve(call(bob), id, digest);
  await world.settle();
  world.reopen();
  await world.rotations.propose(call(), "stolen again", null);
  expect(await world.rotations.approve(call(bob), id, digest)).toMatchObject({
    ok: true,
    rotation: { state: "revoked", emergency: { proposal_sha256: digest } },
  });
  expect(await world.rotations.approve(call(bob), id, kid(7))).toMatchObject({ ok: false, code: "proposal_changed" });
  expect(world.events().filter(({ outcome }) => outcome === "approved")).toHaveLength(1);
});

test("an emergency about keys that were rotated since is none any more: it would revoke the new ones", async () => {
  const world = new RotationWorld();
  const proposed = await world.rotations.propose(call(), "stolen", null);
  const { id } = world.started();
  const digest = digestOf(proposed);
  await world.settle();
  expect(world.shown(id).state).toBe("revoked");
  expect(world.rotations.list().proposals).toEqual([]);
  const approved = proposed.ok ? await world.rotations.approve(call(bob), proposed.proposal.id, digest) : null;
  expect([approved, world.keys.signing, world.keys.revoked]).toEqual([
    expect.objectContaining({ code: "not_found" }),
    2,
    new Set(),
  ]);
});

test("an emergency where nothing runs begins with its approval", async () => {
  const world = new RotationWorld();
  const proposed = await world.rotations.propose(call(), "stolen", null);
  const id = proposed.ok ? proposed.proposal.id : "";
  expect([world.rotations.nextDue(), world.rotations.show(id).ok]).toEqual([null, false]);
  expect(await world.approved(`rot_${"0".repeat(26)}`)).toMatchObject({ code: "not_found" });
  expect(await world.approved(id)).toMatchObject({ ok: true });
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
  await world.approved(id);
  world.keys.fail = null;
  await world.settle();
  expect([world.shown(id).state, world.keys.revoked]).toEqual(["revoked", new Set([1])]);
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
      cancellable: ["prepare", "published", "acknowledged"],
      withdraw: nothing,
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
  expect(await world.approved(first.ok ? first.proposal.id : "")).toMatchObject({
    code: "not_found",
  });
  authorities.isMirrored = false;
  expect(await world.approved(id)).toMatchObject({ ok: true });
  await world.rotations.advance();
  expect([authorities.distrusted, world.shown(id).state]).toEqual([[2], "verified"]);
  expect(world.shown(planned.id)).toMatchObject({ state: "prepare", emergency: null });
  // A second one waits for neither.
  const second = await proposedId(world, 1);
  await world.approved(second);
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
  expect(world.rotations.counts(tenantId)).toEqual({ started: 3, completed: 1, emergency: 2, cancelled: 0 });
});

test("one that is refused, for want of room, is no proposal", async () => {
  const { world, authorities } = worldOfAuthorities();
  authorities.inForce.clear();
  expect(await world.rotations.propose(call(), "stolen", null)).toMatchObject({ code: "rotation_distrusts_max" });
  expect([world.rotations.list().proposals, world.events()]).toEqual([[], []]);
});

test("MC-ZTE-1942: after a death at any call of it, before or after its effect, it distrusts once, and tells each state once", async () => {
  const counting = worldOfAuthorities();
  await counting.world.approved(await proposedId(counting.world, 1));
  await counting.world.settle();
  const { calls } = counting.world.death;
  expect(calls).toBeGreaterThan(8);
  for (let at = 2; at < calls; at += 1) {
    for (const when of ["before", "after"] as const) {
      const { world, authorities } = worldOfAuthorities();
      const where = `died at call ${at}, ${when}`;
      const id = await proposedId(world, 1);
      Object.assign(world.death, { at, when });
      await world.approved(id);
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
