// Checks that every generated file belongs to the source that stands beside it: by the digest of the source that was
// recorded when it was made, and by its own bytes. Called by scripts/test.ts; `npm run generate` makes them anew.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { eventSchemaPath, eventSchemaText } from "./generate/events.ts";
import { checkScriptFile, checkScriptPath, checkScriptSha256, checkScriptSource } from "./generate/check-script.ts";
import { committedPolicyBuild, policySourceDigest } from "./generate/policy.ts";
import { pqlGrammarSha256, pqlParserFiles } from "./generate/pql.ts";

const project = fileURLToPath(new URL("..", import.meta.url));

export interface GeneratedFile {
  /** Relative to the project. */
  readonly path: string;
  /** What it is made of, for people. */
  readonly source: string;
  /** Digest of the source as it stands now. */
  sourceDigest(): Promise<string>;
  /** Digest of the source that the file was made of, or null where it does not say. */
  recordedDigest(): Promise<string | null>;
  /** True where the file's bytes are those that were made. */
  isUnedited(): Promise<boolean>;
}

const recordedInHeader = async (path: string): Promise<string | null> =>
  /^\/\/ source-sha256: ([0-9a-f]{64})$/m.exec(await readFile(join(project, path), "utf8"))?.[1] ?? null;

const sha256Of = (text: string): string => createHash("sha256").update(text).digest("hex");

export const generatedFiles: readonly GeneratedFile[] = [
  ...["shared/pql/parser.generated.js", "shared/pql/parser.generated.d.ts"].map((path): GeneratedFile => ({
    path,
    source: "shared/pql/grammar.peggy",
    sourceDigest: pqlGrammarSha256,
    recordedDigest: () => recordedInHeader(path),
    isUnedited: async () => {
      const made = (await pqlParserFiles()).find((file) => file.path === path);
      return made?.text === (await readFile(join(project, path), "utf8"));
    },
  })),
  {
    path: eventSchemaPath,
    source: "shared/contract/events.ts",
    sourceDigest: () => Promise.resolve(sha256Of(eventSchemaText())),
    // It is nothing but what was made: its own digest tells of either.
    recordedDigest: async () => sha256Of(await readFile(join(project, eventSchemaPath), "utf8")),
    isUnedited: () => Promise.resolve(true),
  },
  {
    path: checkScriptPath,
    source: checkScriptSource,
    sourceDigest: checkScriptSha256,
    recordedDigest: () => recordedInHeader(checkScriptPath),
    isUnedited: async () => (await checkScriptFile()) === (await readFile(join(project, checkScriptPath), "utf8")),
  },
  {
    path: "policy/generated/authz.wasm",
    source: "policy/rego",
    sourceDigest: policySourceDigest,
    recordedDigest: async () => (await committedPolicyBuild()).source_sha256,
    isUnedited: async () => {
      const { wasm, wasm_sha256 } = await committedPolicyBuild();
      return createHash("sha256").update(wasm).digest("hex") === wasm_sha256;
    },
  },
];

/** What is wrong, a sentence each. */
export async function generatedComplaints(files: readonly GeneratedFile[]): Promise<string[]> {
  const complaints = await Promise.all(
    files.map(async (file) => {
      try {
        if ((await file.recordedDigest()) !== (await file.sourceDigest())) {
          return `${file.path} is older than ${file.source}: npm run generate`;
        }
        return (await file.isUnedited())
          ? null
          : `${file.path} was edited by hand: change ${file.source}, then npm run generate`;
      } catch (error) {
        return `${file.path} cannot be compared with ${file.source}: ${(error as Error).message}`;
      }
    }),
  );
  return complaints.filter((complaint) => complaint !== null);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const complaints = await generatedComplaints(generatedFiles);
  for (const complaint of complaints) console.error(complaint);
  process.exitCode = complaints.length === 0 ? 0 : 1;
}
