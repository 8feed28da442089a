// Provider B's store: Bunny Storage over its HTTP API, with the zone's read-only password. Called by bunny.ts.

import type { EdgeStore } from "./cache.ts";

export interface BunnyZone {
  /** The region's endpoint, like https://storage.bunnycdn.com, without a slash at the end. */
  readonly url: string;
  readonly zone: string;
  readonly readOnlyKey: string;
}

export const bunnyStore = ({ url, zone, readOnlyKey }: BunnyZone): EdgeStore => ({
  async get(key, signal) {
    const response = await fetch(`${url}/${zone}/${key}`, {
      headers: { AccessKey: readOnlyKey, "accept-encoding": "identity" },
      redirect: "manual",
      signal,
    });
    const length = response.headers.get("content-length");
    if (response.status === 200 && response.body !== null && length !== null && /^\d{1,15}$/.test(length)) {
      return { size: Number(length), body: response.body };
    }
    await response.body?.cancel();
    if (response.status === 404) return null;
    throw new Error(`the storage zone answered ${response.status}`);
  },
});
