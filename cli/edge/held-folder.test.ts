// What a restart finds after a crash at each step of an activation, and what a full disk leaves: the old policy or the new one,
// whole, and never anything in between. The table is at the head of held-folder.ts.

import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { refusalWords } from "../../shared/edge/refusal.ts";
import { edgeWorld, startProvider } from "../../test/support/edge-world.ts";
import { testFetcher } from "../../test/support/edge-fetcher.ts";
import { testFolder } from "../testing/host.ts";
import { openHeldFolder, type BeforeStep, type Step } from "./held-folder.ts";

/** Each step of an activation, in order, and what a restart after a crash just before it has active. */
const crashes: readonly (readonly ["bundle" | "pointer", Step, revision: number])[] = [
  ["bundle", "open", 1],
  ["bundle", "write", 1],
  ["bundle", "sync", 1],
  ["bundle", "rename", 1],
  ["bundle", "sync folder", 1],
  ["pointer", "open", 1],
  ["pointer", "write", 1],
  ["pointer", "sync", 1],
  ["pointer", "rename", 1],
  ["pointer", "sync folder", 2],
  ["pointer", "sweep", 2],
];

async function activated(beforeStep: (isArmed: () => boolean) => BeforeStep) {
  let isArmed = false;
  const folder = testFolder();
  const world = await edgeWorld();
  const first = await world.publish();
  const provider = await startProvider("a", world.copy());
  const it = await testFetcher(world, [provider], { folder, beforeStep: beforeStep(() => isArmed) });
  expect(await it.verdict()).toMatchObject({ verdict: "activated" });
  const next = await world.publish({ allowed: "bob" });
  provider.objects = world.copy();
  return {
    folder,
    world,
    provider,
    it,
    bundles: [first.bundle, next.bundle],
    arm: (on: boolean) => void (isArmed = on),
  };
}

describe("killed during the swap", () => {
  test.each(crashes)(
    "before the %s's %s: a restart has revision %i, whole, and goes on",
    async (file, step, revision) => {
      const at = await activated((isArmed) => (at, of) => {
        if (isArmed() && at === step && of === file) throw new Error("killed");
      });
      at.arm(true);
      await expect(at.it.verdict()).rejects.toThrow("killed");
      at.arm(false);
      const again = await testFetcher(at.world, [at.provider], { folder: at.folder });
      expect(await again.served()).toEqual(new Uint8Array(at.bundles[revision - 1]!));
      expect(await again.verdict()).toMatchObject({ active: { revision: 2 } });
      expect(await again.served()).toEqual(new Uint8Array(at.bundles[1]!));
      expect(readdirSync(join(at.folder, "bundles"))).toHaveLength(1);
      expect(readdirSync(at.folder).sort()).toEqual(["bundles", "held.json"]);
    },
  );
});

describe("a full disk", () => {
  test.each(["bundle", "pointer"] as const)(
    "while the %s is written keeps the old policy, says so, and goes on when there is room",
    async (file) => {
      const full = Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
      const at = await activated((isArmed) => (step, of) => {
        if (isArmed() && step === "write" && of === file) throw full;
      });
      at.arm(true);
      const verdict = await at.it.verdict();
      expect(verdict).toMatchObject({ verdict: "refused", refusal: { code: "not_kept" }, active: { revision: 1 } });
      const words = verdict.verdict === "refused" ? refusalWords(verdict.refusal) : "";
      expect(words).toContain("the disk is full (ENOSPC)");
      expect(at.it.counters.read().refused["not_kept"]).toBe(1);
      expect(await at.it.served()).toEqual(new Uint8Array(at.bundles[0]!));
      at.arm(false);
      expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2 } });
    },
  );
});

test("a swap leaves alone what else is being written beside the pointer; a restart sweeps it", async () => {
  const at = await activated(() => () => undefined);
  const part = "instance.json.0f8e4d7c.part";
  writeFileSync(join(at.folder, part), "half");
  expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2 } });
  expect(readdirSync(at.folder)).toContain(part);
  await (await openHeldFolder(at.folder)).load();
  expect(readdirSync(at.folder)).not.toContain(part);
});

test("a second process on the same folder is told, and nothing is written over", async () => {
  const at = await activated(() => () => undefined);
  const other = await testFetcher(at.world, [at.provider], { folder: at.folder });
  expect(await other.verdict()).toMatchObject({ verdict: "activated" });
  await expect(at.it.verdict()).rejects.toThrow("Another process holds policies");
});

test("bytes that changed on the disk are not served, and are fetched again", async () => {
  const at = await activated(() => () => undefined);
  at.provider.objects.delete("tuf/acme/timestamp.json");
  const [name] = readdirSync(join(at.folder, "bundles"));
  writeFileSync(join(at.folder, "bundles", name!), "other bytes");
  expect(await at.it.served()).toBeNull();
  at.provider.objects = at.world.copy();
  const again = await testFetcher(at.world, [at.provider], { folder: at.folder });
  expect(await again.verdict()).toMatchObject({ verdict: "activated" });
  expect(await again.served()).toEqual(new Uint8Array(at.bundles[1]!));
});

test("a damaged pointer is refused with what to do, and never taken for an empty one", async () => {
  const at = await activated(() => () => undefined);
  writeFileSync(join(at.folder, "held.json"), '{"format":"maestro-edge-held/v1"}');
  const store = await openHeldFolder(at.folder);
  await expect(store.load()).rejects.toThrow("is damaged");
});

test("a folder that began with another root or tenant is not gone on with", async () => {
  const at = await activated(() => () => undefined);
  const other = await edgeWorld({ keepers: ["five"], threshold: 1 });
  await expect(testFetcher(other, [at.provider], { folder: at.folder })).rejects.toThrow("another pinned root");
});
