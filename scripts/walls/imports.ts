// Finds what a TypeScript file imports, and blanks its comments and strings, without a compiler: TypeScript 7 has no API.
// Called by scripts/check-walls.ts.

export interface Import {
  /** The specifier, or null where it is not a plain string and so cannot be checked. */
  readonly specifier: string | null;
  readonly line: number;
}

export interface Scanned {
  readonly imports: readonly Import[];
  /** The source with every comment, string, template text and regular expression blanked, line for line. */
  readonly code: string;
}

const beforeRegex =
  /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|delete|void|throw|new|else|do|await|yield))\s*$/;

/** One pass over the text; strings are kept beside the blanked code, by the place of their opening quote. */
export function scan(source: string): Scanned {
  let code = "";
  const strings = new Map<number, string>();
  const templateDepths: number[] = [];
  let depth = 0;
  const blank = (text: string): string => text.replaceAll(/[^\n]/g, " ");
  for (let at = 0; at < source.length;) {
    const character = source[at]!;
    const rest = (pattern: RegExp): string => {
      pattern.lastIndex = at;
      return pattern.exec(source)?.[0] ?? character;
    };
    let token = character;
    let shown: string | null = null;
    if (source.startsWith("//", at)) token = rest(/\/\/[^\n]*/y);
    else if (source.startsWith("/*", at)) token = rest(/\/\*[^]*?\*\//y);
    else if (character === '"' || character === "'") {
      token = rest(character === '"' ? /"(?:[^"\\\n]|\\[^])*"/y : /'(?:[^'\\\n]|\\[^])*'/y);
      strings.set(at, token.slice(1, -1));
      shown = `"${blank(token.slice(1, -1))}"`;
    } else if (character === "`" || (character === "}" && templateDepths.at(-1) === depth)) {
      // A template's text up to its end or its next `${`, which is code again.
      if (character === "}") templateDepths.pop();
      token = rest(/[`}](?:[^`\\$]|\\[^]|\$(?!\{))*(?:`|\$\{)/y);
      if (token.endsWith("${")) templateDepths.push(depth);
      shown = character === "`" ? `\`${blank(token.slice(1))}` : blank(token);
    } else if (character === "/" && beforeRegex.test(code.slice(-40))) {
      token = rest(/\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y);
      if (token !== "/") shown = `0${blank(token.slice(1))}`;
    } else {
      if (character === "{") depth += 1;
      if (character === "}") depth -= 1;
      shown = character;
    }
    code += shown ?? blank(token);
    at += token.length;
  }
  return { imports: findImports(code, strings), code };
}

function findImports(code: string, strings: ReadonlyMap<number, string>): Import[] {
  const lineOf = (at: number): number => code.slice(0, at).split("\n").length;
  const found: Import[] = [];
  const take = (pattern: RegExp): void => {
    for (const match of code.matchAll(pattern)) {
      const end = match.index + match[0].length - 1;
      found.push({ specifier: code[end] === '"' ? (strings.get(end) ?? null) : null, line: lineOf(match.index) });
    }
  };
  // import … from "x", export … from "x"
  take(/(?:^|;)[ \t]*(?:import|export)\b(?:[^;"'`()=]|\bas\b)*?\bfrom\s*"/gm);
  // import "x"
  take(/(?:^|;)[ \t]*import\s*"/gm);
  // import("x"), import(name), and types: import("x").Name
  take(/\bimport\s*\(\s*[^\s]/g);
  return found.toSorted((left, right) => left.line - right.line);
}
