// Bundles what a stack runs, once for all stacks of a run of tests: into the folder that is named. Called by scripts/test.ts.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { prepareDenoScript, prepareWorkers } from "../stack/prepare-workers.ts";
import { projectFolder, workerConfigs } from "../stack/workers.ts";

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new TypeError("name the folder");
mkdirSync(folder, { recursive: true, mode: 0o700 });
await Promise.all([
  prepareWorkers(
    workerConfigs.map((path) => join(projectFolder, path)),
    join(folder, "workers-cache.json"),
  ),
  prepareDenoScript(join(projectFolder, "workers/edge/bunny.ts"), join(folder, "edge-b-cache.json")),
]);
// The bundler's own process would keep this one.
process.exit(0);
