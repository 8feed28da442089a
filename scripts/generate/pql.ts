// Makes the PQL parser of its grammar: `node scripts/generate/pql.ts` writes shared/pql/parser.generated.js and .d.ts;
// the check of generated files compares `pqlParserFiles()` with what is committed.

import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import peggy from "peggy";
import { sha256Hex } from "../../shared/contract/bytes.ts";

const room = new URL("../../shared/pql/", import.meta.url);
const grammarUrl = new URL("grammar.peggy", room);

/** The digest that the header of an up-to-date parser has: lower-case hex SHA-256 of the grammar. */
export const pqlGrammarSha256 = async (): Promise<string> => sha256Hex(await readFile(grammarUrl));

export interface GeneratedFile {
  /** Relative to the project. */
  readonly path: string;
  readonly text: string;
}

/** What the generated files must hold. */
export async function pqlParserFiles(): Promise<readonly GeneratedFile[]> {
  const header = [
    "// The PQL parser, generated from grammar.peggy by scripts/generate/pql.ts; do not edit.",
    `// source-sha256: ${await pqlGrammarSha256()}`,
    "",
  ].join("\n");
  const parser = peggy.generate(await readFile(grammarUrl, "utf8"), {
    output: "source",
    format: "es",
    allowedStartRules: ["Query"],
    grammarSource: "grammar.peggy",
  });
  const types = `import type { Query } from "./ast.ts";
import type { Refuse } from "./pql-error.ts";

/** Throws \`SyntaxError\` of this module, or what \`refuse\` throws. */
export declare function parse(text: string, options: { readonly refuse: Refuse }): Query;

export type Expectation =
  | { readonly type: "literal"; readonly text: string }
  | { readonly type: "class" | "any" | "end" }
  | { readonly type: "other"; readonly description: string };

export declare class SyntaxError extends Error {
  readonly expected: readonly Expectation[] | null;
  readonly found: string | null;
  readonly location: { readonly start: { readonly offset: number } };
}
`;
  return [
    { path: "shared/pql/parser.generated.js", text: `${header}\n${parser}` },
    { path: "shared/pql/parser.generated.d.ts", text: `${header}\n${types}` },
  ];
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  for (const file of await pqlParserFiles()) await writeFile(new URL(`../../${file.path}`, import.meta.url), file.text);
}
