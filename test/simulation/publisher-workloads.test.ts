// Workloads and trust bundles on their way into the providers' stores, with a death at each of the publisher's calls, with stores
// that are down, and with writes that come late.

import { describe, expect, test } from "vitest";
import { sha256Hex, utf8, utf8Text } from "../../shared/contract/bytes.ts";
import { canonicalJson } from "../../shared/contract/events.ts";
import { PublisherWorld, slug, type MemoryStore } from "./publisher-world.ts";
import { sampledPlaces } from "../support/sampled.ts";

const begun = async (...texts: readonly string[]): Promise<PublisherWorld> => {
  const world = await PublisherWorld.make();
  expect(await world.putRoot(await world.root())).toMatchObject({ ok: true, version: 1 });
  for (const text of texts) expect(await world.publish(text)).toMatchObject({ ok: true });
  await world.settle();
  return world;
};

describe("workloads and trust bundles", () => {
  const workload = (name: string) => ({
    spiffe_id: `spiffe://td.example/tenant/acme/fetcher/${name}`,
    trust_domain: "td.example",
    fetcher_id: `pri_${name}`,
  });
  const bundle = (sequence: number | null, text = "", distrusts = 0, stated_ms = 1_000) => ({
    document: JSON.stringify({
      ...(sequence === null ? {} : { spiffe_sequence: sequence }),
      keys: [],
      text,
      distrusts,
    }),
    sequence,
    distrusts,
    stated_ms,
  });
  const trustFile = "trust/acme/td.example.json";
  const stateOf = (store: MemoryStore) => ({
    workloads: [...store.objects]
      .filter(([name]) => name.startsWith("workloads/"))
      .map(([, bytes]) => (JSON.parse(utf8Text(bytes)) as { fetcher_id: string }).fetcher_id)
      .toSorted(),
    bundle: store.objects.has(trustFile) ? utf8Text(store.objects.get(trustFile)!) : null,
  });
  const expected = (names: readonly string[], document: string | null) => ({
    workloads: names.map((name) => `pri_${name}`),
    bundle: document,
  });
  async function withWorkloads(): Promise<PublisherWorld> {
    const world = await begun();
    world.workloads = [workload("one"), workload("two")];
    world.trust.set("td.example", bundle(1));
    await world.publisher.sweep();
    return world;
  }

  test("are in both stores, each where an edge looks for it, and a bundle is so to the byte", async () => {
    const world = await withWorkloads();
    for (const store of [world.a, world.b]) {
      expect(stateOf(store)).toEqual(expected(["one", "two"], bundle(1).document));
      const digest = await sha256Hex(utf8(workload("one").spiffe_id));
      expect(JSON.parse(utf8Text(store.objects.get(`workloads/${digest}.json`)!))).toEqual({
        ...workload("one"),
        tenant: slug,
      });
    }
  });

  test("that are gone are taken out before anything else is put, and bundles come before who is let in by them", async () => {
    const world = await withWorkloads();
    const calls: string[] = [];
    world.a.meet = (call, name) => {
      if (call !== "digest") calls.push(`${call} ${name.split("/")[0]}`);
    };
    world.workloads = [workload("two"), workload("three")];
    world.trust.set("td.example", bundle(2));
    await world.publisher.sweep();
    expect(calls).toEqual(["remove workloads", "put trust", "put stated", "put workloads"]);
    world.workloads = [];
    world.trust.clear();
    await world.publisher.sweep();
    for (const store of [world.a, world.b]) expect(stateOf(store)).toEqual(expected([], null));
  });

  test("that another tenant has now stay: what is taken back is what was put, however long it is looked for", async () => {
    const world = await withWorkloads();
    const file = async (name: string): Promise<string> =>
      `workloads/${await sha256Hex(utf8(workload(name).spiffe_id))}.json`;
    const theirs = utf8(canonicalJson({ ...workload("one"), fetcher_id: "pri_other", tenant: "other" }));
    // Both IDs are gone; the other tenant's publisher has put one before this one hears of it, and one after.
    world.workloads = [];
    for (const store of [world.a, world.b]) store.objects.set(await file("one"), theirs);
    await world.publisher.sweep();
    for (const store of [world.a, world.b]) {
      expect(stateOf(store).workloads).toEqual(["pri_other"]);
      store.objects.set(await file("two"), theirs);
    }
    for (let look = 0; look < 3; look += 1) {
      world.now += 60_000;
      await world.publisher.sweep();
      for (const store of [world.a, world.b]) expect(stateOf(store).workloads).toEqual(["pri_other", "pri_other"]);
    }
    // An own write that comes late is taken out all the same.
    const late = utf8(canonicalJson({ ...workload("two"), tenant: slug }));
    world.b.objects.set(await file("two"), late);
    world.now += 60_000;
    await world.publisher.sweep();
    expect(stateOf(world.b).workloads).toEqual(["pri_other"]);
  });

  test("that a release before has put are taken back as its own, and the bundle of a domain stated anew follows one of it", async () => {
    const world = await withWorkloads();
    const file = `workloads/${await sha256Hex(utf8(workload("one").spiffe_id))}.json`;
    await world.reopenWithout("mirrored_content", "trust_stated");
    await world.publisher.sweep();
    world.trust.set("td.example", bundle(9));
    await world.publisher.sweep();
    world.workloads = [workload("two")];
    const theirs = utf8(canonicalJson({ ...workload("one"), tenant: "other" }));
    world.b.objects.set(file, theirs);
    world.trust.set("td.example", bundle(1, "", 0, 2));
    await world.publisher.sweep();
    expect(stateOf(world.a)).toEqual(expected(["two"], bundle(1).document));
    expect(stateOf(world.b)).toEqual(expected(["one", "two"], bundle(1).document));
    // In sync, the one of a release before is noted as of the domain as it was stated then.
    await world.reopenWithout("mirrored_content", "trust_stated");
    await world.publisher.sweep();
    world.trust.set("td.example", bundle(0, "", 0, 3));
    await world.publisher.sweep();
    expect(stateOf(world.a).bundle).toBe(bundle(0).document);
  });

  test("no bundle goes back in a store: not by Postgres, not by a write that comes late", async () => {
    const world = await withWorkloads();
    let arrive = (): void => undefined;
    const late = new Promise<void>((resolve) => (arrive = resolve));
    world.b.delay = (name) => (name === trustFile ? late : null);
    world.trust.set("td.example", bundle(2));
    await world.publisher.sweep();
    world.b.delay = () => null;
    world.trust.set("td.example", bundle(3));
    await world.publisher.sweep();
    arrive();
    await late;
    expect(stateOf(world.b).bundle).toBe(bundle(2).document);
    await world.publisher.sweep();
    expect(stateOf(world.b).bundle).toBe(bundle(3).document);
    expect(world.logged.at(-1)).toContain("another one than was put");
    for (const before of [bundle(2), bundle(3, "changed"), bundle(1)]) {
      world.trust.set("td.example", before);
      await world.reopen();
      await world.publisher.sweep();
      expect([stateOf(world.a).bundle, stateOf(world.b).bundle]).toEqual([bundle(3).document, bundle(3).document]);
      expect(world.logged.at(-1)).toContain("would go back");
    }
    world.trust.set("td.example", bundle(null));
    await world.publisher.sweep();
    expect(stateOf(world.a).bundle).toBe(bundle(null).document);
    world.trust.set("td.example", bundle(2));
    await world.publisher.sweep();
    expect(stateOf(world.a).bundle).toBe(bundle(null).document);
    // A trust domain that was taken out and stated anew is another one.
    world.trust.clear();
    await world.publisher.sweep();
    world.trust.set("td.example", bundle(1));
    await world.publisher.sweep();
    expect(stateOf(world.a).bundle).toBe(bundle(1).document);
  });

  test("a distrust counts under the same sequence, and no bundle of before it is put any more, whatever sequence it has", async () => {
    const world = await withWorkloads();
    world.trust.set("td.example", bundle(1, "", 2));
    await world.publisher.sweep();
    for (const before of [bundle(1), bundle(1, "changed", 2), bundle(9, "", 1), bundle(null, "", 1)]) {
      world.trust.set("td.example", before);
      await world.reopen();
      await world.publisher.sweep();
      expect([stateOf(world.a).bundle, stateOf(world.b).bundle]).toEqual([1, 2].map(() => bundle(1, "", 2).document));
      expect(world.logged.at(-1)).toContain("would go back");
    }
    // One without a sequence, and then the newest that had one, as of now.
    for (const next of [bundle(null, "", 3), bundle(1, "", 3), bundle(2, "", 3)]) {
      world.trust.set("td.example", next);
      await world.publisher.sweep();
      expect([stateOf(world.a).bundle, stateOf(world.b).bundle]).toEqual([next.document, next.document]);
    }
  });

  test("of a domain that is stated anew between two looks begin anew, and what is of which statement stands beside them", async () => {
    const world = await withWorkloads();
    const standsIn = async (store: MemoryStore, { document, stated_ms }: ReturnType<typeof bundle>): Promise<void> => {
      expect(stateOf(store).bundle).toBe(document);
      expect(utf8Text(store.objects.get("stated/acme/td.example.json")!)).toBe(
        `{"bundle_sha256":"${await sha256Hex(utf8(document))}","stated_ms":${stated_ms}}`,
      );
    };
    world.trust.set("td.example", bundle(9, "", 2));
    await world.publisher.sweep();
    for (const store of [world.a, world.b]) await standsIn(store, bundle(9, "", 2));
    const anew = bundle(3, "", 0, 2_000);
    world.trust.set("td.example", anew);
    await world.publisher.sweep();
    for (const store of [world.a, world.b]) await standsIn(store, anew);
    // A write of before that comes late.
    world.b.objects.set("stated/acme/td.example.json", utf8("{}"));
    await world.publisher.sweep();
    await standsIn(world.b, anew);
    // Within the new statement nothing goes back.
    world.trust.set("td.example", bundle(2, "", 0, 2_000));
    await world.reopen();
    await world.publisher.sweep();
    expect([stateOf(world.a).bundle, stateOf(world.b).bundle]).toEqual([anew.document, anew.document]);
    expect(world.logged.at(-1)).toContain("would go back");
    world.workloads = [];
    world.trust.clear();
    await world.publisher.sweep();
    for (const store of [world.a, world.b])
      expect([...store.objects.keys()].filter((name) => /^(?:trust|stated)\//.test(name))).toEqual([]);
  });

  test("are never collected, however long no metadata has named them", async () => {
    const world = await begun("r1");
    world.workloads = [workload("one")];
    world.trust.set("td.example", bundle(1));
    await world.publisher.sweep();
    await world.publish("r2");
    await world.settle();
    world.now += 101 * 24 * 3_600_000;
    for (let minute = 0; minute < 3; minute += 1) await world.publisher.sweep();
    await world.settle();
    expect(stateOf(world.a)).toEqual(expected(["one"], bundle(1).document));
  });

  test("a revocation waits for no store that is down", async () => {
    const world = await withWorkloads();
    world.a.meet = () => {
      throw new Error("down");
    };
    world.trust.set("td.example", bundle(2));
    world.publisher.nudgeFetchers();
    await world.publisher.catchUp();
    expect(stateOf(world.b).bundle).toBe(bundle(2).document);
    world.a.meet = () => undefined;
    await world.settle();
    expect(stateOf(world.a).bundle).toBe(bundle(2).document);
  });

  test(
    "stand in both stores as Postgres has them, wherever the publisher died on the way",
    { timeout: 60_000 },
    async () => {
      for (const when of ["before", "after"] as const) {
        for (const calls of sampledPlaces(26, 9)) {
          const world = await withWorkloads();
          world.workloads = [workload("two"), workload("three")];
          world.trust.set("td.example", bundle(2));
          world.publisher.nudgeFetchers();
          Object.assign(world.death, { at: world.death.calls + calls, when });
          await Promise.race([world.publisher.catchUp(), world.death.happened]);
          await world.reopen();
          await world.settle();
          const where = `died at call ${calls}, ${when}`;
          for (const store of [world.a, world.b])
            expect(stateOf(store), where).toEqual(expected(["three", "two"], bundle(2).document));
          // The older one is not put again by whoever came back.
          for (const store of [world.a, world.b])
            expect(store.written.filter((name) => name === trustFile).length, where).toBeLessThanOrEqual(3);
          world.workloads = [];
          world.trust.clear();
          world.publisher.nudgeFetchers();
          await world.settle();
          for (const store of [world.a, world.b]) expect(stateOf(store), where).toEqual(expected([], null));
        }
      }
    },
  );
});
