// Which names a package's files may have. Held by packing, by the upload and by unpacking alike, so that what packs also
// unpacks, on every file system: no way out of the folder, nothing that two systems would read as different or as the same.

/** Files and folders of one package, counting the folders that only a file's path names. */
export const packageEntriesMax = 4_096;

const nameCharactersMax = 255;
const segmentPattern = /^[A-Za-z0-9@_+,=~. ()[\]-]+$/;

/** Why `name` (without a trailing slash) may not be in a package, or null. */
export function nameRefusal(name: string): string | null {
  if (name === "") return "an entry without a name";
  if (name.length > nameCharactersMax) return `a name longer than ${nameCharactersMax} characters`;
  if (name.includes("\0")) return "a name with a NUL";
  if (name.startsWith("/") || name.includes("\\") || /^[A-Za-z]:/.test(name)) return "an absolute or foreign path";
  for (const segment of name.split("/")) {
    if (segment === "" || segment === "." || segment === "..") return "a path with empty or dot segments";
    if (!segmentPattern.test(segment)) return "a name with characters other than plain ASCII letters, digits and signs";
    // Windows drops these at the end, so two names would become one.
    if (/[. ]$/.test(segment) || segment.startsWith(" "))
      return "a name that begins or ends with a space or ends with a dot";
  }
  return null;
}

/** The names of one archive as they come by. */
export class SeenNames {
  readonly #kinds = new Map<
    string,
    { readonly name: string; readonly kind: "file" | "folder"; readonly own: boolean }
  >();

  /** Why this entry may not follow those before it, or null; remembers it then. */
  add(name: string, kind: "file" | "folder"): string | null {
    const refusal = nameRefusal(name);
    if (refusal !== null) return refusal;
    const segments = name.split("/");
    for (let length = 1; length < segments.length; length += 1) {
      const folder = segments.slice(0, length).join("/");
      const seen = this.#kinds.get(folder.toLowerCase());
      if (seen === undefined) this.#kinds.set(folder.toLowerCase(), { name: folder, kind: "folder", own: false });
      else if (seen.name !== folder) return `names that differ only by case (${seen.name}, ${folder})`;
      else if (seen.kind === "file") return "a file and a folder of the same name";
    }
    const seen = this.#kinds.get(name.toLowerCase());
    if (seen !== undefined) {
      if (seen.name !== name) return `names that differ only by case (${seen.name}, ${name})`;
      if (seen.kind !== kind) return "a file and a folder of the same name";
      if (seen.own) return "the same name twice";
    }
    this.#kinds.set(name.toLowerCase(), { name, kind, own: true });
    if (this.#kinds.size > packageEntriesMax) return `more than ${packageEntriesMax} entries, folders counted`;
    return null;
  }
}
