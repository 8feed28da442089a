// The anchor of the logs: heads, witnesses and copies under crashes, and with witnesses that are dead, slow or lie.

import { expect, test } from "vitest";
import { logDigest } from "../../shared/audit/anchor-event.ts";
import { Anchor } from "../../shared/audit/anchor.ts";
import { originOf, parseCheckpoint } from "../../shared/audit/checkpoint.ts";
import { cosign } from "../../shared/audit/cosignature.ts";
import { parseNote } from "../../shared/audit/note.ts";
import { parseProofFile } from "../../shared/audit/proof-file.ts";
import { openAnchorings, type Witnessed } from "../../shared/audit/witnessed.ts";
import { anchoring } from "../../shared/contract/http-audit.ts";
import { utf8Text } from "../../shared/contract/bytes.ts";
import { eventText } from "../../shared/contract/events.ts";
import { sha256 } from "../../workers/audit/hashing.ts";
import { sampled } from "../support/sampled.ts";
import { policyOf } from "../support/witness.ts";
import { openSql } from "../support/sqlite.ts";
import { AnchorWorld, askReally, tenants } from "./anchor-world.ts";
import { eventAt, seeded } from "./audit-events.ts";
import { Faults, newSigner, originPrefix, publishedKeysOf } from "./audit-world.ts";

const [one, two, three] = tenants;
const sizeOf = (world: AnchorWorld, tenant: string): number =>
  parseCheckpoint(world.logs.get(tenant)!.log.checkpoint()!)!.size;

/** As a verifier that knows the three witnesses and asks for `quorum` of them. */
async function witnessedBy(world: AnchorWorld, tenant: string, quorum = 3): Promise<Witnessed> {
  const lines = world.witnesses.map(({ name, key }) => `witness ${name} ${key.text}\n`).join("");
  const policy = await policyOf(
    `${lines}group G ${quorum} ${world.witnesses.map(({ name }) => name).join(" ")}\nquorum G\n`,
  );
  const opened = await openAnchorings(await world.anchor.anchorings(tenant), {
    tenantId: tenant,
    keys: publishedKeysOf(world.keys),
    policy,
    sha256,
    now: world.now,
  });
  if (!opened.ok) throw new Error(opened.reason);
  return opened.witnessed;
}

const alarms = (world: AnchorWorld): unknown[] =>
  world.logged.filter(({ alarm }) => alarm === true).map(({ error, message }) => error ?? message);

test("heads of all logs are anchored and cosigned within a minute; nothing happens where nothing has changed", async () => {
  const world = await AnchorWorld.make();
  await world.grow(one);
  await world.grow(two, 300);
  await world.minute();
  for (const tenant of [one, two]) {
    expect(await witnessedBy(world, tenant)).toMatchObject({
      isQuorum: true,
      agreement: { agreed: 3, of: 3, size: sizeOf(world, tenant), since: new Date(world.now).toISOString() },
    });
  }
  expect(await world.anchor.anchorings(three)).toEqual([]);
  const [objects, asked] = [world.log.objects.size, world.asked.length];
  await world.minute(5);
  expect([world.log.objects.size, world.asked.length]).toEqual([objects, asked]);
  await world.grow(one);
  await world.grow(three);
  const before = world.now;
  await world.minute();
  expect(await witnessedBy(world, one)).toMatchObject({ isQuorum: true, agreement: { size: 6 } });
  expect(await witnessedBy(world, three)).toMatchObject({ isQuorum: true, agreement: { size: 3 } });
  // A log that rests keeps the time from which witnesses vouch for it.
  const since = Date.parse((await witnessedBy(world, two)).agreement.since!);
  expect(since).toBeLessThan(before);
  expect(await world.heads()).toHaveLength(4);
  expect(alarms(world)).toEqual([]);
});

test("the anchor log holds no tenant's id, and a tenant's head stands under a digest that its verifier computes", async () => {
  const world = await AnchorWorld.make();
  await world.grow(one);
  await world.minute();
  const [head] = await world.heads();
  expect(head).toMatchObject({ log_sha256: logDigest(sha256, originOf(originPrefix, one)), tree_size: 3 });
  const [shown] = await world.anchor.anchorings(one);
  expect(JSON.stringify(shown)).not.toContain(one);
});

