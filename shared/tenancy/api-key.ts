// API keys as text: `mk_` and 32 characters of base32 (160 random bits). Only the SHA-256 is kept, and a prefix to tell
// keys apart.

import { sha256Hex, utf8 } from "../contract/bytes.ts";

const alphabet = "abcdefghijkmnpqrstuvwxyz23456789";
export const apiKeyPattern = /^mk_[a-km-np-z2-9]{32}$/;

export interface MintedKey {
  readonly key: string;
  readonly prefix: string;
  readonly secret_sha256: string;
}

/** `random`: 32 bytes, of which 5 bits each are used. */
export async function mintApiKey(random: Uint8Array): Promise<MintedKey> {
  const key = `mk_${Array.from(random.subarray(0, 32), (byte) => alphabet[byte % 32]).join("")}`;
  return { key, prefix: key.slice(0, 8), secret_sha256: await apiKeyDigest(key) };
}

export const apiKeyDigest = (key: string): Promise<string> => sha256Hex(utf8(key));
