// A pack, against everything that an archive can hold beside what was signed, and against a log that shows two histories.

import { createHash } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import { tenantId } from "../../test/simulation/audit-events.ts";
import { newKeys, World, type TestKeys } from "../../test/simulation/audit-world.ts";
import {
  executionId,
  logLyingReceipt,
  packArchive as archive,
  packing,
  Story,
} from "../../test/simulation/disclosure-world.ts";
import { utf8, utf8Text, type Bytes } from "../contract/bytes.ts";
import { canonicalJson } from "../contract/events.ts";
import type { PublishedKeys } from "../contract/http-audit.ts";
import { signStatement } from "../signing/bundle.ts";
import { findOrBuild, gather, packKey } from "./build.ts";
import {
  budgetName,
  eventName,
  indexName,
  manifestName,
  packFiles,
  packStatement,
  proofName,
  reviewsName,
  type PackFile,
  type PackParts,
  type PackVersion,
} from "./pack.ts";
import { verifyPack, type PackVerdict } from "./verify.ts";

const hash = (bytes: Uint8Array): Bytes => new Uint8Array(createHash("sha256").update(bytes).digest());
let keys: TestKeys;
let trusted: PublishedKeys;
let world: World;
let parts: PackParts;
let zip: Bytes;

/** The log of one run, as it ended, with all that was in force, and what came later. */
async function logOfRun(outcome: "succeeded" | "failed"): Promise<World> {
  const made = new World(keys, outcome.length);
  const story = new Story();
  made.log.append(tenantId, [...story.before(), ...story.start(), ...story.finish(executionId, 10, outcome)]);
  await made.log.sealNow();
  made.log.append(tenantId, story.after());
  await made.log.sealNow();
  return made;
}

async function partsOf(of: World, version: PackVersion = 3): Promise<PackParts> {
  const gathered = await gather(packing(of), packing(of).log(tenantId), tenantId, executionId, version);
  if (gathered === null) throw new Error("the log does not hold the run");
  return gathered;
}

/** `files` as they are, under an index that the log's own key signed. */
async function packOf(of: PackParts, files = packFiles(of)): Promise<Bytes> {
  const index = await signStatement(keys.statement, await packStatement(of, files));
  return await archive([...files, { name: indexName, bytes: utf8(canonicalJson(index)) }]);
}

const verify = (pack: Uint8Array): Promise<PackVerdict> => verifyPack(pack, trusted, hash);

beforeAll(async () => {
  keys = await newKeys();
  world = await logOfRun("succeeded");
  trusted = world.published;
  parts = await partsOf(world);
  zip = await packOf(parts);
});

const facts = { pack_version: 3, tenant_id: tenantId, execution_id: executionId, outcome: "succeeded" };

test("a pack as it is written verifies", async () => {
  expect(await verify(zip)).toEqual({
    ok: true,
    facts: { ...facts, event_count: 6, context_count: 9, tree_size: 19, not_proven: [] },
  });
});

test("a pack of version 2 verifies, and says what it cannot prove", async () => {
  const second = await partsOf(world, 2);
  const verdict = await verify(await packOf(second));
  expect(verdict).toMatchObject({
    ok: true,
    facts: { ...facts, pack_version: 2, event_count: 6, context_count: 0, tree_size: 19 },
  });
  expect(verdict.ok && verdict.facts.not_proven).toHaveLength(3);
  const names = packFiles(second).map(({ name }) => name);
  expect(names.filter((name) => /proof|appendix|context/.test(name))).toEqual([]);
});

test("the same run makes the same files and the same signed words, whoever builds it and whenever", async () => {
  const first = packFiles(parts);
  const claims = canonicalJson(await packStatement(parts, first));
  world.log.append(tenantId, new Story(9).after());
  await world.log.sealNow();
  const again = await partsOf(world);
  expect(packFiles(again)).toEqual(first);
  expect(canonicalJson(await packStatement(again, packFiles(again)))).toBe(claims);
  const index = { name: indexName, bytes: utf8("{}") };
  expect(await archive([...packFiles(again), index])).toEqual(await archive([...first, index]));
});

test("the first pack of a run that is stored is its pack, also where two are built at once", async () => {
  const both = packing(await logOfRun("succeeded"));
  const built = await Promise.all([1, 2].map(() => findOrBuild(both, tenantId, executionId)));
  expect(both.made).toHaveLength(2);
  expect(both.made[0]).not.toEqual(both.made[1]);
  expect(built[0]).toEqual(built[1]);
  expect(await findOrBuild(both, tenantId, executionId)).toEqual(built[0]);
  expect(both.made).toHaveLength(2);
  expect(packKey(tenantId, executionId, 3)).toBe(`${tenantId}/pack/v3/${executionId}.zip`);
});

