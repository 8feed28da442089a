// The `Bucket` port over R2. An object that stands is never written again: the condition is checked by R2, atomically.

import { hex, sha256Hex, toBytes } from "../../shared/contract/bytes.ts";
import type { Bucket } from "../../shared/contract/ports.ts";

export function r2Bucket(r2: R2Bucket): Bucket {
  const get: Bucket["get"] = async (key) => {
    const object = await r2.get(key);
    return object === null ? null : new Uint8Array(await object.arrayBuffer());
  };
  return {
    get,
    async digest(key) {
      const head = await r2.head(key);
      if (head === null) return null;
      if (head.checksums.sha256 !== undefined) return hex(toBytes(head.checksums.sha256));
      const bytes = await get(key);
      return bytes === null ? null : await sha256Hex(bytes);
    },
    async putIfAbsent(key, bytes, { contentType, sha256 }) {
      const put = await r2.put(key, bytes, {
        sha256,
        onlyIf: new Headers({ "if-none-match": "*" }),
        httpMetadata: { contentType },
      });
      return put === null ? "exists" : "created";
    },
    async list(prefix, { after, limit }) {
      const listed = await r2.list({ prefix, limit, ...(after === undefined ? {} : { startAfter: after }) });
      return listed.objects.map(({ key }) => key);
    },
  };
}
