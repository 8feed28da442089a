// How lines become queries and commands of the shell. Pure.

/** What a line makes of the lines before it. */
export type Entered =
  | { readonly kind: "more"; readonly lines: readonly string[] }
  | { readonly kind: "query"; readonly query: string }
  | { readonly kind: "command"; readonly name: string; readonly argument: string }
  | { readonly kind: "nothing" };

/** The most lines of one query; its text is bounded by the API. */
const linesMax = 1_000;

/**
 * A query ends with a semicolon at the end of a line, or with an empty line: so it may be pasted with its line breaks. A
 * line that begins with a backslash is a command, where no query has begun.
 */
export function enter(before: readonly string[], line: string): Entered {
  if (before.length === 0 && line.startsWith("\\")) {
    const [, name = "", argument = ""] = /^\\(\S*)\s*([^]*)$/.exec(line) ?? [];
    return { kind: "command", name, argument: withoutEnd(argument) };
  }
  const lines = line.trim() === "" ? before : [...before, line];
  const ends = line.trim() === "" || endsQuery(line) || lines.length >= linesMax;
  if (!ends) return { kind: "more", lines };
  const query = withoutEnd(lines.join("\n"));
  return query.trim() === "" ? { kind: "nothing" } : { kind: "query", query };
}

/** A semicolon inside of a string does not end a query; a string ends with its line. */
const endsQuery = (line: string): boolean => /;\s*$/.test(line.replaceAll(/"(?:[^"\\]|\\.)*(?:"|$)/g, '""'));

const withoutEnd = (text: string): string =>
  endsQuery(text.split("\n").at(-1)!) ? text.replace(/[\s;]+$/, "") : text.trimEnd();
