// /api/metrics: the tenant's counters and histograms, for Prometheus.

import { createRoute, z } from "@hono/zod-openapi";
import { fleetMetricsText } from "../../../shared/edge/fleet-metrics.ts";
import { metricsText } from "../../../shared/tenancy/metrics-store.ts";
import { rotationMetricsText } from "../../../shared/rotation/rotation-metrics.ts";
import type { Door } from "../door.ts";
import { readFleet } from "../edge/read-fleet.ts";
import { rotationCounts } from "../rotations/rotation-facts.ts";

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/metrics",
      summary: "This tenant's counters and histograms, in Prometheus' text format",
      description: "Times of questions (`mc_pql12_query_ms`) are in it ten seconds or so after the answer.",
      responses: {
        200: { description: "Text format, version 0.0.4", content: { "text/plain": { schema: z.string() } } },
      },
    }),
    action: "metrics.read",
    idempotency: "none",
    problems: ["meter_unavailable", "edge_board_unavailable"],
    handler: async ({ parts, caller }) => {
      const timesText = async (): Promise<string> => {
        await parts.tellQueryTimes(caller.tenant_id);
        return await parts.meter(caller.tenant_id).timesText();
      };
      const fleetText = async (): Promise<string> =>
        fleetMetricsText(await readFleet(parts, caller.tenant_id), parts.clock());
      const rotations = async (): Promise<string> => rotationMetricsText(await rotationCounts({ parts, caller }));
      const texts = [metricsText(parts.database, caller.tenant_id), timesText(), fleetText(), rotations()];
      return {
        status: 200,
        body: (await Promise.all(texts)).join(""),
        headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
      };
    },
  });
}
