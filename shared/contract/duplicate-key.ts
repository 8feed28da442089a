// Names that come twice in one object of a JSON text: what a reader makes of them is unpredictable (RFC 8259, section 4). Called where two
// readers have to read alike: the door's bodies, and the manifests of policies.

/** The first name that comes twice in one object of `text`, which must be valid JSON; null where none does. */
export function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = [];
  let nameNext = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === "{") {
      open.push(new Set());
      nameNext = true;
    } else if (character === "[") {
      open.push(null);
      nameNext = false;
    } else if (character === "}" || character === "]") {
      open.pop();
      nameNext = false;
    } else if (character === ",") {
      nameNext = open.at(-1) instanceof Set;
    } else if (character === '"') {
      const start = at;
      for (at += 1; text[at] !== '"'; at += 1) if (text[at] === "\\") at += 1;
      const names = open.at(-1);
      if (nameNext && names instanceof Set) {
        const name = JSON.parse(text.slice(start, at + 1)) as string;
        if (names.has(name)) return name;
        names.add(name);
        nameNext = false;
      }
    }
  }
  return null;
}
