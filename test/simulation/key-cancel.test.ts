// Rotations that are taken back: a death at each call of their target, before and after the word, and what is not taken back.

import { expect, test } from "vitest";
import { rotationStates } from "../../shared/contract/http-rotations.ts";
import { tenantId } from "./audit-events.ts";
import { alice, bob, call, kid, RotationWorld } from "./rotation-world.ts";

/** A rotation that is published, and waits for a consumer that is not there. */
async function blocked(): Promise<{ readonly world: RotationWorld; readonly id: string }> {
  const world = new RotationWorld();
  world.rotations.addConsumer(call(), "plant-7-verifier");
  const { id } = world.started("intent");
  await world.settle();
  expect(world.shown(id).state).toBe("published");
  return { world, id };
}

test("a rotation that is taken back ends there: its keys never sign, its events say who and when, and the next one goes through", async () => {
  const { world, id } = await blocked();
  for (const _ of [1, 2]) expect(await world.rotations.cancel(call(bob), id)).toMatchObject({ ok: true });
  await world.settle();
  for (const _ of [1, 2])
    expect(await world.rotations.cancel(call(bob), id)).toMatchObject({ rotation: { state: "cancelled" } });
  const rotation = world.shown(id);
  expect(rotation).toMatchObject({ new_keys: [{ kid: kid(2) }], waiting_for: [], obstacle: null });
  expect(rotation.transitions.map(({ state }) => state)).toEqual(["prepare", "published", "cancelling", "cancelled"]);
  expect(world.events().map(({ principal, outcome, new_kids: kids }) => [principal, outcome, kids])).toEqual([
    [alice, "prepare", ""],
    [null, "published", kid(2)],
    [bob, "cancelling", kid(2)],
    [null, "cancelled", kid(2)],
  ]);
  expect(world.rotations.nextDue()).toBeNull();
  expect(world.rotations.acknowledge(call(), id, "plant-7-verifier", [kid(2)])).toMatchObject({
    code: "rotation_state",
    detail: expect.stringContaining("was cancelled") as string,
  });
  expect(world.rotations.removeConsumer(call(), "plant-7-verifier")).toMatchObject({ ok: true });
  const next = world.started();
  await world.settle();
  expect(world.shown(next.id).state).toBe("revoked");
  expect(world.keys).toMatchObject({ signing: 3, withdrawn: new Set([2]), revoked: new Set() });
  expect(world.rotations.counts(tenantId)).toEqual({ started: 2, completed: 1, emergency: 0, cancelled: 1 });
});

test("after a death at any call, before the word or after it, a rotation is taken back once, and nothing of it signs", async () => {
  const counting = await blocked();
  const before = counting.world.death.calls;
  await counting.world.rotations.cancel(call(), counting.id);
  await counting.world.settle();
  const { calls } = counting.world.death;
  expect(calls).toBeGreaterThan(before);
  for (let at = 0; at < calls; at += 1) {
    for (const when of ["before", "after"] as const) {
      const where = `died at call ${at}, ${when}`;
      const world = new RotationWorld();
      world.rotations.addConsumer(call(), "plant-7-verifier");
      const { id } = world.started("intent");
      Object.assign(world.death, { at, when });
      await Promise.race([world.settle(), world.death.happened]);
      if (world.death.calls <= at) {
        await world.rotations.cancel(call(bob), id);
        await Promise.race([world.settle(), world.death.happened]);
      }
      world.reopen();
      expect(await world.rotations.cancel(call(bob), id), where).toMatchObject({ ok: true });
      await world.settle();
      expect(world.shown(id).state, where).toBe("cancelled");
      const told = world.events().map(({ outcome }) => outcome);
      expect(told.slice(-2), where).toEqual(["cancelling", "cancelled"]);
      expect(new Set(told).size, where).toBe(told.length);
      const { made, published } = world.keys;
      expect(world.keys, where).toMatchObject({
        signing: 1,
        live: [1, 1, 1],
        tainted: new Set(),
        destroyed: new Set(),
      });
      expect([...made.values()], where).toEqual([...world.keys.withdrawn]);
      // What was published of it is told, also where the rotation had not come to say so.
      expect(world.events().at(-1)!.new_kids, where).toBe(published.has(2) ? kid(2) : "");
    }
  }
});

