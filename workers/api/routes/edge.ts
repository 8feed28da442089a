// /api/edge: what fetchers report of themselves, and what the board says of all of them. app.ts registers them at the door.

import { createRoute, z } from "@hono/zod-openapi";
import {
  edgeFleet,
  edgeReport,
  edgeReportAnswer,
  fetcherId,
  fleetPageMax,
  fleetStates,
  reportEveryMs,
  type FleetInstance,
} from "../../../shared/contract/http-edge.ts";
import { hex } from "../../../shared/contract/bytes.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { claimDigest, rememberOnly } from "../../../shared/tenancy/idempotency.ts";
import { cursorOf, pageQuery, parseCursor } from "../cursor.ts";
import type { Call, Door } from "../door.ts";
import { readFleet } from "../edge/read-fleet.ts";
import { readFlag } from "../flag-memory.ts";
import { errorFacts, notFound } from "../middleware/problem.ts";

const tags = ["edge"];
const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });

/** Of the list: a state's place in `fleetStates`, and an id. */
const place = z.tuple([z.int(), fetcherId]);
const placeOf = ({ state, instance }: FleetInstance): z.infer<typeof place> => [fleetStates.indexOf(state), instance];

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "post",
      path: "/api/edge/reports",
      tags,
      summary: "Report what a fetcher runs, how old it is, and what it met",
      description:
        "A fetcher's own, with its key. Boot and sequence number order the reports of an instance: one that comes twice or late " +
        "changes nothing. No event for each: an instance that first appears, and a provider that served other bytes, are told.",
      request: { body: { required: true, content: json(edgeReport) } },
      responses: { 200: { description: "It was noted, now or before", content: json(edgeReportAnswer) } },
    }),
    action: "edge.report",
    idempotency: "none",
    problems: ["edge_instance_taken", "edge_fleet_full", "edge_reports_limited", "edge_board_unavailable"],
    handler: async (call) => {
      const { parts, caller, input } = call;
      const [noted, multicdn] = await Promise.all([
        parts.fleet(caller.tenant_id).report(caller.principal_id, input.json),
        multicdnOf(call),
      ]);
      if (noted.outcome === "taken")
        throw new Problem("edge_instance_taken", "Another fetcher reports under this id, or did so later.");
      if (noted.outcome === "full")
        throw new Problem("edge_fleet_full", "The board has no room for this report, and no instance on it is silent.");
      if (noted.outcome === "limited") {
        const retry_after_seconds = Math.ceil(noted.retry_ms / 1_000);
        throw new Problem("edge_reports_limited", "This instance has just reported.", { retry_after_seconds });
      }
      return { status: 200, body: { outcome: noted.outcome, multicdn, next_report_ms: reportEveryMs } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/edge/fleet",
      tags,
      summary: "Is every instance current, and which one is not",
      description:
        "What each instance has reported, beside what is published now. The summary is about all instances, whatever page is read.",
      request: { query: z.object(pageQuery(fleetPageMax, 20)) },
      responses: { 200: { description: "The fleet", content: json(edgeFleet) } },
    }),
    action: "edge.read",
    idempotency: "none",
    problems: ["edge_board_unavailable"],
    handler: async ({ parts, caller, input }) => {
      const after = parseCursor(input.query.cursor, place);
      const { summary, instances } = await readFleet(parts, caller.tenant_id);
      const rest = after === null ? instances : instances.filter((one) => isAfter(placeOf(one), after));
      const page = rest.slice(0, Number(input.query.limit));
      const last = page.at(-1);
      const next_cursor = last === undefined || rest.length <= page.length ? null : cursorOf(placeOf(last));
      return {
        status: 200,
        body: { as_of: new Date(parts.clock()).toISOString(), summary, instances: page, next_cursor },
      };
    },
  });

  door.route({
    route: createRoute({
      method: "delete",
      path: "/api/edge/fleet/{instance}",
      tags,
      summary: "Forget an instance that is gone",
      description: "An event. Its counters stay in the fleet's. Should it report again, it appears again.",
      request: { params: z.strictObject({ instance: fetcherId }) },
      responses: { 204: { description: "It is not on the board any more" } },
    }),
    action: "edge.forget",
    idempotency: "optional",
    decision: "before_the_change",
    problems: ["not_found", "edge_board_unavailable"],
    handler: async ({ parts, caller, claim, now, input }) => {
      const intent = claim === null ? null : hex(await claimDigest(claim));
      const { instance } = input.params;
      if (!(await parts.fleet(caller.tenant_id).forget(caller.principal_id, instance, intent))) throw notFound();
      if (claim !== null) await rememberOnly(parts.database, claim, now, { status: 204, response: null });
      return { status: 204, body: null };
    },
  });
}

/** Null where it cannot be read: a report waits for no flag. */
async function multicdnOf({ parts, caller, now }: Pick<Call, "parts" | "caller" | "now">): Promise<boolean | null> {
  try {
    return await readFlag(parts, parts.edgeFlag, caller.tenant_id, "edge_multicdn", now);
  } catch (error) {
    parts.log("warn", "the flag edge_multicdn was not read", errorFacts(error));
    return null;
  }
}

const isAfter = ([rank, id]: z.infer<typeof place>, [otherRank, otherId]: z.infer<typeof place>): boolean =>
  rank > otherRank || (rank === otherRank && id > otherId);
