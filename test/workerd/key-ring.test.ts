// The key rings as they are deployed: what outlives the object, that private halves stay inside, and another secret.

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { sqlOf } from "../../durable-objects/sql.ts";
import { base64Bytes, utf8 } from "../../shared/contract/bytes.ts";
import { KeyRing } from "../../shared/rotation/ring.ts";
import type { RingSignerApi, RotatingKeysApi } from "../../shared/rotation/service.ts";
import { importVerifyKey, verifySignature } from "../../shared/signing/keys.ts";

type Ring = DurableObjectStub & RingSignerApi & RotatingKeysApi;
const bound = env as unknown as {
  RELEASE_RING: DurableObjectNamespace;
  AUDIT_RING: DurableObjectNamespace;
  RELEASE_KEY: string;
};
let count = 0;
const open = (namespace: DurableObjectNamespace): Ring =>
  namespace.getByName(`ring ${(count += 1)}`) as unknown as Ring;
const rotation = `rot_${"1".repeat(26)}`;

async function rotated(ring: Ring, slots: string[]) {
  const keys = await ring.prepareKeys(rotation, slots);
  await ring.publishKeys(rotation);
  await ring.activateKeys(rotation);
  return keys;
}

test("a ring that was evicted has the same keys, and signs with them", async () => {
  for (const [namespace, slots] of [
    [bound.RELEASE_RING, ["release"]],
    [bound.AUDIT_RING, ["checkpoint", "statement"]],
  ] as const) {
    const ring = open(namespace);
    const keys = await rotated(ring, [...slots]);
    const published = await ring.publishedKeys();
    await evictDurableObject(ring);
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
  const ring = open(bound.RELEASE_RING);
  await rotated(ring, ["release"]);
  await runInDurableObject(ring, async (_, state) => {
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

test("under concurrent calls no signature of the old key comes after its successor was activated", async () => {
  const ring = open(bound.RELEASE_RING);
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
