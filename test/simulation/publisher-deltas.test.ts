// Deltas at the publisher: named only where they are, in every store before they are named there, and needed by nothing.

import { expect, test } from "vitest";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import type { Channel } from "../../shared/contract/names.ts";
import { deltaKey } from "../../shared/edge/serving-path.ts";
import type { PolicyTarget } from "../../shared/edge/tuf.ts";
import { tufClient } from "../support/tuf.ts";
import { principal, PublisherWorld, slug } from "./publisher-world.ts";

async function begun(): Promise<PublisherWorld> {
  const world = await PublisherWorld.make();
  expect(await world.putRoot(await world.root())).toMatchObject({ ok: true });
  return world;
}

/** Texts of the bundles that the target of a store names deltas from, as a stock client reads it. */
async function named(world: PublisherWorld, channel: Channel = "stable"): Promise<string[]> {
  await world.settle();
  const lists = await Promise.all(
    [world.a, world.b].map(async (store) => {
      const client = tufClient(store.text("1.root.json")!, (name) => store.text(name));
      const { deltas = [], tar_sha256: to } = (await client.target(`gateway/${channel}/bundle.tar.gz`))!
        .custom as PolicyTarget["custom"];
      for (const { from } of deltas) expect(store.has(deltaKey(slug, from, to))).toBe(true);
      return deltas.map(({ from }) => from);
    }),
  );
  expect(lists[0]).toEqual(lists[1]);
  const texts = await Promise.all(
    ["r1", "r2", "r3", "r4"].map(async (text) => [await sha256Hex(utf8(`tar ${text}`)), text] as const),
  );
  return lists[0]!.map((from) => new Map(texts).get(from)!);
}

test("a publish names the deltas that are there from what the channel had, and a stock client reads them", async () => {
  const world = await begun();
  await world.publish("r1");
  expect(await named(world)).toEqual([]);
  await world.publish("r2");
  expect(await named(world)).toEqual(["r1"]);
  const bundle = await world.keep("r3");
  world.vault.delete(deltaKey(slug, await sha256Hex(utf8("tar r2")), bundle.tar_sha256));
  const change = { kind: "publish", policy: "gateway", channel: "stable", bundle } as const;
  await world.publisher.change({ principal, intent: null }, change);
  expect(await named(world)).toEqual(["r1"]);
});

test("a promotion names deltas from what its own channel had, and a rollback those that lead back, where there are any", async () => {
  const world = await begun();
  await world.publish("r1");
  await world.publish("r2", "gateway", "canary");
  await world.publish("r3", "gateway", "canary");
  const call = { principal, intent: null };
  await world.publisher.change(call, { kind: "promote", policy: "gateway", from: "canary", to: "stable" });
  expect(await named(world)).toEqual(["r1"]);
  const back = { kind: "roll_back", policy: "gateway", channel: "stable", revision: null } as const;
  await world.publisher.change(call, back);
  expect(await named(world)).toEqual([]);
  await world.keep("r1");
  await world.publisher.change(call, { kind: "promote", policy: "gateway", from: "canary", to: "stable" });
  await world.publisher.change(call, back);
  expect(await named(world)).toEqual(["r3"]);
});

test("a vault that does not tell what it has holds no publish up: the change names no delta", async () => {
  const world = await begun();
  await world.publish("r1");
  world.isVaultDeaf = true;
  expect(await world.publish("r2")).toMatchObject({ ok: true });
  expect(await named(world)).toEqual([]);
  expect(world.logged).toContain("deltas were not looked for: the change names none");
});
