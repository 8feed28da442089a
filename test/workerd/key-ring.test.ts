// The key rings as they are deployed: what outlives the object, that private halves stay inside, and another secret.

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { ringAt, type RingApi } from "../../durable-objects/key-ring.ts";
import { sqlOf } from "../../durable-objects/sql.ts";
import { base64Bytes, utf8 } from "../../shared/contract/bytes.ts";
import { KeyRing } from "../../shared/rotation/ring.ts";
import { importVerifyKey, verifySignature } from "../../shared/signing/keys.ts";
import { auditRingParts } from "../../workers/audit/compose.ts";
import { releaseRingParts } from "../../workers/signer/compose.ts";

type Env = Parameters<typeof auditRingParts>[0] & Parameters<typeof releaseRingParts>[0];
const bound = env as unknown as Env;
let count = 0;
const release = { namespace: bound.RELEASE_RING, parts: releaseRingParts(bound), slots: ["release"] };
const audit = { namespace: bound.AUDIT_RING, parts: auditRingParts(bound), slots: ["checkpoint", "statement"] };

function open({ namespace, parts }: Pick<typeof release, "namespace" | "parts">) {
  const name = `ring ${(count += 1)}`;
  return { ring: ringAt(namespace, parts, name), stub: namespace.getByName(name) };
}
const rotation = `rot_${"1".repeat(26)}`;

async function rotated(ring: RingApi, slots: string[]) {
  const keys = await ring.prepareKeys(rotation, slots);
  await ring.publishKeys(rotation);
  await ring.activateKeys(rotation);
  return keys;
}

test("a ring that was evicted has the same keys, and signs with them", async () => {
  for (const of of [release, audit]) {
    const { ring, stub } = open(of);
    const keys = await rotated(ring, of.slots);
    const published = await ring.publishedKeys();
    await evictDurableObject(stub);
    expect(await ring.publishedKeys()).toEqual(published);
    for (const { slot, kid } of keys.new) {
      const signed = await ring.sign(slot, kid, Date.now(), [utf8("a"), utf8("b")]);
      const key = published.keys.find((one) => one.kid === kid)!;
      const verifier = await importVerifyKey(base64Bytes(key.spki), key.algorithm === "Ed25519" ? "Ed25519" : "P-256");
      const [, second] = signed.state === "signed" ? signed.signatures : [];
      expect(await verifySignature(verifier!, second!, utf8("b"))).toBe(true);
    }
    for (const { slot, kid } of keys.old)
      expect(await ring.sign(slot, kid, Date.now(), [utf8("a")])).toEqual({ state: "rotated" });
  }
});

test("what a ring keeps tells no private half, and opens under no other secret", async () => {
  const { ring, stub } = open(release);
  await rotated(ring, ["release"]);
  await runInDurableObject(stub, async (_, state) => {
    const rows = state.storage.sql.exec("select * from keys").toArray();
    expect(rows).toHaveLength(2);
    expect(JSON.stringify(rows)).not.toMatch(/"d\\?":/);
    const other = new KeyRing({
      sql: sqlOf(state.storage),
      clock: () => Date.now(),
      random: (byteCount) => crypto.getRandomValues(new Uint8Array(byteCount)),
      name: "release",
      slots: [{ name: "release", algorithm: "P-256", uses: ["release"], firstKey: bound.RELEASE_KEY }],
      secret: "another secret of at least 32 characters",
    });
    await expect(other.current()).rejects.toThrow("KEY_RING_SECRET is not the secret");
  });
});

test("whoever binds a ring without its script's secrets gets nothing from it: no key, no signature, no step of a rotation", async () => {
  const { ring, stub } = open(release);
  const { kid } = (await ring.current())[0]!;
  const rogue = ringAt(
    // A namespace of its own, for a pass that is not remembered.
    { getByName: () => stub } as unknown as DurableObjectNamespace,
    { ...release.parts, slots: [{ ...release.parts.slots[0]!, firstKey: "{}" }] },
  );
  const message = utf8("a release");
  const tried: (() => Promise<unknown>)[] = [
    () => rogue.current(),
    () => rogue.sign("release", kid, Date.now(), [message]),
    () => rogue.prepareKeys(rotation, ["release"]),
    () => rogue.publishKeys(rotation),
    () => rogue.activateKeys(rotation),
    () => rogue.taintKeys(rotation),
    () => rogue.revokeKeys(rotation, true),
    () => rogue.withdrawKeys(rotation),
    () => rogue.publishedKeys(),
    () => rogue.slotKeys("release"),
  ];
  expect(tried).toHaveLength(Object.keys(rogue).length);
  for (const attempt of tried) await expect(attempt()).rejects.toThrow("is called by its own script alone");
  expect(await ring.sign("release", kid, Date.now(), [message])).toMatchObject({ state: "signed" });
});

test("under concurrent calls no signature of the old key comes after its successor was activated", async () => {
  const { ring } = open(release);
  const keys = await ring.prepareKeys(rotation, ["release"]);
  await ring.publishKeys(rotation);
  const old = keys.old[0]!.kid;
  let activated = false;
  const outcomes: string[] = [];
  const caller = async (): Promise<void> => {
    for (let calls = 0; calls < 40; calls += 1) {
      const startedAfter = activated;
      const { state } = await ring.sign("release", old, Date.now(), [utf8("a")]);
      outcomes.push(startedAfter ? `late ${state}` : state);
    }
  };
  const callers = Array.from({ length: 4 }, caller);
  await ring.activateKeys(rotation);
  activated = true;
  await Promise.all(callers);
  expect(outcomes).not.toContain("late signed");
  expect(outcomes.some((one) => one.endsWith("rotated"))).toBe(true);
});