describe("an archive that some tool would read otherwise is refused:", () => {
  const uint32 = (...values: number[]): Buffer => {
    const bytes = Buffer.alloc(values.length * 4);
    for (const [at, value] of values.entries()) bytes.writeUInt32LE(value, at * 4);
    return bytes;
  };
  /** What client-zip makes of one file, in its pieces. */
  async function entryOf(name: string, content: string): Promise<{ local: Buffer; central: Buffer }> {
    const one = Buffer.from(await archive([{ name, bytes: utf8(content) }]));
    const at = one.readUInt32LE(one.length - 6);
    return { local: one.subarray(0, at), central: one.subarray(at, -22) };
  }
  interface Pieces {
    local: Buffer;
    central: Buffer;
    end: Buffer;
  }
  /** The archive taken apart, changed, and put together with the end record that fits. */
  function changed(change: (pieces: Pieces, count: number) => number | void): Bytes {
    const whole = Buffer.from(zip);
    const at = whole.readUInt32LE(whole.length - 6);
    const pieces = { local: whole.subarray(0, at), central: whole.subarray(at, -22), end: whole.subarray(-22) };
    const before = pieces.end.readUInt16LE(10);
    const count = change(pieces, before) ?? before;
    pieces.end.writeUInt16LE(count, 8);
    pieces.end.writeUInt16LE(count, 10);
    uint32(pieces.central.length, pieces.local.length).copy(pieces.end, 12);
    return new Uint8Array(Buffer.concat([pieces.local, pieces.central, pieces.end]));
  }
  /** Moves every entry of the directory by so many bytes. */
  function moved(central: Buffer, by: number): Buffer {
    const out = Buffer.from(central);
    for (let at = 0; at < out.length; at += 46 + out.readUInt16LE(at + 28)) {
      out.writeUInt32LE(out.readUInt32LE(at + 42) + by, at + 42);
    }
    return out;
  }

  test("taken apart and put together it is what it was", async () => {
    expect(await verify(changed(() => undefined))).toMatchObject({ ok: true });
  });

  test("an entry that the directory does not name, in front or behind", async () => {
    const { local } = await entryOf("receipt.json", '{"outcome":"failed"}');
    const front = changed((pieces) => {
      pieces.central = moved(pieces.central, local.length);
      pieces.local = Buffer.concat([local, pieces.local]);
    });
    const behind = changed((pieces) => void (pieces.local = Buffer.concat([pieces.local, local])));
    for (const pack of [front, behind]) expect(await verify(pack)).toMatchObject({ ok: false });
  });

  test("an entry that is called something else where it lies", async () => {
    const pack = changed(({ local }) => void local.write("x", 30));
    expect(await verify(pack)).toMatchObject({ ok: false, file: "README.txt" });
  });

  test.each(["__proto__", "constructor", "more.txt", "../more.txt"])("the unsigned file %s", async (name) => {
    const added = await entryOf(name, "unsigned");
    const pack = changed((pieces, count) => {
      pieces.central = Buffer.concat([pieces.central, moved(added.central, pieces.local.length)]);
      pieces.local = Buffer.concat([pieces.local, added.local]);
      return count + 1;
    });
    expect(await verify(pack)).toMatchObject({ ok: false, file: name });
  });

  test("a file that every pack has, but that the index of this one does not name", async () => {
    const signed = packFiles(parts).filter(({ name }) => name !== "README.txt");
    const index = await signStatement(keys.statement, await packStatement(parts, signed));
    const pack = await archive([...packFiles(parts), { name: indexName, bytes: utf8(canonicalJson(index)) }]);
    expect(await verify(pack)).toEqual({ ok: false, reason: "the file is not in the index", file: "README.txt" });
  });

  test("a file twice, its second copy in place of the first or beside it", async () => {
    const again = await entryOf("receipt.json", utf8Text(utf8(canonicalJson(parts.receipt))));
    const twice = changed((pieces, count) => {
      pieces.central = Buffer.concat([pieces.central, moved(again.central, pieces.local.length)]);
      pieces.local = Buffer.concat([pieces.local, again.local]);
      return count + 1;
    });
    expect(await verify(twice)).toMatchObject({ ok: false, file: "receipt.json" });
    const doubleEntry = changed((pieces, count) => {
      const first = pieces.central.subarray(0, 46 + pieces.central.readUInt16LE(28));
      pieces.central = Buffer.concat([pieces.central, first]);
      return count + 1;
    });
    expect(await verify(doubleEntry)).toMatchObject({ ok: false });
  });

  test("a comment, a rest behind the end, a second end record, and a file cut short", async () => {
    const comment = changed(({ end }) => void end.writeUInt16LE(4, 20));
    const junk = utf8("junk");
    for (const pack of [
      Buffer.concat([comment, junk]),
      Buffer.concat([zip, junk]),
      Buffer.concat([zip, zip.subarray(-22)]),
      zip.subarray(0, -1),
      zip.subarray(0, 30),
      new Uint8Array(22),
      new Uint8Array(0),
    ]) {
      expect(await verify(pack)).toMatchObject({ ok: false });
    }
  });

  // In the first entry of the directory: flags, method, sizes, attributes (a symbolic link), offset, checksum.
  test.each([
    [8, 0x0809],
    [10, 8],
    [20, 1],
    [24, 1],
    [30, 4],
    [40, 0o120777],
    [42, 1],
    [16, 0],
  ])("another value at byte %i of an entry in the directory", async (at, value) => {
    expect(await verify(changed(({ central }) => void central.writeUInt16LE(value, at)))).toMatchObject({ ok: false });
  });

  test.each([4, 6, 8, 10, 14, 18, 22, 26, 28])("another value at byte %i of an entry where it lies", async (at) => {
    const pack = changed(({ local }) => void local.writeUInt16LE(local.readUInt16LE(at) ^ 1, at));
    expect(await verify(pack)).toMatchObject({ ok: false });
  });

  test("any flipped byte", async () => {
    for (let at = 0; at < zip.length; at += 149) {
      const flipped = new Uint8Array(zip);
      flipped[at]! ^= 1;
      expect((await verify(flipped)).ok, `byte ${at}`).toBe(false);
    }
  });
});

