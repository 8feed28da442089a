// A ring on its own SQLite: which key signs, what is published, and what a restart and another secret leave of it.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { openSql, type OpenSql } from "../../test/support/sqlite.ts";
import { base64Bytes, utf8, type Bytes } from "../contract/bytes.ts";
import { readEndorsement } from "../signing/endorsement.ts";
import { importVerifyKey, verifySignature } from "../signing/keys.ts";
import { KeyRing, type RingParts, type RingSlot } from "./ring.ts";
import { RingSigners } from "./ring-signers.ts";

const folder = mkdtempSync(join(tmpdir(), "ring-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const start = Date.UTC(2026, 5, 1, 12);
const secret = "a secret of the worker, of 40 characters";
const [first, second] = [`rot_${"1".repeat(26)}`, `rot_${"2".repeat(26)}`] as const;
let count = 0;

async function privateJwk(algorithm: "P-256" | "Ed25519"): Promise<string> {
  const of = algorithm === "P-256" ? { name: "ECDSA", namedCurve: "P-256" } : { name: "Ed25519" };
  const pair = (await crypto.subtle.generateKey(of, true, ["sign", "verify"])) as CryptoKeyPair;
  const jwk = await crypto.subtle.exportKey("jwk", pair.privateKey);
  return JSON.stringify({ ...jwk, not_before: "2026-01-01T00:00:00.000Z" });
}

class RingWorld {
  now = start;
  secret: string | undefined = secret;
  readonly slots: readonly RingSlot[];
  readonly #path = join(folder, `${(count += 1)}.sqlite`);
  #sql: OpenSql | null = null;
  ring!: KeyRing;

  private constructor(slots: readonly RingSlot[]) {
    this.slots = slots;
    this.open();
  }

  static async make(): Promise<RingWorld> {
    return new RingWorld([
      { name: "checkpoint", algorithm: "Ed25519", uses: ["checkpoint"], firstKey: await privateJwk("Ed25519") },
      { name: "statement", algorithm: "P-256", uses: ["manifest", "pack"], firstKey: await privateJwk("P-256") },
    ]);
  }

  open(change: Partial<RingParts> = {}): void {
    this.#sql?.close();
    this.#sql = openSql(this.#path);
    this.ring = new KeyRing({
      sql: this.#sql,
      clock: () => this.now,
      random: (byteCount) => new Uint8Array(randomBytes(byteCount)),
      name: "test",
      slots: this.slots,
      secret: this.secret,
      ...change,
    });
  }

  async rotate(rotation: string, slots: readonly string[] = ["checkpoint", "statement"]) {
    const keys = await this.ring.prepareKeys(rotation, slots);
    await this.ring.publishKeys(rotation);
    await this.ring.activateKeys(rotation);
    return keys;
  }

  async kid(slot = "statement"): Promise<string> {
    return (await this.ring.current()).find((key) => key.slot === slot)!.kid;
  }

  /** The keys whose private halves are kept. */
  kept(): unknown[] {
    return this.#sql!.exec("select kid from keys where sealed is not null order by n").map(({ kid }) => kid);
  }

  async published(kid: string) {
    return (await this.ring.publishedKeys()).keys.find((key) => key.kid === kid);
  }
}

const message = utf8("what is to be signed");

test("a ring that was never rotated signs with the worker's secrets, and needs no secret of its own", async () => {
  const world = await RingWorld.make();
  world.open({ secret: undefined });
  const { keys, endorsements } = await world.ring.publishedKeys();
  expect(keys.map(({ use, not_before }) => [use, not_before])).toEqual([
    ["checkpoint", "2026-01-01T00:00:00.000Z"],
    ["manifest", "2026-01-01T00:00:00.000Z"],
    ["pack", "2026-01-01T00:00:00.000Z"],
  ]);
  expect(endorsements).toEqual([]);
  const kid = await world.kid();
  const signed = await world.ring.sign("statement", kid, world.now, [message]);
  const key = await importVerifyKey(base64Bytes(keys[1]!.spki), "P-256");
  const [signature] = signed.state === "signed" ? signed.signatures : [];
  expect(await verifySignature(key!, signature!, message)).toBe(true);
  await expect(world.ring.prepareKeys(first, ["statement"])).rejects.toThrow("KEY_RING_SECRET is not set");
});

test("each step may come twice, and a restart in between changes nothing", async () => {
  const world = await RingWorld.make();
  const old = await world.kid();
  const keys = await world.ring.prepareKeys(first, ["statement"]);
  const next = keys.new[0]!.kid;
  world.open();
  expect(await world.ring.prepareKeys(first, ["statement"])).toEqual(keys);
  expect(await world.published(next)).toBeUndefined();
  await world.ring.publishKeys(first);
  world.open();
  await world.ring.publishKeys(first);
  expect([(await world.published(next)) !== undefined, await world.kid()]).toEqual([true, old]);
  await world.ring.activateKeys(first);
  world.now += 5_000;
  world.open();
  await world.ring.activateKeys(first);
  expect(await world.kid()).toBe(next);
  expect(await world.published(old)).toMatchObject({ not_after: new Date(start).toISOString() });
  for (const _ of [1, 2]) {
    await world.ring.taintKeys(first);
    await world.ring.revokeKeys(first, false);
    world.open();
  }
  expect((await world.published(old))!.revoked_at).toBeUndefined();
  expect((await world.ring.sign("statement", next, world.now, [message])).state).toBe("signed");
  expect((await world.ring.sign("statement", old, world.now, [message])).state).toBe("rotated");
});

test("of each use the key that signs is published first: before, while its successor waits, and after", async () => {
  const world = await RingWorld.make();
  const firstOf = async (use: string) => (await world.ring.publishedKeys()).keys.find((key) => key.use === use)!.kid;
  for (const rotation of [first, second]) {
    const { new: made } = await world.ring.prepareKeys(rotation, ["checkpoint", "statement"]);
    await world.ring.publishKeys(rotation);
    for (const isThrough of [false, true]) {
      if (isThrough) await world.ring.activateKeys(rotation);
      const signing = [await world.kid("checkpoint"), await world.kid(), await world.kid()];
      expect(await Promise.all(["checkpoint", "manifest", "pack"].map(firstOf))).toEqual(signing);
      expect(signing.includes(made[0]!.kid)).toBe(isThrough);
    }
  }
});

test("nothing is signed by the old key after its successor was activated, whatever was under way", async () => {
  const world = await RingWorld.make();
  const old = await world.kid();
  await world.ring.prepareKeys(first, ["statement"]);
  await world.ring.publishKeys(first);
  const order: string[] = [];
  const asked = Array.from({ length: 20 }, async () => {
    const { state } = await world.ring.sign("statement", old, world.now, [message]);
    order.push(state);
  });
  const activated = world.ring.activateKeys(first).then(() => order.push("activated"));
  const late = world.ring.sign("statement", old, world.now, [message]).then(({ state }) => order.push(`late ${state}`));
  await Promise.all([...asked, activated, late]);
  expect(order.lastIndexOf("signed")).toBeLessThan(order.indexOf("activated"));
  expect(order).toContain("late rotated");
  expect(order.filter((one) => one === "signed").length).toBeGreaterThan(0);
});

test("a key is retired no earlier than at the latest time that it signed, also where that was ahead and the object restarted", async () => {
  const world = await RingWorld.make();
  const old = await world.kid();
  const ahead = start + 3_000;
  await world.ring.sign("statement", old, ahead, [message]);
  world.open();
  await world.rotate(first, ["statement"]);
  expect(await world.published(old)).toMatchObject({ not_after: new Date(ahead).toISOString() });
});

test("a new key signs what was begun before it was made, and nothing of a time that it was not in force", async () => {
  const world = await RingWorld.make();
  await world.rotate(first, ["statement"]);
  const kid = await world.kid();
  expect((await world.ring.sign("statement", kid, start - 60_000, [message])).state).toBe("signed");
  await expect(world.ring.sign("statement", kid, start - 3_600_000, [message])).rejects.toThrow("nothing of before");
  await expect(world.ring.sign("statement", kid, start + 3_600_000, [message])).rejects.toThrow("ahead of");
});

test("each key endorses the one after it, the Ed25519 key as well", async () => {
  const world = await RingWorld.make();
  const before = await world.ring.publishedKeys();
  const [one, two] = [await world.rotate(first), await world.rotate(second)];
  const { keys, endorsements } = await world.ring.publishedKeys();
  const read = await Promise.all(
    endorsements.map((bundle) => readEndorsement(bundle, (kid) => keys.find((key) => key.kid === kid) ?? null)),
  );
  expect(read.map((endorsed) => endorsed.ok && [endorsed.by, endorsed.key.kid])).toEqual([
    ...one.old.map(({ kid }, at) => [kid, one.new[at]!.kid]),
    ...two.old.map(({ kid }, at) => [kid, two.new[at]!.kid]),
  ]);
  expect(two.old).toEqual(one.new);
  for (const bundle of endorsements.slice(2)) {
    const known = (kid: string) => before.keys.find((key) => key.kid === kid) ?? null;
    expect(await readEndorsement(bundle, known)).toMatchObject({ ok: false });
  }
});

test("a wrong KEY_RING_SECRET is refused by its name, for signing and for the next key; the right one goes on", async () => {
  const world = await RingWorld.make();
  await world.rotate(first, ["statement"]);
  const kid = await world.kid();
  world.open({ secret: `${secret}, changed` });
  await expect(world.ring.sign("statement", kid, world.now, [message])).rejects.toThrow(
    "KEY_RING_SECRET is not the secret",
  );
  await expect(world.ring.prepareKeys(second, ["checkpoint"])).rejects.toThrow("KEY_RING_SECRET is not the secret");
  world.open({ name: "another ring" });
  await expect(world.ring.current()).rejects.toThrow("KEY_RING_SECRET is not the secret");
  world.open();
  expect(await world.kid()).toBe(kid);
});

test("a first key that was replaced in the worker's secrets while it signs is refused by name, and after that it is needed no more", async () => {
  const world = await RingWorld.make();
  await world.ring.prepareKeys(first, ["statement"]);
  const slots = [world.slots[0]!, { ...world.slots[1]!, firstKey: await privateJwk("P-256") }];
  world.open({ slots });
  await expect(world.ring.current()).rejects.toThrow("the worker's secret for statement is another key");
  world.open();
  await world.ring.publishKeys(first);
  await world.ring.activateKeys(first);
  world.open({ slots });
  expect((await world.ring.sign("statement", await world.kid(), world.now, [message])).state).toBe("signed");
});

test("a revoked key's private half is gone, and its revocation is published", async () => {
  const world = await RingWorld.make();
  await world.rotate(first, ["statement"]);
  const kid = await world.kid();
  await world.rotate(second, ["statement"]);
  expect(world.kept()).toEqual([kid, await world.kid()]);
  await world.ring.revokeKeys(second, true);
  expect(world.kept()).toEqual([await world.kid()]);
  expect(await world.published(kid)).toMatchObject({ revoked_at: new Date(start).toISOString() });
  await world.ring.revokeKeys(second, false);
  expect(await world.published(kid)).toMatchObject({ revoked_at: new Date(start).toISOString() });
});

test("keys that are taken back never sign: unpublished ones are gone, published ones are revoked and never in force, and the slot is free", async () => {
  const world = await RingWorld.make();
  const signing = [await world.kid("checkpoint"), await world.kid()];
  const { new: made } = await world.ring.prepareKeys(first, ["checkpoint"]);
  for (const _ of [1, 2]) expect(await world.ring.withdrawKeys(first)).toEqual({ old: [], new: [] });
  await world.ring.publishKeys(first);
  expect(await world.published(made[0]!.kid)).toBeUndefined();
  const keys = await world.ring.prepareKeys(second, ["checkpoint", "statement"]);
  await world.ring.publishKeys(second);
  const before = await world.ring.publishedKeys();
  world.now += 5_000;
  for (const _ of [1, 2]) {
    expect(await world.ring.withdrawKeys(second)).toEqual(keys);
    world.open();
    world.now += 5_000;
  }
  expect(world.kept()).toEqual([]);
  const after = await world.ring.publishedKeys();
  const revoked_at = new Date(start + 5_000).toISOString();
  for (const { kid } of keys.new) {
    const shown = before.keys.find((key) => key.kid === kid)!;
    expect(await world.published(kid)).toEqual({ ...shown, not_after: shown.not_before, revoked_at });
  }
  expect(after.keys.map(({ kid }) => kid)).toHaveLength(before.keys.length);
  // Who has not seen them yet can follow the set still.
  expect(after.endorsements).toEqual(before.endorsements);
  const slot = await world.ring.slotKeys("statement");
  expect(slot.map(({ active, revoked }) => [active, revoked])).toEqual([
    [true, false],
    [false, true],
  ]);
  await world.ring.activateKeys(second);
  expect([await world.kid("checkpoint"), await world.kid()]).toEqual(signing);
  for (const { slot: name, kid } of keys.new)
    expect(await world.ring.sign(name, kid, world.now, [message])).toEqual({ state: "rotated" });
  const third = `rot_${"3".repeat(26)}`;
  const next = await world.rotate(third);
  expect([await world.kid("checkpoint"), await world.kid()]).toEqual(next.new.map(({ kid }) => kid));
  expect(next.old.map(({ kid }) => kid)).toEqual(signing);
});

test("keys that sign, or have signed, are not taken back; and what was taken back makes no keys, however late its step comes", async () => {
  const world = await RingWorld.make();
  await world.rotate(first, ["statement"]);
  await expect(world.ring.withdrawKeys(first)).rejects.toThrow("signs, or has signed");
  await world.rotate(second, ["statement"]);
  await expect(world.ring.withdrawKeys(first)).rejects.toThrow("signs, or has signed");
  const third = `rot_${"3".repeat(26)}`;
  const late = world.ring.prepareKeys(third, ["statement"]);
  await world.ring.withdrawKeys(third);
  await expect(late).rejects.toThrow("was cancelled");
  await expect(world.ring.prepareKeys(third, ["statement"])).rejects.toThrow("was cancelled");
  expect(await world.ring.prepareKeys(`rot_${"4".repeat(26)}`, ["statement"])).toMatchObject({ new: [{}] });
  // It needs no secret: a rotation that stands for the want of one can be taken back.
  world.open({ secret: undefined });
  expect(await world.ring.withdrawKeys(`rot_${"4".repeat(26)}`)).toEqual({ old: [], new: [] });
});

test("two rotations of one slot at once are refused, and of two of another ring's slots nothing is known", async () => {
  const world = await RingWorld.make();
  await world.ring.prepareKeys(first, ["statement"]);
  await expect(world.ring.prepareKeys(second, ["statement"])).rejects.toThrow("is being rotated already");
  await expect(world.ring.prepareKeys(second, ["link"])).rejects.toThrow("no slot link");
  await expect(world.ring.activateKeys(second)).rejects.toThrow("knows no rotation");
});

test("signers sign in one call what is asked in one turn, and sign anew where the key rotated under them", async () => {
  const world = await RingWorld.make();
  const calls: number[] = [];
  const signers = new RingSigners(() => ({
    current: () => world.ring.current(),
    sign: (slot, kid, at, messages) => {
      calls.push(messages.length);
      return world.ring.sign(slot, kid, at, messages);
    },
  }));
  const signAll = (messages: readonly Bytes[]) =>
    signers.sign(world.now, async (signerOf) => {
      const signer = signerOf("statement");
      return { kid: signer.kid, signatures: await Promise.all(messages.map((one) => signer.sign(one))) };
    });
  const before = await signAll([utf8("a"), utf8("b"), utf8("c")]);
  expect([calls, before.kid]).toEqual([[3], await world.kid()]);
  const many = Array.from({ length: 300 }, (_, at) => utf8(String(at)));
  await world.rotate(first, ["statement"]);
  const { kid, signatures } = await signAll(many);
  expect(kid).toBe(await world.kid());
  expect(calls).toEqual([3, 256, 44, 256, 44]);
  const key = await importVerifyKey(base64Bytes((await world.published(kid))!.spki), "P-256");
  for (const [at, signature] of signatures.entries())
    expect(await verifySignature(key!, signature, many[at]!)).toBe(true);
});
