// Checkpoints: the tree's head as a C2SP signed note (https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint),
// Ed25519. The log signs one a seal; everyone verifies them.

import { base64, base64Bytes, bytesEqual, concat, utf8, type Bytes } from "../contract/bytes.ts";
import { ed25519PublicBytes, importVerifyKey, verifySignature, type Signer } from "../signing/keys.ts";
import { keyIdOf, noteTypes, verifierKeyText } from "./note.ts";
import { hashBytes } from "./tree.ts";

export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Bytes;
}

export const originOf = (originPrefix: string, tenantId: string): string => `${originPrefix}/${tenantId}`;

const checkpointText = ({ origin, size, root }: Checkpoint): string => `${origin}\n${size}\n${base64(root)}\n`;

/** Which key a signature line is by. */
const keyHash = (name: string, publicKey: Uint8Array): Promise<Bytes> => keyIdOf(name, noteTypes.ed25519, publicKey);

/** The verifier key in the form that signed-note tools take: `name+hash+base64(0x01 ‖ key)`. */
export const verifierKey = (origin: string, spki: Uint8Array): Promise<string> =>
  verifierKeyText(origin, noteTypes.ed25519, ed25519PublicBytes(spki));

/** `signer` must be Ed25519. The key's name is the origin. */
export async function signCheckpoint(signer: Signer, checkpoint: Checkpoint): Promise<string> {
  const text = checkpointText(checkpoint);
  const hash = await keyHash(checkpoint.origin, ed25519PublicBytes(signer.spki));
  const signature = await signer.sign(utf8(text));
  return `${text}\n— ${checkpoint.origin} ${base64(concat(hash, signature))}\n`;
}

/** What a note says, unverified; null where it is no checkpoint as we write them (three lines, no extensions). */
export function parseCheckpoint(note: string): Checkpoint | null {
  const match = /^([^\n+\s]{1,256})\n(0|[1-9]\d{0,15})\n([A-Za-z0-9+/=]{44})\n\n(?:— \S+ \S+\n){1,16}$/u.exec(note);
  const [, origin, size, root] = match ?? [];
  if (origin === undefined || size === undefined || root === undefined) return null;
  try {
    const bytes = base64Bytes(root);
    if (bytes.length !== hashBytes || !Number.isSafeInteger(Number(size))) return null;
    return { origin, size: Number(size), root: bytes };
  } catch {
    return null; // not base64
  }
}

export type OpenedCheckpoint = { ok: true; checkpoint: Checkpoint; spki: Uint8Array } | { ok: false; reason: string };

/**
 * Verifies a signed note against the expected origin and the trusted Ed25519 keys (SPKI DER). Lines of other names or
 * keys (witnesses) are skipped, as the specification asks; a line by a known key that does not verify refuses the note.
 */
export async function openCheckpoint(
  note: string,
  origin: string,
  trusted: readonly Uint8Array[],
): Promise<OpenedCheckpoint> {
  const checkpoint = parseCheckpoint(note);
  if (checkpoint === null) return { ok: false, reason: "the checkpoint is not a signed note of three lines" };
  if (checkpoint.origin !== origin) return { ok: false, reason: `the checkpoint is of the log ${checkpoint.origin}` };
  const text = utf8(checkpointText(checkpoint));
  const lines = note.slice(note.indexOf("\n\n") + 2, -1).split("\n");
  let by: Uint8Array | null = null;
  for (const spki of trusted) {
    const key = await importVerifyKey(spki, "Ed25519");
    if (key === null) continue;
    const hash = await keyHash(origin, ed25519PublicBytes(spki));
    for (const line of lines) {
      const [, name, encoded = ""] = line.split(" ");
      if (name !== origin) continue;
      let signature: Bytes;
      try {
        signature = base64Bytes(encoded);
      } catch {
        return { ok: false, reason: "a signature line of the checkpoint is not base64" };
      }
      if (!bytesEqual(signature.subarray(0, 4), hash)) continue;
      if (by !== null) return { ok: false, reason: "the checkpoint has two signatures of the log" };
      if (!(await verifySignature(key, signature.subarray(4), text))) {
        return { ok: false, reason: "the checkpoint's signature does not verify" };
      }
      by = spki;
    }
  }
  return by === null
    ? { ok: false, reason: "the checkpoint is not signed by a known key" }
    : { ok: true, checkpoint, spki: by };
}
