// How something is put into a provider's store, or taken from it: then it is read back. Called by publisher-courier.ts and
// publisher-mirror.ts.

import { sha256Hex, utf8, type Bytes } from "../contract/bytes.ts";
import type { Content, ProviderStore } from "./stores.ts";

/** What a provider gave back is not what was put. Its message is a machine word. */
class StoreDiffers extends Error {
  override readonly name = "StoreDiffers";
}

/** A machine word for why a store does not have what it should. */
export const reasonOf = (error: unknown): string =>
  error instanceof StoreDiffers ? error.message : "store_unavailable";

/** When it resolves, a read of the store gave the bytes. */
export async function putAndRead(store: ProviderStore, key: string, content: Content): Promise<void> {
  await store.put(key, content);
  if ((await store.digest(key)) !== content.sha256) throw new StoreDiffers("digest_differs");
}

/** When it resolves, a read of the store gave nothing. */
export async function removeAndRead(store: ProviderStore, key: string): Promise<void> {
  await store.remove(key);
  if ((await store.digest(key)) !== null) throw new StoreDiffers("still_there");
}

export async function jsonContent(text: string, immutable: boolean): Promise<Content> {
  const bytes = utf8(text);
  return {
    sha256: await sha256Hex(bytes),
    contentType: "application/json",
    immutable,
    open: () => Promise.resolve({ bytes: bytes.length, body: once(bytes) }),
  };
}

async function* once(bytes: Bytes): AsyncGenerator<Uint8Array> {
  yield bytes;
}
