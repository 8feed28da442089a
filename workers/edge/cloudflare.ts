// Provider A's entry, on workerd: opens what its wrangler.toml binds (an R2 bucket of its own, the API worker) and hands it to the
// app. The only file of the edge that knows Workers.

import { waitUntil } from "cloudflare:workers";
import { createEdge, type Edge } from "./app.ts";
import type { EdgeStore } from "./cache.ts";
import { platformParts } from "./platform-parts.ts";

interface Env {
  readonly EDGE_A: R2Bucket;
  readonly API: Fetcher;
  readonly EDGE_PROVIDER: string;
  /** Secrets; "" where they are not set. */
  readonly EDGE_LINK_KEY: string;
  readonly EDGE_METRICS_KEY: string;
}

const bucketStore = (bucket: R2Bucket): EdgeStore => ({
  async get(key) {
    const object = await bucket.get(key);
    return object === null ? null : { size: object.size, body: object.body };
  },
});

const perIsolate = new WeakMap<object, Edge>();

function edgeOf(env: Env): Edge {
  const made =
    perIsolate.get(env) ??
    createEdge({
      ...platformParts,
      provider: env.EDGE_PROVIDER,
      store: bucketStore(env.EDGE_A),
      api: { fetch: (request) => env.API.fetch(request), origin: null, secret: env.EDGE_LINK_KEY },
      metricsKey: env.EDGE_METRICS_KEY,
      tlsClientAuth: (request) => (request as Request<unknown, IncomingRequestCfProperties>).cf?.tlsClientAuth,
      keepAlive: (work) => waitUntil(work),
    });
  perIsolate.set(env, made);
  return made;
}

export default { fetch: (request, env) => edgeOf(env).fetch(request) } satisfies ExportedHandler<Env>;
