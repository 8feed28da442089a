// Texts with one reading: JSON in the one spelling of RFC 8785, checked against what was read from it. Called wherever signed
// or hashed JSON is read: bundles, leaves, manifests, packs, queue messages.

import { canonicalJson } from "../contract/events.ts";

/** RFC 8785 text; null where the value has none: a lone surrogate, or nested too deeply. */
export function canonicalText(value: unknown): string | null {
  try {
    return canonicalJson(value);
  } catch {
    return null;
  }
}

/**
 * True where `text` is the RFC 8785 text of `read`. Hand in what a schema made of the value, not the value: schemas pass
 * over a member called `__proto__`, also strict ones, and what they passed over would be signed and never shown.
 */
export const isTextOf = (text: string | null, read: unknown): boolean => text !== null && canonicalText(read) === text;

/** The value of a canonical text; undefined for any other, where a member may come twice and mean something else elsewhere. */
export function parseCanonical(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return isTextOf(text, value) ? value : undefined;
  } catch {
    return undefined; // not JSON
  }
}
