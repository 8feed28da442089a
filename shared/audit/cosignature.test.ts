// Notes, verifier keys and cosignatures against the specifications' own words and example.

import { expect, test } from "vitest";
import { newSigner } from "../../test/simulation/audit-world.ts";
import { base64, base64Bytes, utf8 } from "../contract/bytes.ts";
import { verifySignature } from "../signing/keys.ts";
import { cosign, futureMaxS, openCosignature, witnessVerifierKey } from "./cosignature.ts";
import { importEd25519, parseNote, parseVerifierKey, parseSignatureLines, signaturesBy } from "./note.ts";

const text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
const timeS = 1_679_315_147;

async function newCosigner(name = "witness.example/w1") {
  const signer = await newSigner("Ed25519");
  const key = (await parseVerifierKey(await witnessVerifierKey(name, signer.spki)))!;
  const line = await cosign(signer, name, text, timeS);
  const open = (lines: string, now = timeS, by = key, of = text) =>
    openCosignature(of, parseSignatureLines(lines)!, by, now);
  return { signer, key, line, open };
}

// https://c2sp.org/signed-note, "Example"
const exampleKey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const exampleNote =
  "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

test("the example of the signed-note specification verifies", async () => {
  const key = await parseVerifierKey(exampleKey);
  const note = parseNote(exampleNote);
  const [signature] = signaturesBy(note!.signatures, key!);
  expect(await verifySignature((await importEd25519(key!))!, signature!.signature, utf8(note!.text))).toBe(true);
});

test.each([
  ["another hash", exampleKey.replace("530d903a", "530d903b")],
  ["a hash in capitals", exampleKey.replace("530d903a", "530D903A")],
  ["another name", exampleKey.replace("foo", "bar")],
  ["a name with a space", exampleKey.replace("example.com/foo", "example.com foo")],
  ["no name", exampleKey.replace("example.com/foo", "")],
  ["another type", exampleKey.replace("+Aeky", "+Beky")],
  ["a key cut short", exampleKey.slice(0, -4)],
  ["no base64", `${exampleKey.slice(0, -1)}*`],
  ["nothing", ""],
])("a verifier key with %s is none", async (_, vkey) => {
  expect(await parseVerifierKey(vkey)).toBeNull();
});

test.each([
  ["no signature", "text\n\n"],
  ["no blank line", exampleNote.replace("\n\n", "\n")],
  ["no last newline", exampleNote.slice(0, -1)],
  ["a hyphen for the dash", exampleNote.replace("—", "-")],
  ["a control character", exampleNote.replace("This", "Th\u0007s")],
  ["a carriage return", exampleNote.replace("message.\n", "message.\r\n")],
  ["a name with a plus", exampleNote.replace("example.com/foo Uw", "example.com+foo Uw")],
  ["a signature of four bytes", "text\n\n— a AAAAAA==\n"],
  ["65 signatures", `text\n\n${"— a AAAAAAA=\n".repeat(65)}`],
])("a note with %s is none", (_, note) => {
  expect(parseNote(note)).toBeNull();
});

test("a note may have empty lines in its text, and 64 signatures", () => {
  const note = parseNote(`one\n\ntwo\n\n${"— a AAAAAAA=\n".repeat(64)}`);
  expect(note).toMatchObject({ text: "one\n\ntwo\n", signatures: { length: 64 } });
});

test("a cosignature verifies for its witness, its text and its time", async () => {
  const { line, open } = await newCosigner();
  expect(await open(line)).toEqual({ state: "valid", timeS, line });
  const [, , encoded] = line.trimEnd().split(" ");
  // key id, then the timestamp in big-endian order: https://c2sp.org/tlog-cosignature
  const bytes = base64Bytes(encoded!);
  expect(bytes.length).toBe(4 + 8 + 64);
  expect(new DataView(bytes.buffer).getBigUint64(4)).toBe(BigInt(timeS));
});

test("a cosignature of another witness, or of the same key under another name, says nothing of this one", async () => {
  const [one, other] = [await newCosigner(), await newCosigner()];
  expect(await one.open(other.line)).toEqual({ state: "absent" });
  const renamed = await cosign(one.signer, "witness.example/w2", text, timeS);
  expect(await one.open(renamed)).toEqual({ state: "absent" });
  expect(await one.open(other.line + renamed + one.line)).toMatchObject({ state: "valid" });
});

test("no bit of a cosignature can be changed, nor its text, nor said twice", async () => {
  const { key, line, open } = await newCosigner();
  const [dash, name, encoded] = line.trimEnd().split(" ");
  const bytes = base64Bytes(encoded!);
  for (let at = 4; at < bytes.length; at += 1) {
    const changed = bytes.slice();
    changed[at]! ^= 1;
    expect(await open(`${dash} ${name} ${base64(changed)}\n`, timeS + 1e9)).toEqual({ state: "bad" });
  }
  expect(await open(line, timeS, key, text.replace("20852163", "20852164"))).toEqual({ state: "bad" });
  expect(await open(line + line)).toEqual({ state: "bad" });
  expect(await open(`${dash} ${name} ${base64(bytes.slice(0, -1))}\n`)).toEqual({ state: "bad" });
});

test("a time of zero, or further ahead than a clock may be off, is refused", async () => {
  const { signer, line, open } = await newCosigner();
  expect(await open(await cosign(signer, "witness.example/w1", text, 0))).toEqual({ state: "bad" });
  expect(await open(line, timeS - futureMaxS)).toMatchObject({ state: "valid" });
  expect(await open(line, timeS - futureMaxS - 1)).toEqual({ state: "bad" });
});