test("heads are the log's own: no tenant's log takes them, and nobody brings one from outside", async () => {
  const { log } = (await AnchorWorld.make()).logs.get(one)!;
  const head = { log_sha256: "a".repeat(64), tree_size: 3, root_sha256: "b".repeat(64) };
  expect(() => log.appendHeads(one, [head])).toThrow("the anchor log only");
  const text = eventText({ ...eventAt(0, seeded(1), one), type: "mc.log.head", attributes: head });
  expect(() => log.append(one, [text])).toThrow("mc.log.head is the log's own");
});

/** Two minutes with something new in each, as the crash tests run them. */
async function twoMinutes(world: AnchorWorld): Promise<void> {
  await world.minute();
  await world.grow(one);
  await world.grow(three);
  await world.minute();
}

const stepCount = await (async () => {
  const world = await AnchorWorld.make();
  await world.grow(one);
  await world.grow(two);
  const faults = new Faults();
  world.reopen(faults);
  await twoMinutes(world);
  return faults.steps;
})();

test("there are steps to crash at", () => {
  expect(stepCount).toBeGreaterThan(80);
});

test.each(
  sampled(
    Array.from({ length: stepCount }, (_, step) => step + 1),
    9,
  ),
)("a crash at effect %i loses no head, anchors none twice, and leaves each witness with one tree", async (stopAt) => {
  const world = await AnchorWorld.make();
  await world.grow(one);
  await world.grow(two);
  const faults = new Faults(stopAt);
  world.reopen(faults);
  await twoMinutes(world);
  expect(faults.isStopped).toBe(true);
  world.reopen();
  await world.hour();
  for (const tenant of tenants) {
    expect(await witnessedBy(world, tenant)).toMatchObject({
      isQuorum: true,
      agreement: { agreed: 3, size: sizeOf(world, tenant) },
    });
  }
  const names = (await world.heads()).map(({ log_sha256, tree_size }) => `${log_sha256} ${tree_size}`);
  expect(new Set(names).size).toBe(names.length);
  const head = parseCheckpoint(world.log.log.checkpoint()!)!;
  for (const { store } of world.witnesses)
    expect([...store.heads.values()].map(({ size }) => size)).toEqual([head.size]);
  expect(alarms(world)).toEqual([]);
});

test("a dead witness takes nothing from the others; it is asked less and less often, and catches up when it is back", async () => {
  const world = await AnchorWorld.make();
  world.ways.set("w2.example", () => Promise.reject(new TypeError("connection refused")));
  for (let minute = 0; minute < 30; minute += 1) {
    await world.grow(one);
    await world.minute();
    const { agreement, isQuorum } = await witnessedBy(world, one, 2);
    expect({ ...agreement, since: null }).toEqual({
      agreed: 2,
      of: 3,
      names: ["w1.example", "w3.example"],
      since: null,
      size: sizeOf(world, one),
    });
    expect(isQuorum).toBe(true);
  }
  const asked = world.asked.filter((name) => name === "w2.example").length;
  expect(asked).toBeGreaterThanOrEqual(5);
  expect(asked).toBeLessThanOrEqual(7);
  expect(alarms(world)).not.toEqual([]);
  world.ways.clear();
  await world.hour();
  expect(await witnessedBy(world, one)).toMatchObject({ isQuorum: true, agreement: { agreed: 3 } });
});

test("a witness that does not answer yet holds up neither the others' cosignatures nor the next heads", async () => {
  const world = await AnchorWorld.make();
  await world.grow(one);
  let release = (): void => undefined;
  const stuck = new Promise<void>((resolve) => {
    release = resolve;
  });
  world.ways.set("w1.example", async (witness, body) => {
    await stuck;
    return await askReally(witness, body);
  });
  await world.anchor.collect();
  const cosigning = world.anchor.cosign();
  await expect.poll(async () => (await world.anchor.anchorings(one)).length).toBe(1);
  await expect.poll(async () => (await witnessedBy(world, one, 2)).agreement.agreed).toBe(2);
  await world.grow(two);
  await world.anchor.collect();
  expect(await world.heads()).toHaveLength(2);
  // A second cron meets the first one's work, and waits for it.
  expect(world.anchor.cosign()).toBe(cosigning);
  release();
  await cosigning;
  expect((await witnessedBy(world, one)).agreement.agreed).toBe(3);
});