test("it is refused from the moment on at which the new keys may sign, whatever came back of the switch, and the rotation goes to its end", async () => {
  const states = rotationStates.slice(rotationStates.indexOf("acknowledged"));
  for (const [at, fails] of ["activate", "taint", "verify", "revoke", null].entries()) {
    const world = new RotationWorld();
    world.keys.fail = fails;
    const { id } = world.started();
    await world.settle(6);
    const { state } = world.shown(id);
    expect(state).toBe(states[at]);
    expect(await world.rotations.cancel(call(), id)).toEqual({
      ok: false,
      code: "rotation_state",
      detail: expect.stringContaining(state === "revoked" ? "has ended" : `is ${state}`) as string,
    });
    world.keys.fail = null;
    await world.settle();
    expect(world.shown(id).state).toBe("revoked");
    expect([world.keys.signing, world.keys.withdrawn]).toEqual([2, new Set()]);
  }
  const world = new RotationWorld();
  expect(await world.rotations.cancel(call(), `rot_${"0".repeat(26)}`)).toMatchObject({ code: "not_found" });
});

test("the word waits for the step that is under way: what comes of that decides", async () => {
  for (const [step, end, isTaken] of [
    ["publish", "cancelled", true],
    ["activate", "revoked", false],
  ] as const) {
    const world = new RotationWorld();
    const { id } = world.started();
    const { promise: goesOn, resolve: goOn } = Promise.withResolvers<void>();
    const { promise: reached, resolve: reach } = Promise.withResolvers<void>();
    const target = world.keys.target(world.death);
    world.watch(() => ({
      ...target,
      [step]: async (...given: Parameters<typeof target.activate>) => {
        reach();
        await goesOn;
        return await target[step](...given);
      },
    }));
    const advancing = world.rotations.advance();
    await reached;
    const cancelling = world.rotations.cancel(call(), id);
    goOn();
    await advancing;
    const answer = await cancelling;
    await world.settle();
    expect([step, world.shown(id).state, answer.ok]).toEqual([step, end, isTaken]);
  }
});

test("taking back that fails is told, tried again, and holds up the next rotation and an emergency until it is done", async () => {
  const { world, id } = await blocked();
  world.keys.fail = "withdraw";
  await world.rotations.cancel(call(), id);
  await world.settle(3);
  expect(world.shown(id)).toMatchObject({
    state: "cancelling",
    obstacle: "the step after cancelling failed (Error)",
  });
  for (const refused of [world.rotations.start(call()), await world.rotations.propose(call(), "stolen", null)])
    expect(refused).toMatchObject({ code: "rotation_running", detail: `The rotation ${id} is cancelling.` });
  world.keys.fail = null;
  world.rotations.resume(id);
  await world.settle();
  expect(world.shown(id)).toMatchObject({ state: "cancelled", obstacle: null });
  expect(await world.rotations.propose(call(), "stolen", null)).toMatchObject({ ok: true });
});

test("an emergency that two persons decided is not taken back by one; one that waits is gone with its rotation", async () => {
  const { world, id } = await blocked();
  const waiting = await world.rotations.propose(call(), "stolen", null);
  const digest = waiting.ok ? waiting.proposal.proposal_sha256 : "";
  await world.rotations.cancel(call(), id);
  expect(await world.rotations.approve(call(bob), id, digest)).toMatchObject({ code: "rotation_state" });
  await world.settle();
  expect([world.shown(id).state, world.rotations.list().proposals]).toEqual(["cancelled", []]);
  const decided = await blocked();
  decided.world.keys.isHeld = false;
  await decided.world.rotations.propose(call(), "stolen", null);
  await decided.world.approved(decided.id);
  await decided.world.settle();
  expect(decided.world.shown(decided.id).state).toBe("published");
  expect(await decided.world.rotations.cancel(call(), decided.id)).toMatchObject({
    code: "rotation_state",
    detail: expect.stringContaining("two persons decided") as string,
  });
});
