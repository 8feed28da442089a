// `tlog-proof` files (https://c2sp.org/tlog-proof): one leaf's inclusion in a signed checkpoint, offline, as text.
// Packs carry one for each event; whoever opens a pack reads them. `extra` holds the leaf's salt, so that the leaf can
// be hashed from the event's text; like everything there it is proven by the hash only.

import { base64, base64Bytes, type Bytes } from "../contract/bytes.ts";
import { hashBytes } from "./tree.ts";

const firstLine = "c2sp.org/tlog-proof@v1";

export interface ProofFile {
  readonly index: number;
  readonly salt: Uint8Array;
  /** Sibling hashes from the leaf up. */
  readonly hashes: readonly Uint8Array[];
  /** The signed note, verbatim. */
  readonly checkpoint: string;
}

export const proofFile = (proof: ProofFile): string =>
  [
    firstLine,
    `extra ${base64(proof.salt)}`,
    `index ${proof.index}`,
    ...proof.hashes.map((hash) => base64(hash)),
    "",
    proof.checkpoint,
  ].join("\n");

/** Null for anything but a text as `proofFile` writes it. Proves nothing yet: see `verifyInclusion` and `openCheckpoint`. */
export function parseProofFile(text: string): ProofFile | null {
  const end = text.indexOf("\n\n");
  if (end < 0) return null;
  const [first, extra, index, ...lines] = text.slice(0, end).split("\n");
  const salt = /^extra (\S+)$/.exec(extra ?? "")?.[1];
  const digits = /^index (0|[1-9]\d{0,15})$/.exec(index ?? "")?.[1];
  if (first !== firstLine || salt === undefined || digits === undefined || lines.length > 64) return null;
  try {
    const hashes: Bytes[] = lines.map((line) => base64Bytes(line));
    if (hashes.some((hash) => hash.length !== hashBytes) || !Number.isSafeInteger(Number(digits))) return null;
    return { index: Number(digits), salt: base64Bytes(salt), hashes, checkpoint: text.slice(end + 2) };
  } catch {
    return null; // not base64
  }
}
