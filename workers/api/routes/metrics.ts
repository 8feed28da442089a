// /api/metrics: the tenant's counters and histograms, for Prometheus.

import { createRoute, z } from "@hono/zod-openapi";
import { metricsText } from "../../../shared/tenancy/metrics-store.ts";
import type { Door } from "../door.ts";

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/metrics",
      summary: "This tenant's counters and histograms, in Prometheus' text format",
      responses: {
        200: { description: "Text format, version 0.0.4", content: { "text/plain": { schema: z.string() } } },
      },
    }),
    action: "metrics.read",
    idempotency: "none",
    handler: async (call) => ({
      status: 200,
      body: await metricsText(call.parts.database, call.caller.tenant_id),
      headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
    }),
  });
}
