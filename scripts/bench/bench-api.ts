// A stack of which one worker is the product's with another entry file: its own wrangler.toml, changed by a few words. Called by
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
export const changedApiConfigs = (folder: string, changed: ChangedApi): string[] =>
  changedConfigs(folder, "wrangler.toml", "workers/api/index.ts", changed);

/** As `changedApiConfigs`, for provider A's edge. */
export const changedEdgeConfigs = (folder: string, changed: ChangedApi): string[] =>
  changedConfigs(folder, "workers/edge/wrangler.toml", "cloudflare.ts", changed);

function changedConfigs(
  folder: string,
  config: string,
  entryNow: string,
  { entry, change = (text) => text }: ChangedApi,
): string[] {
  mkdirSync(folder, { recursive: true });
  const text = readFileSync(join(projectFolder, config), "utf8");
  const main = `main = ${JSON.stringify(entryNow)}\n`;
  if (!text.includes(main)) throw new Error(`${config} is not as this file knows it`);
  const path = join(folder, `bench-${config.replaceAll("/", "-")}`);
  writeFileSync(path, change(text.replace(main, `main = ${JSON.stringify(join(projectFolder, entry))}\n`)));
  return workerConfigs.map((one) => (one === config ? path : join(projectFolder, one)));
}
