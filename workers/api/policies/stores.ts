// The stores of the CDN providers as the publisher writes them, and the vault: R2 by binding, Bunny Storage over HTTP. Made by
// compose.ts; a third provider is a third of these.

import nodeCrypto from "node:crypto";
import { hex } from "../../../shared/contract/bytes.ts";
import type { Content, Opened, ProviderStore, Vault } from "../../../shared/edge/stores.ts";
import { inTime } from "../in-time.ts";

/** Of one call: 64 MiB in 100 s are 5.4 Mbit/s, less than any store takes. */
const callMsMax = 100_000;
/** A publish waits for it. */
const findMsMax = 3_000;

/** `ARTIFACTS` has policies beside packages. */
export const vaultKey = (path: string): string => `edge/${path}`;

export function r2Vault(bucket: R2Bucket): Vault {
  return {
    async open(path) {
      const object = await bucket.get(vaultKey(path));
      if (object === null) throw new Error(`not in the vault: ${path}`);
      return { bytes: object.size, body: object.body };
    },
    async find(path) {
      const object = await inTime(bucket.head(vaultKey(path)), findMsMax, "the bucket");
      const digest = object?.checksums.sha256;
      return object === null || digest === undefined
        ? null
        : { sha256: hex(new Uint8Array(digest)), bytes: object.size };
    },
  };
}

export function r2Store(name: string, bucket: R2Bucket): ProviderStore {
  return {
    name,
    async put(key, content) {
      const opened = await content.open();
      await withBody(opened, async (body) => {
        await answered(
          // R2 compares the digest with what it got, and keeps nothing where they differ.
          bucket.put(key, body, {
            sha256: content.sha256,
            httpMetadata: { contentType: content.contentType, cacheControl: cacheControl(content) },
          }),
        );
      });
    },
    async digest(key) {
      const object = await answered(bucket.get(key));
      return object === null ? null : await answered(digestOf(object.body));
    },
    async remove(key) {
      await answered(bucket.delete(key));
    },
  };
}

export interface BunnySettings {
  /** Origin of the zone's region, without a slash at the end. */
  readonly url: string;
  readonly zone: string;
  readonly accessKey: string;
}

/** https://docs.bunny.net/storage/http */
export function bunnyStore(
  name: string,
  { url, zone, accessKey }: BunnySettings,
  send: (request: Request) => Promise<Response>,
): ProviderStore {
  const call = async (
    method: "GET" | "PUT" | "DELETE",
    key: string,
    init: { readonly headers?: Record<string, string>; readonly body?: ReadableStream<Uint8Array> } = {},
  ): Promise<Response> =>
    await send(
      new Request(`${url}/${zone}/${key}`, {
        ...init,
        method,
        headers: { ...init.headers, AccessKey: accessKey },
        // A redirect would carry the key to where nobody agreed.
        redirect: "manual",
        signal: AbortSignal.timeout(callMsMax),
      }),
    );
  const failed = async (method: string, response: Response): Promise<Error> => {
    await response.body?.cancel();
    return new Error(`${name} answered ${method} with ${response.status}`);
  };
  return {
    name,
    async put(key, content) {
      const opened = await content.open();
      await withBody(opened, async (body) => {
        const headers = { "content-type": "application/octet-stream", checksum: content.sha256.toUpperCase() };
        const response = await call("PUT", key, { headers, body });
        if (response.status !== 201) throw await failed("PUT", response);
        await response.body?.cancel();
      });
    },
    async digest(key) {
      const response = await call("GET", key);
      if (response.status === 404) {
        await response.body?.cancel();
        return null;
      }
      if (response.status !== 200 || response.body === null) throw await failed("GET", response);
      return await digestOf(response.body);
    },
    async remove(key) {
      const response = await call("DELETE", key);
      if (response.status !== 200 && response.status !== 404) throw await failed("DELETE", response);
      await response.body?.cancel();
    },
  };
}

const answered = <T>(work: Promise<T>): Promise<T> => inTime(work, callMsMax, "the bucket");

const cacheControl = ({ immutable }: Content): string =>
  immutable ? "public, max-age=31536000, immutable" : "no-store";

/** The bytes as a stream of known length, which both stores ask for; a store that has left leaves nothing waiting. */
async function withBody(
  { bytes, body }: Opened,
  use: (body: ReadableStream<Uint8Array>) => Promise<void>,
): Promise<void> {
  const { readable, writable } = new FixedLengthStream(bytes);
  const writer = writable.getWriter();
  let isOver = false;
  let end = (): void => undefined;
  const ended = new Promise<void>((resolve) => (end = resolve));
  const pump = async (): Promise<void> => {
    try {
      for await (const piece of body) {
        await Promise.race([writer.write(piece), ended]);
        if (isOver) return;
      }
      await Promise.race([writer.close(), ended]);
    } catch (error) {
      // The reader of the stream meets it, and tells.
      await writer.abort(error).catch(() => undefined);
    }
  };
  const pumped = pump();
  try {
    await use(readable);
  } finally {
    isOver = true;
    end();
    await pumped;
  }
}

async function digestOf(body: ReadableStream<Uint8Array>): Promise<string> {
  const hasher = nodeCrypto.createHash("sha256");
  for await (const piece of body) hasher.update(piece);
  return hex(hasher.digest());
}
