// The witness's core, answer by answer of https://c2sp.org/tlog-witness, against a real log; forks; and requests at once.

import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { newSigner, originPrefix, Schedule, World, newKeys, textsOf } from "../../test/simulation/audit-world.ts";
import { seeded, startTime, tenantId } from "../../test/simulation/audit-events.ts";
import { sampled } from "../../test/support/sampled.ts";
import { newWitness, type TestWitness } from "../../test/support/witness.ts";
import { sha256 } from "../../workers/audit/hashing.ts";
import { base64, utf8, type Bytes } from "../contract/bytes.ts";
import type { Signer } from "../signing/keys.ts";
import { originOf, parseCheckpoint, signCheckpoint, verifierKey } from "./checkpoint.ts";
import { openCosignature } from "./cosignature.ts";
import { parseNote, parseSignatureLines, parseVerifierKey, type VerifierKey } from "./note.ts";
import { emptyRoot } from "./tree.ts";
import {
  addCheckpoint,
  addCheckpointText,
  conflictSize,
  originSha256,
  readCheckpoint,
  requestBytesMax,
  type WitnessAnswer,
} from "./witness.ts";

const origin = originOf(originPrefix, tenantId);
/** Sizes at which the log published a checkpoint. */
const sizes = [3, 8, 300, 700] as const;
const notes = new Map<number, string>();
let signer: Signer;
let logKey: VerifierKey;
let world: World;
let witness: TestWitness;

beforeAll(async () => {
  const keys = await newKeys();
  signer = keys.checkpoint;
  world = new World(keys, 5);
  const next = seeded(5);
  const texts = textsOf(2_000, next).filter((text) => !text.includes("mc.execution.finished"));
  let from = 0;
  for (const size of sizes) {
    world.log.append(tenantId, texts.slice(from, size));
    await world.log.sealNow();
    notes.set(size, world.log.checkpoint()!);
    if (parseCheckpoint(world.log.checkpoint()!)?.size !== size) throw new Error("the log has another size");
    from = size;
  }
  logKey = (await parseVerifierKey(await verifierKey(origin, signer.spki)))!;
});
beforeEach(async () => {
  witness = await newWitness("witness.example/w1", [logKey], () => startTime);
});

const proofOf = async (old: number, size: number): Promise<Bytes[]> =>
  old === 0 || old >= size ? [] : (await world.log.consistencyProof(old, size))!;
const ask = (old: number, proof: readonly Uint8Array[], note: string): Promise<WitnessAnswer> =>
  addCheckpoint(witness, utf8(addCheckpointText(old, proof, note)));
const askFor = async (old: number, size: number): Promise<WitnessAnswer> =>
  await ask(old, await proofOf(old, size), notes.get(size)!);
const head = (): { size: number; root_sha256: string } | undefined => witness.store.heads.get(origin);

async function isCosigned(answer: WitnessAnswer, note: string): Promise<boolean> {
  const lines = parseSignatureLines(answer.body) ?? [];
  const opened = await openCosignature(parseNote(note)!.text, lines, witness.key, startTime / 1000);
  return answer.status === 200 && lines.length === 1 && opened.state === "valid";
}

test("cosigns a log as it grows, whatever the sizes, and the same checkpoint again", async () => {
  let old = 0;
  for (const size of sizes) {
    expect(await isCosigned(await askFor(old, size), notes.get(size)!)).toBe(true);
    expect(head()?.size).toBe(size);
    old = size;
  }
  expect(await isCosigned(await askFor(700, 700), notes.get(700)!)).toBe(true);
});

test("serves the last cosigned checkpoint under the digest of its origin, with the log's line and its own", async () => {
  const path = `/${await originSha256(origin)}/checkpoint`;
  expect(await readCheckpoint(witness.store, path)).toBeNull();
  const { body } = await askFor(0, 8);
  expect(await readCheckpoint(witness.store, path)).toBe(notes.get(8)! + body);
  for (const other of [path.toUpperCase(), `${path}/`, "/checkpoint", `/${"0".repeat(64)}/checkpoint`]) {
    expect(await readCheckpoint(witness.store, other)).toBeNull();
  }
});

test("cosigns extension lines with the rest, and a log's signature among strangers' ones", async () => {
  const text = `${parseNote(notes.get(8)!)!.text}an extension\n`;
  const line = (name: string, id: Uint8Array, signature: Uint8Array): string =>
    `— ${name} ${base64(Uint8Array.of(...id, ...signature))}\n`;
  const note = `${text}\n${line("someone.example", new Uint8Array(4), new Uint8Array(64))}${line(
    origin,
    logKey.keyId,
    await signer.sign(utf8(text)),
  )}`;
  expect(await isCosigned(await ask(0, [], note), note)).toBe(true);
});

