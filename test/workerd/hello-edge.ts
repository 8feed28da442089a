// Provider A's entry with the yardstick beside the product, for the edge's benchmark: workers/edge/cloudflare.ts, and
// `GET /hello/BYTES`. scripts/bench/edge.ts makes its wrangler.toml out of the edge's.

import { waitUntil } from "cloudflare:workers";
import type { Hono } from "hono";
import { createHello, isHello } from "../../scripts/bench/edge-hello.ts";
import edge from "../../workers/edge/cloudflare.ts";

type Env = Parameters<typeof edge.fetch>[1];

let hello: Hono | null = null;
const helloOf = ({ EDGE_A }: Env): Hono =>
  (hello ??= createHello({
    store: {
      async get(key) {
        const object = await EDGE_A.get(key);
        return object === null ? null : { size: object.size, body: object.body };
      },
    },
    clock: () => Date.now(),
    keepAlive: (work) => waitUntil(work),
  }));

export default {
  fetch: (request, env) => (isHello(request.url) ? helloOf(env).fetch(request) : edge.fetch(request, env)),
} satisfies ExportedHandler<Env>;
