// Which publishers a fetcher believes, as it was told when it was opened: what it holds and what it has refused counts under that
// list alone. Called by edge-fetcher.ts.

import { base64Bytes, sha256Hex, utf8 } from "../contract/bytes.ts";

export interface Believed {
  /** SHA-256 of each publisher's SPKI. */
  readonly kids: ReadonlySet<string>;
  /** Of the list, in whatever order it came. */
  readonly sha256: string;
}

/** `publishers`: SPKI DER in base64. */
export async function believedOf(publishers: readonly string[]): Promise<Believed> {
  const kids = await Promise.all(publishers.map((spki) => sha256Hex(base64Bytes(spki))));
  return { kids: new Set(kids), sha256: await sha256Hex(utf8(kids.toSorted().join())) };
}
