// Provider B's entry with the yardstick beside the product, for the edge's benchmark: workers/edge/bunny.ts, and `GET /hello/BYTES`.

import process from "node:process";
import { net } from "@bunny.net/edgescript-sdk";
import { createEdge } from "../../workers/edge/app.ts";
import { bunnyStore } from "../../workers/edge/bunny-store.ts";
import { platformParts } from "../../workers/edge/platform-parts.ts";
import { createHello, isHello } from "./edge-hello.ts";

const setting = (name: string): string => process.env[name] ?? "";
const parts = {
  ...platformParts,
  store: bunnyStore({
    url: setting("BUNNY_STORAGE_URL"),
    zone: setting("BUNNY_STORAGE_ZONE"),
    readOnlyKey: setting("BUNNY_STORAGE_READ_ONLY_KEY"),
  }),
  keepAlive: (work: Promise<unknown>) => void work.catch(() => undefined),
};
const edge = createEdge({
  ...parts,
  provider: setting("EDGE_PROVIDER"),
  api: {
    fetch: (request) => fetch(request),
    origin: setting("API_ORIGIN"),
    secret: setting("EDGE_LINK_KEY"),
  },
  metricsKey: setting("EDGE_METRICS_KEY"),
  tlsClientAuth: () => undefined,
});
const hello = createHello(parts);

net.http.serve({ hostname: "127.0.0.1", port: Number(setting("EDGE_LISTEN_PORT")) }, (request: Request) =>
  isHello(request.url) ? hello.fetch(request) : edge.fetch(request),
);
