// JSON from elsewhere, read so that it means one thing: no member twice, bounded in length and depth. Called for trust bundles
// and for the parts of JWT-SVIDs. (JSON.parse takes the last of two members, others the first.)

import { utf8Length } from "../contract/bytes.ts";
import { refuse } from "./refusal.ts";

export interface StrictJson {
  readonly value: unknown;
  /** The numbers among the members of the outermost object, as they are written: `1` is not `1.0` nor `1e0`. */
  readonly numbers: ReadonlyMap<string, string>;
}

const depthMax = 16;
const token = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** Throws a refusal that cites `section`, and calls the text `what`. */
export function strictJson(text: string, bytesMax: number, section: string, what: string): StrictJson {
  if (utf8Length(text) > bytesMax) refuse("bounds", `${what} has more than ${bytesMax} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    refuse(section, `${what} is not JSON`);
  }
  return { value, numbers: walk(text, section, what) };
}

/** The text is JSON: only names and depth are looked at. */
function walk(text: string, section: string, what: string): Map<string, string> {
  const numbers = new Map<string, string>();
  /** For each open object the names it has so far; null for an array. */
  const open: (Set<string> | null)[] = [];
  let name: string | null = null;
  let isName = false;
  for (const [part] of text.matchAll(token)) {
    const names = open.at(-1) ?? null;
    if (part === "{" || part === "[") {
      if (open.length === depthMax) refuse("bounds", `${what} is nested more than ${depthMax} deep`);
      open.push(part === "{" ? new Set() : null);
      isName = part === "{";
    } else if (part === "}" || part === "]") {
      open.pop();
      isName = false;
    } else if (part === ",") isName = names !== null;
    else if (part === ":") isName = false;
    else if (isName && names !== null) {
      name = JSON.parse(part) as string;
      if (names.has(name)) refuse(section, `${what} has a member twice`);
      names.add(name);
    } else if (open.length === 1 && name !== null && /^[-\d]/.test(part)) numbers.set(name, part);
  }
  return numbers;
}

/** The members of a JSON object, or null. */
export const membersOf = (value: unknown): Readonly<Record<string, unknown>> | null =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : null;