describe("refuses", () => {
  const malformed = (text: string | Uint8Array): Promise<WitnessAnswer> =>
    addCheckpoint(witness, typeof text === "string" ? utf8(text) : text);
  const hash = base64(new Uint8Array(32));

  test.each<[string, () => string | Uint8Array]>([
    ["nothing", () => ""],
    ["no old line", () => notes.get(8)!],
    ["an old size with a zero ahead", () => addCheckpointText(0, [], notes.get(8)!).replace("old 0", "old 00")],
    ["a negative old size", () => addCheckpointText(0, [], notes.get(8)!).replace("old 0", "old -1")],
    ["an old size beyond 2^53", () => addCheckpointText(0, [], notes.get(8)!).replace("old 0", "old 9007199254740993")],
    ["two spaces", () => addCheckpointText(0, [], notes.get(8)!).replace("old 0", "old  0")],
    ["carriage returns", () => addCheckpointText(0, [], notes.get(8)!).replaceAll("\n", "\r\n")],
    ["64 lines of proof", () => `old 1\n${`${hash}\n`.repeat(64)}\n${notes.get(8)!}`],
    ["a hash that is no base64", () => `old 1\n*${hash.slice(1)}\n\n${notes.get(8)!}`],
    ["a hash of 31 bytes", () => `old 1\n${base64(new Uint8Array(31))}\n\n${notes.get(8)!}`],
    ["no checkpoint", () => "old 0\n\n"],
    ["a note that is no checkpoint", () => "old 0\n\nhello\n\n— a AAAAAAA=\n"],
    ["a checkpoint without signatures", () => `old 0\n\n${parseNote(notes.get(8)!)!.text}`],
    ["a size with a zero ahead", () => addCheckpointText(0, [], notes.get(8)!.replace("\n8\n", "\n08\n"))],
    ["a root of 31 bytes", () => `old 0\n\na\n1\n${base64(new Uint8Array(31))}\n\n— a AAAAAAA=\n`],
    ["what is not UTF-8", () => Uint8Array.of(0x6f, 0x6c, 0x64, 0xff)],
    ["garbage as large as a request may be", () => "x".repeat(requestBytesMax)],
  ])("%s with 400", async (_, text) => {
    expect(await malformed(text())).toMatchObject({ status: 400 });
    expect(head()).toBeUndefined();
  });

  test("an old size larger than the checkpoint's with 400", async () => {
    await askFor(0, 300);
    expect(await ask(300, [], notes.get(8)!)).toMatchObject({ status: 400 });
  });

  test("a log that it does not watch with 404", async () => {
    const note = await signCheckpoint(signer, { origin: `${origin}0`, size: 1, root: new Uint8Array(32) });
    expect(await ask(0, [], note)).toMatchObject({ status: 404 });
  });

  test("a checkpoint without the log's signature, or with one that does not verify, with 403", async () => {
    const stranger = await newSigner("Ed25519");
    const checkpoint = parseCheckpoint(notes.get(8)!)!;
    expect(await ask(0, [], await signCheckpoint(stranger, checkpoint))).toMatchObject({ status: 403 });
    // The same text under the signature of another size.
    const moved = `${parseNote(notes.get(8)!)!.text}\n${parseNote(notes.get(3)!)!.signatures[0]!.line}`;
    expect(await ask(0, [], moved)).toMatchObject({ status: 403 });
    // A good line does not make up for a bad one by the same key.
    const both = `${notes.get(8)!}${parseNote(notes.get(3)!)!.signatures[0]!.line}`;
    expect(await ask(0, [], both)).toMatchObject({ status: 403 });
    expect(head()).toBeUndefined();
  });

  test("another old size than the last one that it cosigned with 409, which names that", async () => {
    const first = await askFor(3, 8);
    expect(first).toMatchObject({ status: 409, contentType: "text/x.tlog.size", body: "0\n" });
    await askFor(0, 300);
    for (const old of [0, 3, 8]) {
      const answer = await askFor(old, 700);
      expect(answer).toMatchObject({ status: 409, contentType: "text/x.tlog.size", body: "300\n" });
      expect(conflictSize(answer.body)).toBe(300);
    }
    expect(head()?.size).toBe(300);
  });

  test("to go back, with 409", async () => {
    await askFor(0, 300);
    expect(await askFor(8, 8)).toMatchObject({ status: 409, body: "300\n" });
    expect(await askFor(0, 8)).toMatchObject({ status: 409, body: "300\n" });
  });

  test("an empty tree with a root with 422, and cosigns the empty tree", async () => {
    const wrong = await signCheckpoint(signer, { origin, size: 0, root: new Uint8Array(32) });
    expect(await ask(0, [], wrong)).toMatchObject({ status: 422 });
    const empty = await signCheckpoint(signer, { origin, size: 0, root: emptyRoot(sha256) });
    expect(await isCosigned(await ask(0, [], empty), empty)).toBe(true);
    expect(await isCosigned(await askFor(0, 8), notes.get(8)!)).toBe(true);
  });

  test("a proof from nothing, no proof, a proof of other sizes and a proof with a changed bit with 422", async () => {
    expect(await ask(0, await proofOf(3, 8), notes.get(8)!)).toMatchObject({ status: 422 });
    await askFor(0, 8);
    const proof = await proofOf(8, 300);
    const changed = proof.map((hash32) => hash32.slice());
    changed[0]![31]! ^= 1;
    for (const wrong of [[], proof.slice(1), [...proof, new Uint8Array(32)], await proofOf(3, 300), changed]) {
      expect(await ask(8, wrong, notes.get(300)!)).toMatchObject({ status: 422 });
    }
    expect(await ask(8, proof, notes.get(8)!)).toMatchObject({ status: 422 });
    expect(head()?.size).toBe(8);
    expect(await askFor(8, 300)).toMatchObject({ status: 200 });
  });

  test("a log that its own key forks, at the same size and further on, with 422", async () => {
    await askFor(0, 300);
    const forked = new World({ checkpoint: signer, statement: await newSigner("P-256") }, 99);
    const next = seeded(98);
    const others = textsOf(1_100, next).filter((text) => !text.includes("mc.execution.finished"));
    forked.log.append(tenantId, others.slice(0, 300));
    await forked.log.sealNow();
    expect(await ask(300, [], forked.log.checkpoint()!)).toMatchObject({ status: 422 });
    forked.log.append(tenantId, others.slice(300, 600));
    await forked.log.sealNow();
    const proof = (await forked.log.consistencyProof(300, 600))!;
    expect(await ask(300, proof, forked.log.checkpoint()!)).toMatchObject({ status: 422 });
    expect(head()?.size).toBe(300);
  });
});

