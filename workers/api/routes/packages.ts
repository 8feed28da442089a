// /api/market: browsing packages and their versions, a publisher's own releases, and the channels.

import { createRoute, z } from "@hono/zod-openapi";
import {
  channelList,
  channelMove,
  channelPointer,
  packageList,
  release,
  releaseId,
  releaseList,
  yankRequest,
} from "../../../shared/contract/http-market.ts";
import { packageName } from "../../../shared/contract/names.ts";
import { readPointers } from "../../../shared/market/channel-store.ts";
import { listPackages, wordsMax } from "../../../shared/market/package-store.ts";
import * as store from "../../../shared/market/release-store.ts";
import { cursorOf, pageQuery, parseCursor } from "../cursor.ts";
import type { Door } from "../door.ts";
import { moveOwnChannel, submitRelease, yankRelease } from "../market/own-release.ts";
import { noRelease } from "../market/refusals.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const byId = z.strictObject({ id: releaseId });

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/packages",
      summary: "Browse and search what is published, by name",
      request: {
        query: z.strictObject({
          q: z
            .string()
            .max(200)
            .optional()
            .describe(`words that are all in the name or the description; the first ${wordsMax} count`),
          ...pageQuery(200, 50),
        }),
      },
      responses: { 200: { description: "A page of packages", content: json(packageList) } },
    }),
    action: "release.read",
    idempotency: "none",
    handler: async (call) => {
      const { q = "", limit, cursor } = call.input.query;
      const after = parseCursor(cursor, z.tuple([packageName]))?.[0] ?? null;
      const words = q.split(/\s+/).filter((word) => word !== "");
      const { database } = call.parts;
      const page = await listPackages(database, call.caller.tenant_id, words, Number(limit), after);
      const last = page.length === Number(limit) ? page.at(-1) : undefined;
      return { status: 200, body: { packages: page, next_cursor: last === undefined ? null : cursorOf([last.name]) } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/versions",
      summary: "Releases of a package, the newest version first",
      description: "Of one's own packages all releases; of others' those that are published, or were.",
      request: { query: z.strictObject({ package: packageName, ...pageQuery(100, 50) }) },
      responses: { 200: { description: "A page of releases", content: json(releaseList) } },
    }),
    action: "release.read",
    idempotency: "none",
    handler: async (call) => {
      const { package: name, limit, cursor } = call.input.query;
      const before = parseCursor(cursor, z.tuple([releaseId]))?.[0] ?? null;
      const { database } = call.parts;
      const page = await store.listReleases(database, call.caller.tenant_id, name, Number(limit), before);
      const last = page.length === Number(limit) ? page.at(-1) : undefined;
      const next = last === undefined ? null : cursorOf([last.id]);
      return { status: 200, body: { releases: page, next_cursor: next } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/releases/{id}",
      summary: "One release, by its id",
      request: { params: byId },
      responses: { 200: { description: "The release", content: json(release) } },
    }),
    action: "release.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => {
      const found = await store.readReleaseById(call.parts.database, call.caller.tenant_id, call.input.params.id);
      if (found === null) throw noRelease();
      return { status: 200, body: found.release };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/releases/{id}/submit",
      summary: "Submit a draft for review",
      request: { params: byId },
      responses: { 200: { description: "The release, in review", content: json(release) } },
    }),
    action: "release.publish",
    idempotency: "required",
    problems: ["not_found", "release_state"],
    handler: async (call) => ({ status: 200, body: await submitRelease(call, call.input.params.id) }),
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/releases/{id}/yank",
      summary: "Yank a published release: no new installs, what is installed runs on",
      request: { params: byId, body: { content: json(yankRequest), required: true } },
      responses: { 200: { description: "The release, yanked", content: json(release) } },
    }),
    action: "release.yank",
    idempotency: "required",
    problems: ["not_found", "release_state"],
    handler: async (call) => ({
      status: 200,
      body: await yankRelease(call, call.input.params.id, call.input.json.reason),
    }),
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/channels",
      summary: "Where the channels of a package point, signed by the marketplace",
      request: { query: z.strictObject({ package: packageName }) },
      responses: {
        200: { description: "The signed pointers; none for a package that is not there", content: json(channelList) },
      },
    }),
    action: "release.read",
    idempotency: "none",
    handler: async (call) => ({
      status: 200,
      body: { channels: await readPointers(call.parts.database, call.caller.tenant_id, call.input.query.package) },
    }),
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/channels",
      summary: "Point a channel of your package to a published release",
      description: "Promotes, or with `down` demotes. Nothing is uploaded again.",
      request: { body: { content: json(channelMove), required: true } },
      responses: { 201: { description: "The pointer, signed", content: json(channelPointer) } },
    }),
    action: "channel.move",
    idempotency: "required",
    problems: ["not_found", "release_state", "channel_backwards", "release_invalid", "package_busy"],
    handler: async (call) => ({ status: 201, body: await moveOwnChannel(call, call.input.json) }),
  });
}
