// What is read out of the configuration once and kept: keys that are imported, lists that are parsed. Called by compose.ts.

/**
 * What `make` gave first. What failed is not kept: the next call tries again. Calls at the same time each make their own, for a
 * request of a Worker cannot wait for another one's promise.
 */
export function remembered<T extends object>(make: () => Promise<T>): () => Promise<T> {
  let known: T | null = null;
  return async () => (known ??= await make());
}
