import { expect, test } from "vitest";
import type { ShownIdentity } from "../../shared/identity/platform/worker-caller.ts";
import { lookAgeMaxMs, lookEveryMs, WorkerLooks } from "./worker-looks.ts";

const start = Date.UTC(2026, 10, 26);
const shown: ShownIdentity = {
  spiffe_id: "spiffe://platform.mc.test/platform/audit",
  kid: "k",
  issued_at_ms: start,
  until_ms: start + 300_000,
};

class World {
  now = start;
  looks = 0;
  seen: readonly ShownIdentity[] | null = [shown];
  /** Looks that hang until they are let go. */
  readonly hanging: (() => void)[] = [];
  hangs = false;
  readonly of = new WorkerLooks(
    () => this.now,
    async () => {
      this.looks += 1;
      const { seen } = this;
      if (this.hangs) await new Promise<void>((resolve) => this.hanging.push(resolve));
      return seen;
    },
  );
}

test("who asks ten times a second costs one look in five seconds, and is told when it was", async () => {
  const world = new World();
  for (let asked = 0; asked < 600; asked += 1) {
    const { at_ms, workers } = await world.of.get();
    expect(workers).toEqual([shown]);
    expect(world.now - at_ms).toBeLessThan(lookEveryMs);
    world.now += 100;
  }
  expect(world.looks).toBe(60_000 / lookEveryMs);
});

test("while one request looks anew the others are told what was seen before, and wait for nobody", async () => {
  const world = new World();
  await world.of.get();
  world.hangs = true;
  world.now += lookEveryMs;
  const looking = world.of.get();
  expect((await world.of.get()).at_ms).toBe(start);
  expect(world.looks).toBe(2);
  world.hanging.pop()!();
  expect((await looking).at_ms).toBe(start + lookEveryMs);
  expect((await world.of.get()).at_ms).toBe(start + lookEveryMs);
  expect(world.looks).toBe(2);
});

test("nothing older than ten seconds is told, though a look hangs: each looks for itself then", async () => {
  const world = new World();
  await world.of.get();
  world.hangs = true;
  world.now = start + lookEveryMs;
  const first = world.of.get();
  world.now = start + lookAgeMaxMs;
  const [second, third] = [world.of.get(), world.of.get()];
  expect(world.looks).toBe(4);
  for (const go of world.hanging.splice(0).toReversed()) go();
  expect((await Promise.all([second, third])).map(({ at_ms }) => at_ms)).toEqual([world.now, world.now]);
  expect((await first).at_ms).toBe(start + lookEveryMs);
  // The one that began first ended last: it does not put the clock back.
  expect((await world.of.get()).at_ms).toBe(world.now);
});

test("that a worker did not show itself is remembered for as long, and a clock that went back makes nothing young", async () => {
  const world = new World();
  world.seen = null;
  expect((await world.of.get()).workers).toBeNull();
  world.seen = [shown];
  world.now += lookEveryMs - 1;
  expect((await world.of.get()).workers).toBeNull();
  world.now += 1;
  expect((await world.of.get()).workers).toEqual([shown]);
  world.now = start - 3_600_000;
  expect((await world.of.get()).at_ms).toBe(world.now);
  expect((await world.of.get()).at_ms).toBe(world.now);
  expect(world.looks).toBe(3);
});
