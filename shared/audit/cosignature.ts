// Cosignatures of checkpoints by witnesses: Ed25519, timestamped, `cosignature/v1` (https://c2sp.org/tlog-cosignature).
// A witness makes them; the anchor log verifies them before it keeps them, and so does whoever verifies a log.

import { base64, concat, utf8, type Bytes } from "../contract/bytes.ts";
import { ed25519PublicBytes, verifySignature, type Signer } from "../signing/keys.ts";
import { importEd25519, keyIdOf, noteTypes, signaturesBy, verifierKeyText } from "./note.ts";
import type { NoteSignature, VerifierKey } from "./note.ts";

const timestampBytes = 8;
const signatureBytes = 64;
/** Up to here a count of seconds is a Date. */
const timeMaxS = 8_640_000_000_000;
/** Verifiers may refuse cosignatures from the future; so much of it is taken for a clock that is off. */
export const futureMaxS = 300;

const message = (text: string, timeS: number): Bytes => utf8(`cosignature/v1\ntime ${timeS}\n${text}`);

/** The verifier key of a witness: type 0x04. `spki` must be Ed25519. */
export const witnessVerifierKey = (name: string, spki: Uint8Array): Promise<string> =>
  verifierKeyText(name, noteTypes.cosignature, ed25519PublicBytes(spki));

/** The signature line of `name` on a checkpoint's text, with its newline. `signer` must be Ed25519; `timeS`: seconds since 1970. */
export async function cosign(signer: Signer, name: string, text: string, timeS: number): Promise<string> {
  const timestamp = new Uint8Array(timestampBytes);
  new DataView(timestamp.buffer).setBigUint64(0, BigInt(timeS));
  const id = await keyIdOf(name, noteTypes.cosignature, ed25519PublicBytes(signer.spki));
  const signature = await signer.sign(message(text, timeS));
  return `— ${name} ${base64(concat(id, timestamp, signature))}\n`;
}

/**
 * What the witness `key` says in these lines about a checkpoint's text: absent where there is no line of it (or of a key
 * type that is not known here), bad where a line of it does not verify, or says a time that cannot be.
 */
export type Cosignature =
  | { readonly state: "valid"; readonly timeS: number; readonly line: string }
  | { readonly state: "absent" | "bad" };

export async function openCosignature(
  text: string,
  signatures: readonly NoteSignature[],
  key: VerifierKey,
  nowS: number,
): Promise<Cosignature> {
  const [found, second] = signaturesBy(signatures, key);
  if (found === undefined || key.type !== noteTypes.cosignature) return { state: "absent" };
  if (second !== undefined || found.signature.length !== timestampBytes + signatureBytes) return { state: "bad" };
  const { buffer, byteOffset } = found.signature;
  const time = new DataView(buffer, byteOffset, timestampBytes).getBigUint64(0);
  if (time === 0n || time > BigInt(Math.min(timeMaxS, Math.floor(nowS) + futureMaxS))) return { state: "bad" };
  const publicKey = await importEd25519(key);
  const timeS = Number(time);
  if (publicKey === null) return { state: "bad" };
  const isValid = await verifySignature(publicKey, found.signature.subarray(timestampBytes), message(text, timeS));
  return isValid ? { state: "valid", timeS, line: found.line } : { state: "bad" };
}
