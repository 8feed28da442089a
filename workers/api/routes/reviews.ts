// /api/market/reviews: the queue of the reviewers of tenants that curate the marketplace.

import { createRoute, z } from "@hono/zod-openapi";
import {
  rejectRequest,
  release,
  releaseId,
  releaseList,
  review,
  reviewRequest,
} from "../../../shared/contract/http-market.ts";
import { timestamp } from "../../../shared/contract/names.ts";
import { releaseDifference } from "../../../shared/market/release-difference.ts";
import { listQueue, readCompared, readReviewed } from "../../../shared/market/review-store.ts";
import { cursorOf, pageQuery, parseCursor } from "../cursor.ts";
import type { Door } from "../door.ts";
import { noRelease } from "../market/refusals.ts";
import { approveRelease, rejectRelease } from "../market/review-release.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const byId = z.strictObject({ id: releaseId });

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/reviews",
      summary: "What waits for a review, oldest first",
      description: "Empty for a tenant that does not curate the marketplace.",
      request: { query: z.strictObject(pageQuery(100, 50)) },
      responses: { 200: { description: "A page of the queue", content: json(releaseList) } },
    }),
    action: "release.review",
    idempotency: "none",
    handler: async (call) => {
      const { limit, cursor } = call.input.query;
      const place = parseCursor(cursor, z.tuple([timestamp, releaseId]));
      const after = place === null ? null : { submitted_at: place[0], id: place[1] };
      const page = await listQueue(call.parts.database, call.caller.tenant_id, Number(limit), after);
      const last = page.length === Number(limit) ? page.at(-1) : undefined;
      const next = last === undefined ? null : cursorOf([last.submitted_at, last.id]);
      return { status: 200, body: { releases: page, next_cursor: next } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/reviews/{id}",
      summary: "A release under review, and what differs from the release before it",
      request: { params: byId },
      responses: { 200: { description: "The release and the difference", content: json(review) } },
    }),
    action: "release.review",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => {
      const { database } = call.parts;
      const known = await readReviewed(database, call.caller.tenant_id, call.input.params.id);
      if (known === null) throw noRelease();
      const { contents, before } = await readCompared(database, call.caller.tenant_id, known.release);
      const difference = releaseDifference({ release: known.release, contents }, before);
      return { status: 200, body: { release: known.release, difference } };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/reviews/{id}/approve",
      summary: "Approve a release: it is countersigned and published",
      description: "Never by who uploaded it.",
      request: { params: byId, body: { content: json(reviewRequest), required: true } },
      responses: { 200: { description: "The release, published", content: json(release) } },
    }),
    action: "release.review",
    idempotency: "required",
    problems: ["denied", "not_found", "release_state", "release_invalid", "package_busy"],
    handler: async (call) => ({
      status: 200,
      body: await approveRelease(call, call.input.params.id, call.input.json.reason),
    }),
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/reviews/{id}/reject",
      summary: "Reject a release, with a reason; its version is free again",
      request: { params: byId, body: { content: json(rejectRequest), required: true } },
      responses: { 200: { description: "The release, rejected", content: json(release) } },
    }),
    action: "release.review",
    idempotency: "required",
    problems: ["denied", "not_found", "release_state"],
    handler: async (call) => ({
      status: 200,
      body: await rejectRelease(call, call.input.params.id, call.input.json.reason),
    }),
  });
}
