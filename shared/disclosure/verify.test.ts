// A pack, against everything that an archive can hold beside what was signed, and against a log that shows two histories.

import { createHash, randomBytes } from "node:crypto";
import { downloadZip } from "client-zip";
import { beforeAll, describe, expect, test } from "vitest";
import { tenantId } from "../../test/simulation/audit-events.ts";
import { newKeys, publishedKeysOf, rangeOfName, World, type TestKeys } from "../../test/simulation/audit-world.ts";
import { utf8, utf8Text, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, eventText, type SignedBundle } from "../contract/events.ts";
import type { PublishedKeys } from "../contract/http-audit.ts";
import { manifestKey } from "../audit/layout.ts";
import { newEvent } from "../outbox/outbox.ts";
import { signStatement } from "../signing/bundle.ts";
import { indexName, manifestName, packFiles, packStatement, proofName, type PackFile, type PackParts } from "./pack.ts";
import { verifyPack, type PackVerdict } from "./verify.ts";

const executionId = "exe_01k9x6f6c8a0b1c2d3e4f5g6h7";
const hash = (bytes: Uint8Array): Bytes => new Uint8Array(createHash("sha256").update(bytes).digest());
let keys: TestKeys;
let trusted: PublishedKeys;
let parts: PackParts;
let zip: Bytes;

/** The log of one run, as it ended. */
async function logOfRun(outcome: "succeeded" | "failed"): Promise<World> {
  const context = {
    tenant_id: tenantId,
    principal: null,
    source: "api" as const,
    now: Date.UTC(2026, 3, 13),
    random: (byteCount: number) => new Uint8Array(randomBytes(byteCount)),
  };
  const run = {
    execution_id: executionId,
    package: "a",
    version: "1.0.0",
    channel: "stable" as const,
    release_sha256: "a".repeat(64),
    input_sha256: null,
    units: 0,
  };
  const world = new World(keys, outcome.length);
  const end = { outcome, exit_code: 0, output_sha256: null, duration_ms: 1 };
  const policy = { entitlement_version: 1, policy_sha256: "b".repeat(64) };
  world.log.append(tenantId, [
    eventText(newEvent(context, "mc.execution.started", { ...run, ...policy })),
    eventText(newEvent(context, "mc.execution.finished", { ...run, ...end })),
  ]);
  await world.log.sealNow();
  return world;
}

async function partsOf(world: World): Promise<PackParts> {
  const leaves = await world.log.eventsOf(executionId);
  const events = [];
  for (const leaf of leaves) events.push({ leaf, proof: (await world.log.inclusionProof(leaf.seq))! });
  const { receipt } = (JSON.parse(leaves.at(-1)!.body) as { attributes: { receipt: SignedBundle } }).attributes;
  const manifests = world.segmentRanges().map((range) => ({
    range,
    bytes: world.objects.get(manifestKey(tenantId, rangeOfName(range)))!,
  }));
  return { tenantId, executionId, logOrigin: trusted.origin_prefix, events, receipt, manifests, keys: trusted };
}

async function archive(files: readonly PackFile[]): Promise<Bytes> {
  const inputs = files.map(({ name, bytes }) => ({ name, input: bytes, lastModified: new Date("2026-01-01") }));
  return new Uint8Array(await downloadZip(inputs, { buffersAreUTF8: true }).arrayBuffer());
}

/** `files` as they are, under an index that the log's own key signed. */
async function packOf(of: PackParts, files = packFiles(of)): Promise<Bytes> {
  const index = await signStatement(keys.statement, await packStatement(of, files));
  return await archive([...files, { name: indexName, bytes: utf8(canonicalJson(index)) }]);
}

const verify = (pack: Uint8Array): Promise<PackVerdict> => verifyPack(pack, trusted, hash);

beforeAll(async () => {
  keys = await newKeys();
  const published = publishedKeysOf(keys);
  const manifest = published.keys.find(({ use }) => use === "manifest")!;
  trusted = { ...published, keys: [...published.keys, { ...manifest, use: "pack" }] };
  parts = await partsOf(await logOfRun("succeeded"));
  zip = await packOf(parts);
});

test("a pack as it is written verifies", async () => {
  expect(await verify(zip)).toEqual({
    ok: true,
    facts: { tenant_id: tenantId, execution_id: executionId, outcome: "succeeded", event_count: 3, tree_size: 3 },
  });
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
    for (let at = 0; at < zip.length; at += 37) {
      const flipped = new Uint8Array(zip);
      flipped[at]! ^= 1;
      expect((await verify(flipped)).ok, `byte ${at}`).toBe(false);
    }
  });
});

describe("a pack that the log's own keys signed is refused", () => {
  test("where its checkpoints are of two histories: one run that succeeded, and failed", async () => {
    const other = await partsOf(await logOfRun("failed"));
    const events = [other.events[0]!, ...parts.events.slice(1)];
    expect(await verify(await packOf({ ...parts, events }))).toMatchObject({
      ok: false,
      reason: "the log signed two different trees of 3 entries",
    });
    // The proofs agree, and the manifest tells of the other history.
    expect(await verify(await packOf({ ...parts, manifests: other.manifests }))).toMatchObject({
      ok: false,
      reason: "the log signed two different trees of 3 entries",
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

  test("with a file in another spelling, which another reader may take for something else", async () => {
    const respelled = (name: string, change: (text: string) => string) =>
      packOf(
        parts,
        packFiles(parts).map((file) =>
          file.name === name ? { name, bytes: utf8(change(utf8Text(file.bytes))) } : file,
        ),
      );
    for (const name of ["receipt.json", manifestName(parts.manifests[0]!.range)]) {
      const doubled = (text: string): string => text.replace("{", '{"dsseEnvelope":{},');
      expect(await verify(await respelled(name, doubled))).toMatchObject({ ok: false, file: name });
      expect(await verify(await respelled(name, (text) => `${text}\n`))).toMatchObject({ ok: false, file: name });
    }
  });

  test("with bytes that are no text, without an exception", async () => {
    const name = proofName(parts.events[0]!.leaf.seq);
    const files = packFiles(parts).map((file) => (file.name === name ? { name, bytes: new Uint8Array([0xff]) } : file));
    expect(await verify(await packOf(parts, files))).toMatchObject({ ok: false, file: name });
  });
});
