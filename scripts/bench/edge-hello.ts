// The yardstick of the edge's benchmark: a Hono app that answers the same bytes to everybody with a fetcher's key, known by the
// product's own look-up. Put beside the product by the entries test/workerd/hello-edge.ts and scripts/bench/hello-bunny.ts, so that
// both stand in one process of one runtime.

import { Hono } from "hono";
import type { Clock } from "../../shared/contract/ports.ts";
import { fetcherLimits } from "../../workers/edge/app.ts";
import { EdgeCache, type EdgeStore } from "../../workers/edge/cache.ts";
import { FetcherKeys } from "../../workers/edge/fetcher-keys.ts";
import { bearerOf } from "../../workers/edge/fetchers.ts";

export const helloPath = "/hello";
/** Of the answer. */
const helloBytesMax = 1024 * 1024;

export interface HelloParts {
  readonly store: EdgeStore;
  readonly clock: Clock;
  readonly keepAlive: (work: Promise<unknown>) => void;
}

/** `GET /hello/BYTES`. */
export function createHello({ store, clock, keepAlive }: HelloParts): Hono {
  const cache = new EdgeCache({ store, clock, keepAlive, onRead: () => undefined }, fetcherLimits);
  const keys = new FetcherKeys(cache, () => undefined);
  const bodies = new Map<number, Uint8Array<ArrayBuffer>>();
  const bodyOf = (bytes: number): Uint8Array<ArrayBuffer> => {
    const body = bodies.get(bytes) ?? new Uint8Array(bytes).fill(7);
    bodies.set(bytes, body);
    return body;
  };
  const app = new Hono();
  app.get(`${helloPath}/:bytes`, async (c) => {
    const who = await keys.find(bearerOf(c.req.header("authorization") ?? null) ?? "", clock());
    if (who.state !== "known") return c.text("", 401);
    const bytes = Number(c.req.param("bytes"));
    if (!Number.isInteger(bytes) || bytes < 1 || bytes > helloBytesMax) return c.text("", 400);
    return c.body(bodyOf(bytes), 200, { "content-type": "application/gzip", "cache-control": "no-transform" });
  });
  return app;
}

export const isHello = (url: string): boolean => url.includes(helloPath, 8);
