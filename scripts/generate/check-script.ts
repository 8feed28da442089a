// Makes the text that packs carry as check.sh out of the script itself, which a shell and its linters can read: `node
// scripts/generate/check-script.ts` writes the module; the check of generated files compares it with what is committed.

import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { sha256Hex } from "../../shared/contract/bytes.ts";

const project = new URL("../../", import.meta.url);
export const checkScriptSource = "shared/disclosure/check.sh";
export const checkScriptPath = "shared/disclosure/check-script.generated.ts";

const source = () => readFile(new URL(checkScriptSource, project));

export const checkScriptSha256 = async (): Promise<string> => sha256Hex(await source());

/** What the module must hold. */
export async function checkScriptFile(): Promise<string> {
  const text = await source();
  return [
    "// The text of check.sh, generated from it by scripts/generate/check-script.ts; do not edit.",
    `// source-sha256: ${await sha256Hex(text)}`,
    "",
    `export const checkScript = ${JSON.stringify(text.toString("utf8"))};`,
    "",
  ].join("\n");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await writeFile(new URL(checkScriptPath, project), await checkScriptFile());
}
