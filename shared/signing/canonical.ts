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

/**
 * As `isTextOf`, for who reads millions: true only where that is true, in half of its time; false also where it cannot be
 * told so quickly. `value`: what JSON.parse made of `text`, from which the schema made `read`.
 */
export const isSurelyTextOf = (text: string, value: unknown, read: unknown): boolean =>
  // Numbers and strings are spelled by JSON.stringify as RFC 8785 asks, but for lone surrogates, which it escapes and
  // RFC 8785 forbids; left are the order of members, and that the schema passed over nothing.
  JSON.stringify(value) === text && !text.includes("\\ud") && isSortedCopy(value, read);

function isSortedCopy(value: unknown, read: unknown): boolean {
  if (typeof value !== "object" || value === null) return value === read;
  if (typeof read !== "object" || read === null || Array.isArray(value) !== Array.isArray(read)) return false;
  if (Array.isArray(value)) {
    return (
      value.length === (read as unknown[]).length &&
      value.every((item, at) => isSortedCopy(item, (read as unknown[])[at]))
    );
  }
  let before: string | null = null;
  let count = 0;
  for (const name of Object.keys(value)) {
    // By UTF-16 code units, as RFC 8785 sorts.
    if ((before !== null && name <= before) || !Object.hasOwn(read, name)) return false;
    if (!isSortedCopy((value as Record<string, unknown>)[name], (read as Record<string, unknown>)[name])) return false;
    before = name;
    count += 1;
  }
  return count === Object.keys(read).length;
}

/** The value of a canonical text; undefined for any other, where a member may come twice and mean something else elsewhere. */
export function parseCanonical(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return isTextOf(text, value) ? value : undefined;
  } catch {
    return undefined; // not JSON
  }
}
