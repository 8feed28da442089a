// The roots of an OPA bundle: the parts of `data` that it owns. Called by bundle.ts; the rules are OPA's own, so that what is
// published loads. https://www.openpolicyagent.org/docs/management-bundles#bundle-file-format

/** `a/b` as `["a", "b"]`; the root of everything, ``, as none. */
export const rootPath = (root: string): readonly string[] => (root === "" ? [] : root.split("/"));

export const isPrefix = (shorter: readonly string[], longer: readonly string[]): boolean =>
  shorter.length <= longer.length && shorter.every((segment, at) => segment === longer[at]);

/** Two roots of which one is the other or lies in it, or null. */
export function overlappingRoots(roots: readonly string[]): readonly [string, string] | null {
  // Sorted by segments, an overlap shows between neighbours.
  const sorted = roots.toSorted((left, right) => (keyOf(left) < keyOf(right) ? -1 : 1));
  for (let at = 1; at < sorted.length; at += 1) {
    const [before, after] = [sorted[at - 1]!, sorted[at]!];
    if (isPrefix(rootPath(before), rootPath(after))) return [before, after];
  }
  return null;
}

/** A slash sorts before every character that a segment may have, so what lies in a root comes next to it. */
const keyOf = (root: string): string => root.replaceAll("/", "\0");

/** Whether `path` lies in one of the roots. */
export const isUnderRoots = (roots: readonly string[], path: readonly string[]): boolean =>
  roots.some((root) => isPrefix(rootPath(root), path));

/** The first place of `value`, standing at `path` in `data`, that no root holds; null where all of it lies in roots. */
export function placeOutsideRoots(
  roots: readonly string[],
  path: readonly string[],
  value: unknown,
): readonly string[] | null {
  if (isUnderRoots(roots, path)) return null;
  const leadsToRoot = roots.some((root) => isPrefix(path, rootPath(root)));
  if (!leadsToRoot || typeof value !== "object" || value === null || Array.isArray(value)) return path;
  // Bounded: only members on the way to a root are gone into, and a root has at most `rootSegmentsMax` segments.
  for (const [name, member] of Object.entries(value)) {
    const outside = placeOutsideRoots(roots, [...path, name], member);
    if (outside !== null) return outside;
  }
  return null;
}
