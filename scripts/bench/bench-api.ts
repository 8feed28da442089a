// A stack whose API worker is the product's with another entry file: its own wrangler.toml, changed by a few words. Called by
// the benchmarks that need a route more, or a binding that fails.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { projectFolder, workerConfigs } from "../stack/workers.ts";

export interface ChangedApi {
  /** The entry file, relative to the project. */
  readonly entry: string;
  /** What else is to be other in the file's text. */
  readonly change?: (text: string) => string;
}

/** Writes the API's wrangler.toml, changed, into `folder`; answers the paths of all workers' files, the API's first. */
export function changedApiConfigs(folder: string, { entry, change = (text) => text }: ChangedApi): string[] {
  mkdirSync(folder, { recursive: true });
  const [api, ...others] = workerConfigs.map((path) => join(projectFolder, path));
  const text = readFileSync(api!, "utf8");
  const main = 'main = "workers/api/index.ts"\n';
  if (!text.includes(main)) throw new Error("wrangler.toml is not as this file knows it");
  const path = join(folder, "bench-api.toml");
  writeFileSync(path, change(text.replace(main, `main = ${JSON.stringify(join(projectFolder, entry))}\n`)));
  return [path, ...others];
}
