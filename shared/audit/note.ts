// Signed notes and verifier keys as any log or witness of the C2SP family writes them (https://c2sp.org/signed-note).
// Witnesses, policies and the verifier of cosignatures read with it; our own checkpoints are read more strictly by
// checkpoint.ts. What is parsed here is not verified yet.

import { base64, base64Bytes, bytesEqual, concat, hex, sha256, utf8, type Bytes } from "../contract/bytes.ts";
import { ed25519Spki, importVerifyKey } from "../signing/keys.ts";

/** Signature types of the specification: a log's Ed25519, a witness's timestamped Ed25519, a witness's ML-DSA-44. */
export const noteTypes = { ed25519: 0x01, cosignature: 0x04, mlDsa44: 0x06 } as const;

const keyBytes: Readonly<Record<number, number>> = {
  [noteTypes.ed25519]: 32,
  [noteTypes.cosignature]: 32,
  [noteTypes.mlDsa44]: 1312,
};
/** The specification wants at least 16 accepted. */
const signatureLinesMax = 64;
const keyIdBytes = 4;

export interface NoteSignature {
  readonly name: string;
  readonly keyId: Bytes;
  /** What follows the key id. */
  readonly signature: Bytes;
  /** With its newline. */
  readonly line: string;
}

export interface Note {
  /** What is signed, with its last newline. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

// Key names: not empty, no Unicode spaces, no plus.
const keyName = /^[^\s+]{1,512}$/u;

/** Signature lines as a witness answers them; null where one of them is none. */
export function parseSignatureLines(lines: string): NoteSignature[] | null {
  if (!lines.endsWith("\n")) return null;
  const signatures: NoteSignature[] = [];
  for (const line of lines.slice(0, -1).split("\n")) {
    const [dash, name, encoded, ...more] = line.split(" ");
    if (dash !== "—" || name === undefined || encoded === undefined || more.length > 0) return null;
    if (!keyName.test(name) || signatures.length === signatureLinesMax) return null;
    let bytes: Bytes;
    try {
      bytes = base64Bytes(encoded);
    } catch {
      return null; // not base64
    }
    if (bytes.length <= keyIdBytes) return null;
    signatures.push({
      name,
      keyId: bytes.slice(0, keyIdBytes),
      signature: bytes.slice(keyIdBytes),
      line: `${line}\n`,
    });
  }
  return signatures;
}

/** Null for anything but a signed note with 1 to 64 signature lines. */
export function parseNote(note: string): Note | null {
  // oxlint-disable-next-line no-control-regex -- the specification's words: no control characters but the newline.
  if (/[\u0000-\u0009\u000B-\u001F]/u.test(note)) return null;
  const end = note.lastIndexOf("\n\n");
  if (end < 1) return null;
  const signatures = parseSignatureLines(note.slice(end + 2));
  return signatures === null ? null : { text: note.slice(0, end + 1), signatures };
}

export interface VerifierKey {
  readonly name: string;
  readonly keyId: Bytes;
  readonly type: number;
  /** The public key as the type encodes it: 32 bytes for Ed25519. */
  readonly key: Bytes;
  /** `name+hash+base64`, as it was given. */
  readonly text: string;
}

export const keyIdOf = async (name: string, type: number, key: Uint8Array): Promise<Bytes> =>
  (await sha256(utf8(`${name}\n`), new Uint8Array([type]), key)).slice(0, keyIdBytes);

export async function verifierKeyText(name: string, type: number, key: Uint8Array): Promise<string> {
  return `${name}+${hex(await keyIdOf(name, type, key))}+${base64(concat(new Uint8Array([type]), key))}`;
}

/** Null for anything but a key of a type that is known here, whose id is the one that its name and bytes make. */
export async function parseVerifierKey(text: string): Promise<VerifierKey | null> {
  const [name = "", id = "", ...rest] = text.split("+");
  // Base64 has plus signs of its own.
  const encoded = rest.join("+");
  if (!keyName.test(name)) return null;
  let bytes: Bytes;
  try {
    bytes = base64Bytes(encoded);
  } catch {
    return null; // not base64
  }
  const [type = 0] = bytes;
  const key = bytes.slice(1);
  if (keyBytes[type] !== key.length) return null;
  const keyId = await keyIdOf(name, type, key);
  return hex(keyId) === id ? { name, keyId, type, key, text } : null;
}

/** For a key of one of the Ed25519 types; null for others, and for bytes that are no point of the curve. */
export const importEd25519 = (key: VerifierKey): Promise<CryptoKey | null> =>
  key.key.length === 32 ? importVerifyKey(ed25519Spki(key.key), "Ed25519") : Promise.resolve(null);

/** By name and key id together: a line of the same name by another key is not this key's. */
export const signaturesBy = (signatures: readonly NoteSignature[], key: VerifierKey): NoteSignature[] =>
  signatures.filter(({ name, keyId }) => name === key.name && bytesEqual(keyId, key.keyId));
