// A stack whose API worker has faults in its bindings: the product's own wrangler.toml with another entry file and one
// object more. Called by the market benchmark.

import type { Stack } from "../stack/index.ts";
import { changedApiConfigs } from "./bench-api.ts";

export interface FaultShares {
  readonly bucket: number;
  readonly queue_twice: number;
  readonly queue_reordered: number;
}
export const noFaults: FaultShares = { bucket: 0, queue_twice: 0, queue_reordered: 0 };

/** As `changedApiConfigs`. */
export const faultyConfigs = (folder: string): string[] =>
  changedApiConfigs(folder, {
    entry: "test/workerd/faulty-api.ts",
    change: (text) => {
      const classes = /new_sqlite_classes = \[([^\]]*)\]/;
      if (!classes.test(text)) throw new Error("wrangler.toml is not as this file knows it");
      return text
        .replace(classes, 'new_sqlite_classes = [$1, "OneRow"]')
        .replace(
          "[[durable_objects.bindings]]",
          '[[durable_objects.bindings]]\nname = "ONE_ROW"\nclass_name = "OneRow"\n\n[[durable_objects.bindings]]',
        );
    },
  });

/** Sets the shares of faults, and answers how many were injected so far. */
export async function setFaults(stack: Pick<Stack, "apiUrl">, faults: FaultShares): Promise<FaultShares> {
  const response = await fetch(`${stack.apiUrl}/bench/faults`, { method: "PUT", body: JSON.stringify(faults) });
  if (!response.ok) throw new Error(`the faults were not set: ${response.status}`);
  return ((await response.json()) as { injected: FaultShares }).injected;
}
