// `npm run generate`: writes every generated file anew. The generators are in scripts/generate/, one a file; the table in
// scripts/check-generated.ts says what they make. Policies need OPA on the PATH.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

let failed = 0;
for (const name of ["pql", "events", "policy", "check-script"]) {
  const script = fileURLToPath(new URL(`generate/${name}.ts`, import.meta.url));
  const { status } = spawnSync(process.execPath, [script], { stdio: "inherit" });
  if (status !== 0) failed += 1;
}
process.exitCode = failed === 0 ? 0 : 1;