test("nothing is answered before the new head is durable: where that fails, no signature leaves", async () => {
  witness.store.gate = (step) => (step === "advance" ? Promise.reject(new Error("disk full")) : Promise.resolve());
  await expect(askFor(0, 8)).rejects.toThrow("disk full");
  expect(head()).toBeUndefined();
});

/** Two trees of the sizes 300 and 700, by the same key. */
test.each(
  sampled(
    Array.from({ length: 60 }, (_, seed) => seed),
    3,
  ),
)(
  "requests at once never get two trees of one size cosigned, nor a smaller tree after a larger one (seed %i)",
  async (seed) => {
    const next = seeded(seed);
    const fork = await signCheckpoint(signer, { origin, size: 8, root: new Uint8Array(32).fill(7) });
    const fork3 = await signCheckpoint(signer, { origin, size: 3, root: new Uint8Array(32).fill(3) });
    const requests: [number, readonly Uint8Array[], string][] = [
      [0, [], notes.get(3)!],
      [0, [], fork3],
      [0, [], notes.get(8)!],
      [0, [], fork],
      [3, await proofOf(3, 8), notes.get(8)!],
      [3, await proofOf(3, 300), notes.get(300)!],
      [8, [], fork],
      [8, [], notes.get(8)!],
      [8, await proofOf(8, 300), notes.get(300)!],
    ];
    const schedule = new Schedule();
    witness.store.gate = schedule.gate;
    const cosigned: { size: number; root: string }[] = [];
    let started = 0;
    for (let step = 0; step < 200 && (started < 24 || schedule.waiting > 0); step += 1) {
      if (started < 24 && (schedule.waiting === 0 || next() < 0.5)) {
        started += 1;
        const [old, proof, note] = requests[Math.floor(next() * requests.length)]!;
        await schedule.start(async () => {
          const answer = await ask(old, proof, note);
          const checkpoint = parseCheckpoint(note)!;
          if (answer.status === 200) cosigned.push({ size: checkpoint.size, root: base64(checkpoint.root) });
        });
      } else {
        await schedule.release(Math.floor(next() * schedule.waiting));
      }
    }
    const roots = new Map<number, string>();
    let largest = 0;
    for (const { size, root } of cosigned) {
      expect(size).toBeGreaterThanOrEqual(largest);
      expect(roots.get(size) ?? root).toBe(root);
      roots.set(size, root);
      largest = size;
    }
    expect(cosigned.length).toBeGreaterThan(0);
  },
);
