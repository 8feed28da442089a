// Packs under faults: a crash before and after every effect, two callers at once, events that come late, runs that the log's
// object has forgotten, and the periodic export. The recovery table is at the top of shared/disclosure/build.ts.

import { createHash } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { exportPeriodMs } from "../../shared/audit/append.ts";
import { dedupeMs } from "../../shared/audit/seal.ts";
import type { Bytes } from "../../shared/contract/bytes.ts";
import { findOrBuild, packKey, type Built } from "../../shared/disclosure/build.ts";
import { verifyPack } from "../../shared/disclosure/verify.ts";
import { firstOf, isDeep, sampleSeed } from "../support/sampled.ts";
import { tenantId } from "./audit-events.ts";
import { Crash, Faults, newKeys, World, type TestKeys } from "./audit-world.ts";
import { executionId, packing, Story, type Packing } from "./disclosure-world.ts";

const hash = (bytes: Uint8Array): Bytes => new Uint8Array(createHash("sha256").update(bytes).digest());
let keys: TestKeys;
beforeAll(async () => {
  keys = await newKeys();
});

/** A run that has ended; nothing of it is sealed. */
function endedRun(faults = new Faults()): { world: World; story: Story } {
  const world = new World(keys, 1);
  const story = new Story();
  world.log.append(tenantId, [...story.before(), ...story.start(), ...story.finish()]);
  world.reopen(faults);
  return { world, story };
}

const build = (parts: Packing): Promise<Built> => findOrBuild(parts, tenantId, executionId);

async function expectPack(world: World, built: Built, facts: object = {}): Promise<void> {
  if (built.state !== "ready") throw new Error("no pack");
  const stored = world.objects.get(packKey(tenantId, executionId, built.version))!;
  expect(built.pack).toEqual({
    sha256: createHash("sha256").update(stored).digest("hex"),
    bytes: stored.length,
  });
  expect(await verifyPack(stored, world.published, hash)).toMatchObject({
    ok: true,
    facts: { execution_id: executionId, outcome: "succeeded", ...facts },
  });
}

test("a crash at each await of a pack's making leaves the pack that the next call finds or makes, and never a second one", async () => {
  let stops = 0;
  const each = isDeep ? 1 : 7;
  for (let stopAt = 1 + firstOf(sampleSeed, each); ; stopAt += each) {
    const { world } = endedRun(new Faults(stopAt));
    try {
      await build(packing(world));
    } catch (error) {
      if (!(error instanceof Crash) && !world.faults.isStopped) throw error;
    }
    const isStopped = world.faults.isStopped;
    const before = world.objects.get(packKey(tenantId, executionId, 3));
    world.reopen();
    await world.settle();
    const built = await build(packing(world));
    await expectPack(world, built, { pack_version: 3, context_count: 9 });
    const after = world.objects.get(packKey(tenantId, executionId, 3));
    expect(before ?? after).toBe(after);
    expect(await build(packing(world))).toEqual(built);
    if (!isStopped) break;
    stops += 1;
  }

  expect(stops).toBeGreaterThan(isDeep ? 40 : 4);
});

test("two callers at once get the same pack, whichever effect of them comes first", async () => {
  const { world } = endedRun();
  const built = await Promise.all([build(packing(world)), build(packing(world)), build(packing(world))]);
  expect(new Set(built.map((one) => JSON.stringify(one))).size).toBe(1);
  await expectPack(world, built[0]);
});

describe("a pack waits", () => {
  test.each([
    ["the start", (story: Story) => [story.start(), story.finish()]],
    ["the end", (story: Story) => [story.finish(), story.start()]],
    ["what was spent", (story: Story) => [story.finish().slice(1), [...story.start(), ...story.finish().slice(0, 1)]]],
  ])("for %s while it is on its way, and asks to be asked again in a second", async (_, tell) => {
    const world = new World(keys, 1);
    const story = new Story();
    const [late, early] = tell(story) as [string[], string[]];
    world.log.append(tenantId, early);
    expect(await build(packing(world))).toEqual({ state: "building", retry_after_s: 1 });
    world.log.append(tenantId, late);
    await expectPack(world, await build(packing(world)), { event_count: 6 });
  });

  test("for a settlement that never comes ten minutes, and then says what the log has", async () => {
    const world = new World(keys, 1);
    const story = new Story();
    world.log.append(tenantId, [...story.start(), ...story.finish().slice(0, 1)]);
    expect((await build(packing(world))).state).toBe("building");
    world.now += 10 * 60_000 + 1;
    await expectPack(world, await build(packing(world)), { event_count: 5 });
  });

  test("for no settlement where a run spends nothing", async () => {
    const world = new World(keys, 1);
    const story = new Story();
    world.log.append(tenantId, [...story.start(executionId, 0), ...story.finish(executionId, 0)]);
    const built = await build(packing(world));
    expect(built.state).toBe("ready");
    await expectPack(world, built, { event_count: 4 });
  });
});

test("a run that the log's object has forgotten is found by the index for questions, whose hints are not believed", async () => {
  const { world, story } = endedRun();
  await world.settle();
  const seqs = (await world.log.eventsOf(executionId)).map(({ seq }) => seq);
  world.now += dedupeMs + 60_000;
  world.log.append(tenantId, [story.flag("market_channels", "on")]);
  await world.settle();
  world.log.append(tenantId, [
    story.tell("mc.disclosure.revoked", { execution_id: executionId, grant_id: `grt_${"0".repeat(26)}` }),
  ]);
  await world.settle();
  const parts = packing(world);
  expect((await build(parts)).state).toBe("building");
  // Rows of others among the hints are left out; the leaves come from their segments, and are proven.
  parts.older = [0, 1, ...seqs];
  await expectPack(world, await build(parts), { event_count: 6, context_count: 9 });
});

test("with the flag off a pack is of version 2, and waits, as long as it says, until the period's end has been exported", async () => {
  const { world, story } = endedRun();
  await world.settle();
  const off = story.flag("audit_rt_export", "off");
  world.log.append(tenantId, [off]);
  await world.settle();
  world.now = Math.ceil(world.now / exportPeriodMs) * exportPeriodMs + 5_000;
  const other = "exe_00000000000000000000000000";
  world.log.append(tenantId, [...story.start(other), ...story.finish(other)]);
  await world.log.runDue();
  // What was exported before is there at once; asking for a pack exports nothing.
  await expectPack(world, await build(packing(world)), { pack_version: 2, context_count: 0 });
  const sealed = world.log.exportState().sealed;
  const waiting = await findOrBuild(packing(world), tenantId, other);
  if (waiting.state !== "building") throw new Error("the period is not over");
  expect(waiting.retry_after_s).toBe(exportPeriodMs / 1_000 - 5 + 1);
  expect(world.log.exportState().sealed).toBe(sealed);
  world.now += waiting.retry_after_s * 1_000;
  await world.log.runDue();
  expect(await findOrBuild(packing(world), tenantId, other)).toMatchObject({ state: "ready", version: 2 });
  // On again, the same run has a pack of version 3 beside it.
  world.log.append(tenantId, [story.flag("audit_rt_export", "on")]);
  expect(await findOrBuild(packing(world), tenantId, other)).toMatchObject({ state: "ready", version: 3 });
  await expectPack(world, await build(packing(world)), { pack_version: 3 });
});
