// The package that a Rego file declares, without a parser: its first statement. Called by bundle.ts, since a policy's place
// among the roots is its package, not its file's name. https://www.openpolicyagent.org/docs/policy-reference#grammar

const blanks = /(?:[ \t\r\n]|#[^\n]*)*/y;
const declaration = /package[ \t]+([A-Za-z_]\w*)/y;
const step = /\.([A-Za-z_]\w*)|\[("(?:[^"\\\n]|\\.)*")\]/y;
const end = /[ \t]*(?:[\r\n;#]|$)/y;

/** `["a", "b"]` for `package a.b` and for `package a["b"]`; null where the first statement declares no package. */
export function regoPackage(source: string): string[] | null {
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(source);
    if (match !== null) at += match[0].length;
    return match;
  };
  take(blanks);
  const first = take(declaration)?.[1];
  if (first === undefined) return null;
  const path = [first];
  for (let match = take(step); match !== null; match = take(step)) {
    const segment = match[1] ?? stringOf(match[2]!);
    if (segment === null) return null;
    path.push(segment);
  }
  return take(end) === null ? null : path;
}

function stringOf(literal: string): string | null {
  try {
    return JSON.parse(literal) as string;
  } catch {
    return null; // an escape that JSON has not
  }
}
