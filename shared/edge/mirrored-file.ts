// What publisher-mirror.ts puts into the providers' stores is JSON objects; here is how they are read back. Used by stated.ts and by
// the edges, each of which checks the members that it takes.

import { utf8Text } from "../contract/bytes.ts";

/** The members of a JSON object in UTF-8 (or of an array: none that is asked for); null for anything else. */
export function membersOf(bytes: Uint8Array): Readonly<Record<string, unknown>> | null {
  let value: unknown;
  try {
    value = JSON.parse(utf8Text(bytes));
  } catch {
    return null;
  }
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
}
