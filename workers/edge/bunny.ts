// Provider B's entry, on Bunny Edge Scripting (Deno): opens the script's environment and hands a storage zone and the API's origin
// to the app. The only file of the edge that knows Bunny; esbuild makes one file of it.

import process from "node:process";
import { net } from "@bunny.net/edgescript-sdk";
import { createEdge } from "./app.ts";
import { bunnyStore } from "./bunny-store.ts";
import { platformParts } from "./platform-parts.ts";

function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`the environment has no ${name}`);
  return value;
}

const edge = createEdge({
  ...platformParts,
  provider: setting("EDGE_PROVIDER"),
  store: bunnyStore({
    url: setting("BUNNY_STORAGE_URL"),
    zone: setting("BUNNY_STORAGE_ZONE"),
    readOnlyKey: setting("BUNNY_STORAGE_READ_ONLY_KEY"),
  }),
  api: { fetch: (request) => fetch(request), origin: setting("API_ORIGIN"), secret: setting("EDGE_LINK_KEY") },
  metricsKey: setting("EDGE_METRICS_KEY"),
  // The platform ends TLS, and says nothing of a client's certificate.
  tlsClientAuth: () => undefined,
  // A request that its client left goes on here by itself.
  keepAlive: (work) => void work.catch(() => undefined),
});

// Bunny itself listens; where it says nothing of an address (EDGE_LISTEN_PORT), the SDK takes this one.
net.http.serve({ hostname: "127.0.0.1", port: Number(process.env["EDGE_LISTEN_PORT"] ?? "8080") }, (request: Request) =>
  edge.fetch(request),
);
