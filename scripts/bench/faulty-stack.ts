// A stack whose API worker has faults in its bindings: the product's own wrangler.toml with another entry file and one
// object more. Called by the market benchmark.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Stack } from "../stack/index.ts";
import { projectFolder, workerConfigs } from "../stack/workers.ts";

export interface FaultShares {
  readonly bucket: number;
  readonly queue_twice: number;
  readonly queue_reordered: number;
}
export const noFaults: FaultShares = { bucket: 0, queue_twice: 0, queue_reordered: 0 };

/** Writes the API's wrangler.toml, changed, into `folder`; answers the paths of all workers' files, the API's first. */
export function faultyConfigs(folder: string): string[] {
  mkdirSync(folder, { recursive: true });
  const [api, ...others] = workerConfigs.map((path) => join(projectFolder, path));
  const text = readFileSync(api!, "utf8");
  const main = 'main = "workers/api/index.ts"\n';
  const classes = /new_sqlite_classes = \[([^\]]*)\]/;
  if (!text.includes(main) || !classes.test(text)) throw new Error("wrangler.toml is not as this file knows it");
  const path = join(folder, "faulty-api.toml");
  writeFileSync(
    path,
    text
      .replace(main, `main = ${JSON.stringify(join(projectFolder, "test/workerd/faulty-api.ts"))}\n`)
      .replace(classes, 'new_sqlite_classes = [$1, "OneRow"]')
      .replace(
        "[[durable_objects.bindings]]",
        '[[durable_objects.bindings]]\nname = "ONE_ROW"\nclass_name = "OneRow"\n\n[[durable_objects.bindings]]',
      ),
  );
  return [path, ...others];
}

/** Sets the shares of faults, and answers how many were injected so far. */
export async function setFaults(stack: Pick<Stack, "apiUrl">, faults: FaultShares): Promise<FaultShares> {
  const response = await fetch(`${stack.apiUrl}/bench/faults`, { method: "PUT", body: JSON.stringify(faults) });
  if (!response.ok) throw new Error(`the faults were not set: ${response.status}`);
  return ((await response.json()) as { injected: FaultShares }).injected;
}