test("a witness that has lost its memory, or whose answer was lost, is asked from where it stands", async () => {
  const world = await AnchorWorld.make();
  await world.grow(one);
  await world.minute();
  world.witnesses[0]!.store.heads.clear();
  world.ways.set("w2.example", async (witness, body) => {
    await askReally(witness, body);
    throw new Error("the answer was lost");
  });
  await world.grow(one);
  await world.minute();
  world.ways.clear();
  await world.grow(one);
  await world.minute(2);
  expect(await witnessedBy(world, one)).toMatchObject({ isQuorum: true, agreement: { agreed: 3, size: 9 } });
});

type Lie = (world: AnchorWorld, note: string) => Promise<{ status?: number; contentType?: string; body?: string }>;
const lies: [string, Lie, string][] = [
  ["nothing", async () => ({}), "its cosignature does not verify"],
  ["what is no signature line", async () => ({ body: "<html>" }), "its cosignature does not verify"],
  [
    "a signature on another checkpoint",
    async ({ witnesses: [w], now }, note) => ({
      body: await cosign(w!.signer, w!.name, `${parseNote(note)!.text}more\n`, Math.floor(now / 1000)),
    }),
    "its cosignature does not verify",
  ],
  [
    "a stranger's signature under its name",
    async ({ witnesses: [w], now }, note) => ({
      body: await cosign(await newSigner("Ed25519"), w!.name, parseNote(note)!.text, Math.floor(now / 1000)),
    }),
    "its cosignature does not verify",
  ],
  [
    "another witness's signature",
    async ({ witnesses: [, w], now }, note) => ({
      body: await cosign(w!.signer, w!.name, parseNote(note)!.text, Math.floor(now / 1000)),
    }),
    "its cosignature does not verify",
  ],
  [
    "a time an hour ahead",
    async ({ witnesses: [w], now }, note) => ({
      body: await cosign(w!.signer, w!.name, parseNote(note)!.text, Math.floor(now / 1000) + 3_600),
    }),
    "its cosignature does not verify",
  ],
  ["a redirect", async () => ({ status: 307 }), "it answered 307"],
  ["an error", async () => ({ status: 500 }), "it answered 500"],
  [
    "a conflict without a size",
    async () => ({ status: 409, contentType: "text/x.tlog.size", body: "?\n" }),
    "no other size",
  ],
  [
    "a conflict of another type",
    async () => ({ status: 409, contentType: "text/plain", body: "0\n" }),
    "no other size",
  ],
  [
    "a conflict with the size asked for",
    async () => ({ status: 409, contentType: "text/x.tlog.size", body: "0\n" }),
    "no other size",
  ],
];

test.each(lies)(
  "a witness that answers %s is not believed, and takes nothing from the others",
  async (_, lie, reason) => {
    const world = await AnchorWorld.make();
    await world.grow(one);
    world.ways.set("w1.example", async (_witness, body) => ({
      status: 200,
      contentType: "text/plain",
      body: "",
      ...(await lie(world, body.slice(body.indexOf("\n\n") + 2))),
    }));
    await world.minute();
    expect(await witnessedBy(world, one, 2)).toMatchObject({
      isQuorum: true,
      agreement: { names: ["w2.example", "w3.example"] },
    });
    expect(world.logged.filter(({ message }) => message.startsWith("a witness"))).toMatchObject([
      { level: "warn", error: expect.stringContaining(reason) as string },
    ]);
    const [shown] = await world.anchor.anchorings(one);
    expect(parseNote(parseProofFile(shown!.proof)!.checkpoint)!.signatures).toHaveLength(3);
  },
);

test("a witness that knows another tree of the anchor log is an alarm at once", async () => {
  const ahead = await AnchorWorld.make();
  await ahead.grow(one);
  ahead.ways.set("w1.example", async () => ({ status: 409, contentType: "text/x.tlog.size", body: "99\n" }));
  ahead.ways.set("w2.example", async () => ({ status: 422, contentType: "text/plain", body: "no" }));
  await ahead.minute();
  expect(new Set(alarms(ahead))).toEqual(
    new Set(["it does not find our tree consistent", "it has cosigned a larger tree than ours"]),
  );
});

