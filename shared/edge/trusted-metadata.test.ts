import { expect, test } from "vitest";
import { edgeWorld, tenant, type Objects } from "../../test/support/edge-world.ts";
import { refusedRead, type Read } from "./refusal.ts";
import { nextRoot, pinnedRoot, refreshMetadata, type TrustedMetadata } from "./trusted-metadata.ts";

/** Reads of one provider, and what was read. */
function reader(objects: Objects): { readonly read: (name: string) => Promise<Read>; readonly names: string[] } {
  const names: string[] = [];
  return {
    names,
    async read(name) {
      names.push(name);
      const bytes = objects.get(`tuf/${tenant}/${name}`);
      return bytes === undefined ? refusedRead("missing", name) : { ok: true, bytes };
    },
  };
}

async function trustedOf(trusted: TrustedMetadata, objects: Objects): Promise<TrustedMetadata> {
  const refreshed = await refreshMetadata(trusted, reader(objects).read, Date.now());
  if (refreshed.state !== "fresh") throw new Error(JSON.stringify(refreshed));
  return refreshed.trusted;
}

test("metadata that is the same costs a timestamp, from the first provider and from the second", async () => {
  const world = await edgeWorld();
  await world.publish();
  const pinned = await pinnedRoot(world.pin);
  const [first, second] = [reader(world.objects), reader(world.objects)];
  expect(await refreshMetadata(pinned, first.read, Date.now())).toMatchObject({ state: "fresh" });
  expect(first.names).toEqual(["timestamp.json", "1.snapshot.json", "1.targets.json"]);
  expect(await refreshMetadata(pinned, second.read, Date.now())).toMatchObject({ state: "fresh" });
  expect(second.names).toEqual(["timestamp.json"]);
  const trusted = await trustedOf(pinned, world.objects);
  expect(await trustedOf(trusted, world.objects)).toBe(trusted);
});

test("what was verified under one root is not believed under the next one for that", async () => {
  const world = await edgeWorld();
  await world.publish();
  const trusted = await trustedOf(await pinnedRoot(world.pin), world.objects);
  await world.rotateRoot({ names: ["three"], online: "others" });
  const next = await nextRoot(trusted, world.objects.get(`tuf/${tenant}/2.root.json`)!);
  if (!next.ok) throw new Error(next.refusal.detail);
  // All of it is as the old keys have signed it.
  const held: TrustedMetadata = { ...next.trusted, snapshot: trusted.snapshot, targets: trusted.targets };
  for (const one of [next.trusted, held])
    expect(await refreshMetadata(one, reader(world.objects).read, Date.now())).toMatchObject({
      state: "refused",
      refusal: { code: "bad_signature" },
    });
  await world.sign(Date.now());
  expect(await refreshMetadata(held, reader(world.objects).read, Date.now())).toMatchObject({ state: "fresh" });
});

test("ends are looked at each time, also of what was verified before", async () => {
  const world = await edgeWorld();
  await world.publish();
  const trusted = await trustedOf(await pinnedRoot(world.pin), world.objects);
  const { read } = reader(world.objects);
  const later = Date.now() + 400 * 86_400_000;
  expect(await refreshMetadata(trusted, read, later)).toMatchObject({ state: "refused" });
});