describe("a pack that the log's own keys signed is refused", () => {
  const changed = (name: string, bytes: Bytes | null): PackFile[] =>
    packFiles(parts).flatMap((file) => (file.name !== name ? [file] : bytes === null ? [] : [{ name, bytes }]));
  const respelled = (name: string, change: (text: string) => string) =>
    packOf(
      parts,
      packFiles(parts).map((file) => (file.name === name ? { name, bytes: utf8(change(utf8Text(file.bytes))) } : file)),
    );

  test("where its checkpoints are of two histories: one run that succeeded, and failed", async () => {
    const other = await partsOf(await logOfRun("failed"));
    const twoTrees = { ok: false, reason: "the log signed two different trees of 19 entries" };
    const name = proofName(parts.events[0]!.leaf.seq);
    const foreign = packFiles(other).find((file) => file.name === name)!;
    expect(await verify(await packOf(parts, changed(name, foreign.bytes)))).toMatchObject(twoTrees);
    // The proofs agree, and the manifest tells of the other history.
    expect(await verify(await packOf({ ...parts, manifests: other.manifests }))).toMatchObject({
      ...twoTrees,
      file: manifestName(other.manifests[0]!.range),
    });
  });

  test("where it is of another log", async () => {
    expect(await verify(await packOf({ ...parts, logOrigin: "somewhere.else/log" }))).toMatchObject({
      ok: false,
      file: indexName,
    });
  });

  test("without the manifest of a segment that holds an event", async () => {
    expect(await verify(await packOf({ ...parts, manifests: [] }))).toMatchObject({
      ok: false,
      reason: expect.stringContaining("no manifest"),
    });
  });

  test("with a receipt, signed and in the log, that says anything else than the run's end", async () => {
    const lies = [
      { outcome: "failed" },
      { exit_code: 1 },
      { units: 9 },
      { finished_at: "2026-01-01T00:00:00.000Z" },
      {},
    ];
    for (const lie of lies) {
      const bent = new World(keys, 5);
      const story = new Story();
      bent.log.append(tenantId, [...story.before(), ...story.start(), ...story.finish()]);
      await logLyingReceipt(bent, executionId, lie);
      const verdict = await verify(await packOf(await partsOf(bent)));
      expect(verdict, JSON.stringify(lie)).toMatchObject(
        Object.keys(lie).length === 0 ? { ok: true } : { ok: false, file: "receipt.json" },
      );
    }
  });

  test("without the start, the end or the receipt of the run in it, or with another's events", async () => {
    for (const type of ["mc.execution.started", "mc.execution.finished", "mc.receipt.signed"]) {
      const { seq } = parts.events.find(({ event }) => event.type === type)!.event;
      const files = packFiles(parts).filter(({ name }) => name !== eventName(seq) && name !== proofName(seq));
      expect(await verify(await packOf(parts, files)), type).toMatchObject({ ok: false });
    }
    const context = parts.contextRows.slice(0, 1);
    expect(await verify(await packOf({ ...parts, events: [...parts.events, ...context] }))).toMatchObject({
      ok: false,
      reason: "the event is another run's",
    });
  });

  test("with something in its context that was not in force, or without what was", async () => {
    const names = (seq: number) => [eventName(seq, "context"), proofName(seq, "context")];
    for (const { event } of parts.contextRows) {
      const files = packFiles(parts).filter(({ name }) => !names(event.seq).includes(name));
      expect((await verify(await packOf(parts, files))).ok, event.type).toBe(false);
    }
    const proofs = await packing(world).log(tenantId).proofsAt([0], parts.treeSize);
    const [leaf] = await packing(world).log(tenantId).leavesOf([0]);
    const old = { leaf: leaf!, event: JSON.parse(leaf!.body) as never, hashes: proofs![0]! };
    expect(await verify(await packOf({ ...parts, contextRows: [...parts.contextRows, old] }))).toMatchObject({
      ok: false,
      reason: "the entry was not in force for this run",
      file: eventName(0, "context"),
    });
  });

  test.each([
    [budgetName, '"limit_units":500', '"limit_units":501'],
    [budgetName, '"units":490', '"units":500'],
    [reviewsName, '"outcome":"approved"', '"outcome":"proposed"'],
    [reviewsName, '"entitlement_version":7', '"entitlement_version":9'],
  ])("where an appendix says what no entry says: %s, %s", async (name, is, forged) => {
    const text = utf8Text(packFiles(parts).find((file) => file.name === name)!.bytes);
    expect(text).toContain(is);
    expect(await verify(await respelled(name, () => text.replace(is, forged)))).toMatchObject({
      ok: false,
      reason: "the appendix is not what the entries of the pack say",
      file: name,
    });
  });

  test("where its index claims what its files do not say", async () => {
    const files = packFiles(parts);
    const honest = await packStatement(parts, files);
    for (const claim of [
      { tree_size: 18 },
      { event_count: 5 },
      { context_count: 8 },
      { entitlement: { decided_on: 9, seq: 0, entitlement_version: 5 } },
      { policies: [] },
      { more: true },
    ]) {
      const signed = await signStatement(keys.statement, {
        ...honest,
        predicate: { ...honest.predicate, ...claim },
      });
      const forged = await archive([...files, { name: indexName, bytes: utf8(canonicalJson(signed)) }]);
      expect((await verify(forged)).ok, JSON.stringify(claim)).toBe(false);
    }
  });

  test("with a file in another spelling, which another reader may take for something else", async () => {
    for (const name of ["receipt.json", manifestName(parts.manifests[0]!.range)]) {
      const doubled = (text: string): string => text.replace("{", '{"dsseEnvelope":{},');
      expect(await verify(await respelled(name, doubled))).toMatchObject({ ok: false, file: name });
      expect(await verify(await respelled(name, (text) => `${text}\n`))).toMatchObject({ ok: false, file: name });
    }
  });

  test("with bytes that are no text, without an exception", async () => {
    const name = proofName(parts.events[0]!.leaf.seq);
    expect(await verify(await packOf(parts, changed(name, new Uint8Array([0xff]))))).toMatchObject({
      ok: false,
      file: name,
    });
  });

  test("by a key that was retired before what it signed, or was not in use yet", async () => {
    const during = (use: string, time: { not_before?: string; not_after?: string }): PublishedKeys => ({
      ...trusted,
      keys: trusted.keys.map((key) => (key.use === use ? { ...key, ...time } : key)),
    });
    const early = { not_after: "2026-01-02T00:00:00.000Z" };
    const late = { not_before: "2027-01-01T00:00:00.000Z" };
    const name = manifestName(parts.manifests[0]!.range);
    for (const [keySet, file] of [
      [during("manifest", early), name],
      [during("manifest", late), name],
      [during("checkpoint", early), name],
      [during("checkpoint", late), name],
      [during("pack", early), indexName],
    ] as const) {
      expect(await verifyPack(zip, keySet, hash)).toMatchObject({ ok: false, file });
    }
    const { ok } = await verifyPack(zip, during("pack", { not_after: "2027-01-01T00:00:00.000Z" }), hash);
    expect(ok).toBe(true);
  });

  test("as a version 2 with files of version 3", async () => {
    const second = await partsOf(world, 2);
    expect(await verify(await packOf(second, packFiles(parts)))).toMatchObject({ ok: false });
  });
});