test("a log that contradicts its anchored head is an alarm, and its new head is not anchored", async () => {
  const world = await AnchorWorld.make();
  await world.grow(one, 5);
  await world.minute();
  const other = await AnchorWorld.make();
  await other.grow(two);
  await other.grow(one, 4);
  world.logs.set(one, other.logs.get(one)!);
  // Another key signed it, which the anchor does not look at: its size and root are enough.
  await world.minute();
  expect(alarms(world)).toEqual(["a log contradicts its anchored head"]);
  expect(await world.heads()).toHaveLength(1);
  await other.grow(one, 1);
  await world.minute();
  expect(alarms(world)).toHaveLength(2);
});

test("what is kept is bounded: a head for each count of witnesses, and an older one is shown where more cosigned it", async () => {
  const world = await AnchorWorld.make();
  await world.grow(one);
  await world.minute();
  const dead = (): Promise<never> => Promise.reject(new Error("dead"));
  world.ways.set("w3.example", dead);
  await world.grow(one);
  await world.minute();
  world.ways.set("w2.example", dead);
  for (let minute = 0; minute < 10; minute += 1) {
    await world.grow(one);
    await world.minute();
  }
  const counts = (await world.anchor.anchorings(one)).map(
    ({ proof }) => parseNote(parseProofFile(proof)!.checkpoint)!.signatures.length - 1,
  );
  expect(counts).toEqual([1, 2, 3]);
  expect((await witnessedBy(world, one, 3)).agreement).toMatchObject({ agreed: 3, size: 3 });
  expect((await witnessedBy(world, one, 2)).agreement).toMatchObject({ agreed: 2, size: 6 });
  expect((await witnessedBy(world, one, 1)).agreement).toMatchObject({ agreed: 1, size: 36 });
  // Every head that was seen must be in the log, not only the one that counts.
  expect((await witnessedBy(world, one, 3)).heads.map(({ size }) => size)).toEqual([36, 6, 3]);
});

const copies = (world: AnchorWorld, tenant: string): string[] =>
  [...world.log.objects.keys()].filter((key) => key.startsWith(`${tenant}/anchor/`));

test("the bucket gets a copy of a log's head at most once an hour, and none of a log that rests", async () => {
  const world = await AnchorWorld.make();
  await world.grow(two);
  // Every 20 minutes for two hours and a bit.
  for (let at = 0; at < 7; at += 1) {
    await world.grow(one, 1);
    await world.minute();
    world.log.now += 19 * 60_000;
  }
  expect(copies(world, one)).toEqual([1, 4, 7].map((size) => `${one}/anchor/${String(size).padStart(20, "0")}.json`));
  expect(copies(world, two)).toHaveLength(1);
  const stored = anchoring.parse(JSON.parse(utf8Text(world.log.objects.get(copies(world, one)[2]!)!)));
  expect(parseNote(parseProofFile(stored.proof)!.checkpoint)!.signatures).toHaveLength(4);
});

test("a copy waits ten minutes for a witness that is late, and not longer", async () => {
  const world = await AnchorWorld.make();
  world.ways.set("w1.example", () => Promise.reject(new Error("dead")));
  await world.grow(one);
  await world.minute(10);
  expect(copies(world, one)).toEqual([]);
  await world.minute();
  expect(copies(world, one)).toHaveLength(1);
});

test("with Postgres down, logs that were anchored before are asked in turn", async () => {
  const world = await AnchorWorld.make();
  await world.grow(one);
  await world.minute();
  world.isPostgresUp = false;
  await world.grow(one);
  await world.minute();
  expect(await witnessedBy(world, one)).toMatchObject({ isQuorum: true, agreement: { size: 6 } });
  expect(world.logged).toMatchObject([{ level: "warn", alarm: undefined }]);
});

test("more active logs than one minute takes are asked in the next ones, each in its turn", async () => {
  const world = await AnchorWorld.make();
  const ids = Array.from({ length: 1_201 }, (_, at) => `7f0c2d9e-5a53-4d2f-9a0b-${String(at).padStart(12, "0")}`);
  const asked: string[] = [];
  const anchor = new Anchor({
    ...world.parts(new Faults()),
    sql: openSql(":memory:"),
    active: async (after, limit) => ids.filter((id) => id > after).slice(0, limit),
    checkpointOf: async (tenant) => {
      asked.push(tenant);
      return null;
    },
  });
  for (let minute = 0; minute < 3; minute += 1) await anchor.collect();
  expect(asked).toEqual(ids);
  await anchor.collect();
  expect(asked.slice(ids.length)).toEqual(ids.slice(0, 500));
});
