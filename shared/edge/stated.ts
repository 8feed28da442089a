// Which trust bundle is of which statement of its trust domain, as it lies beside the bundle in a provider's store. A domain that is
// given up and stated anew, by whomever, is another one: its bundles are not held against those of before (ADR-1246). Written by
// publisher-mirror.ts, read by the edges.

import { canonicalJson } from "../contract/events.ts";
import { membersOf } from "./mirrored-file.ts";

export interface Stated {
  /** Of the bundle's document: lower-case hex SHA-256. It binds the two files, which are written one after the other. */
  readonly bundle_sha256: string;
  /** When the domain was stated, milliseconds since 1970 UTC: one that is stated later has a later one. */
  readonly stated_ms: number;
}

export const statedText = ({ bundle_sha256, stated_ms }: Stated): string => canonicalJson({ bundle_sha256, stated_ms });

/** Null for anything else. */
export function parseStated(bytes: Uint8Array): Stated | null {
  const members = membersOf(bytes);
  if (members === null) return null;
  const { bundle_sha256, stated_ms } = members;
  if (typeof bundle_sha256 !== "string" || typeof stated_ms !== "number" || !Number.isSafeInteger(stated_ms))
    return null;
  return { bundle_sha256, stated_ms };
}
