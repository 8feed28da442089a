// Conditional and partial GETs over one stored object, decided from the headers alone (RFC 9110, sections 13 and 14). Called by
// workers/edge, and by whoever else serves bundles.

/** As `Headers.get` answers. */
export interface Conditions {
  readonly ifNoneMatch: string | null;
  readonly range: string | null;
  readonly ifRange: string | null;
}

/** `from` and `to` are byte positions, both included. */
export type ConditionalAnswer =
  | { readonly status: 200 | 304 | 416 }
  | { readonly status: 206; readonly from: number; readonly to: number };

/** Longer ones are as good as absent. */
const listLengthMax = 4_096;
const rangeLengthMax = 64;

/** `etag` is strong, with its quotes; `size` is in bytes. A list of ranges is passed over, as RFC 9110 lets a server do. */
export function decideConditional(
  method: string,
  conditions: Conditions,
  etag: string,
  size: number,
): ConditionalAnswer {
  const { ifNoneMatch, range, ifRange } = conditions;
  if (ifNoneMatch !== null && matchesAny(ifNoneMatch, etag)) return { status: 304 };
  if (range === null || method !== "GET") return { status: 200 };
  // Only the very same strong tag makes a part of this object fit the parts that the client has. Dates are not known here.
  if (ifRange !== null && ifRange !== etag) return { status: 200 };
  if (range.length > rangeLengthMax) return { status: 200 };
  const match = /^bytes=([0-9]*)-([0-9]*)$/i.exec(range);
  if (match === null) return { status: 200 };
  const [, first = "", last = ""] = match;
  if (first === "" && last === "") return { status: 200 };
  if (first === "") {
    const count = Math.min(Number(last), size);
    return count === 0 ? { status: 416 } : { status: 206, from: size - count, to: size - 1 };
  }
  const from = Number(first);
  if (last !== "" && Number(last) < from) return { status: 200 };
  if (from >= size) return { status: 416 };
  return { status: 206, from, to: last === "" ? size - 1 : Math.min(Number(last), size - 1) };
}

/** Weak comparison, as If-None-Match wants it. The tags here have no comma in them. */
function matchesAny(list: string, etag: string): boolean {
  if (list === etag) return true;
  if (list.length > listLengthMax) return false;
  return list.split(",").some((part) => {
    const tag = part.trim();
    return tag === "*" || tag === etag || (tag.startsWith("W/") && tag.slice(2) === etag);
  });
}
