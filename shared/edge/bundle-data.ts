// The data of a bundle's files as OPA puts it together: one tree, in which no place may have two values. Called by bundle.ts, so that
// what is published loads. https://www.openpolicyagent.org/docs/management-bundles#bundle-file-format

import { isPrefix } from "./roots.ts";

/** Go reads no JSON that is nested deeper than 10,000; nobody means so much. */
export const dataDepthMax = 1_000;
/** Names of all files' objects that are remembered: beyond them it is not known what lies in a file. */
const namesMax = 100_000;

/** The names of an object, and of those in it; null: another value. */
type Names = ReadonlyMap<string, Names> | null;

interface DataFile {
  readonly name: string;
  readonly path: readonly string[];
  /** "unknown": it has more names than are remembered. */
  readonly names: Names | "unknown";
}

export class BundleData {
  readonly #files: DataFile[] = [];
  #room: number;

  constructor(room = namesMax) {
    this.#room = room;
  }

  /** Why `value`, which stands at `path`, may not be added: a sentence about "it", the bundle; or null. */
  add(name: string, path: readonly string[], value: Readonly<Record<string, unknown>>): string | null {
    const names = this.#namesOf(value, 1);
    if (names === "too_deep") return `${JSON.stringify(name)} is nested deeper than ${dataDepthMax} objects and lists`;
    const file: DataFile = { name, path, names };
    for (const other of this.#files) {
      const [outer, inner] = path.length < other.path.length ? [file, other] : [other, file];
      if (!isPrefix(outer.path, inner.path)) continue;
      const both = `${JSON.stringify(outer.name)} and ${JSON.stringify(inner.name)}`;
      const isShared = isPlaceShared(outer, inner);
      if (isShared === true)
        return `${both} both have data at one place under ${JSON.stringify(inner.path.join("/"))}: leave it out of one of them`;
      if (isShared === null) return `${both} have too many names to be put together: make one file of them`;
    }
    this.#files.push(file);
    return null;
  }

  #namesOf(value: unknown, depth: number): Names | "unknown" | "too_deep" {
    if (typeof value !== "object" || value === null) return null;
    if (depth > dataDepthMax) return "too_deep";
    if (Array.isArray(value)) return value.some((item) => isTooDeep(item, depth + 1)) ? "too_deep" : null;
    const names = new Map<string, Names>();
    let isUnknown = false;
    for (const [name, member] of Object.entries(value)) {
      this.#room -= 1;
      if (this.#room < 0) {
        if (isTooDeep(member, depth + 1)) return "too_deep";
        isUnknown = true;
        continue;
      }
      const inside = this.#namesOf(member, depth + 1);
      if (inside === "too_deep") return inside;
      if (inside === "unknown") isUnknown = true;
      else names.set(name, inside);
    }
    return isUnknown ? "unknown" : names;
  }
}

function isTooDeep(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (depth > dataDepthMax) return true;
  return Object.values(value).some((member) => isTooDeep(member, depth + 1));
}

/** Whether one place has a value of both that is not an object in both; null: that is not known. */
function isPlaceShared(outer: DataFile, inner: DataFile): boolean | null {
  let at: Names | "unknown" | undefined = outer.names;
  for (const segment of inner.path.slice(outer.path.length)) {
    if (at === "unknown") return null;
    if (at === null) return true;
    at = at.get(segment);
    if (at === undefined) return false;
  }
  if (at === null) return true;
  if (at === "unknown" || inner.names === "unknown") return null;
  return inner.names === null || meet(at, inner.names);
}

const meet = (one: ReadonlyMap<string, Names>, other: ReadonlyMap<string, Names>): boolean =>
  [...other].some(([name, theirs]) => {
    const ours = one.get(name);
    return ours !== undefined && (ours === null || theirs === null || meet(ours, theirs));
  });
