// /api/market/installs: what a tenant has installed, and how it got there.

import { createRoute, z } from "@hono/zod-openapi";
import {
  install,
  installHistory,
  installList,
  installName,
  installRequest,
  packageStatus,
} from "../../../shared/contract/http-installs.ts";
import { packageName } from "../../../shared/contract/names.ts";
import * as store from "../../../shared/market/install-store.ts";
import { cursorOf, pageQuery, parseCursor } from "../cursor.ts";
import type { Door } from "../door.ts";
import { installRelease } from "../market/install-release.ts";
import { packageStatus as statusOf } from "../market/package-holds.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/installs",
      summary: "What this tenant has installed",
      responses: { 200: { description: "Installs by package and name", content: json(installList) } },
    }),
    action: "install.read",
    idempotency: "none",
    handler: async (call) => ({
      status: 200,
      body: { installs: await store.listInstalls(call.parts.database, call.caller.tenant_id) },
    }),
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/installs",
      summary: "Install the release that a channel points to, under a name",
      description:
        "An install that is there already moves to where the channel points. While a staged rollout of the channel runs, an " +
        "install outside its cohort gets the last good release instead.",
      request: { body: { content: json(installRequest), required: true } },
      responses: { 201: { description: "The install", content: json(install) } },
    }),
    action: "install.write",
    idempotency: "required",
    problems: [
      "denied",
      "not_found",
      "release_invalid",
      "no_good_release",
      "too_many_installs",
      "package_busy",
      "bucket_unavailable",
    ],
    handler: async (call) => ({ status: 201, body: await installRelease(call, call.input.json) }),
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/installs/history",
      summary: "Every move of a package's installs, the newest first",
      request: {
        query: z.strictObject({ package: packageName, name: installName.optional(), ...pageQuery(200, 50) }),
      },
      responses: { 200: { description: "A page of moves", content: json(installHistory) } },
    }),
    action: "install.read",
    idempotency: "none",
    handler: async (call) => {
      const { package: name, name: installed, limit, cursor } = call.input.query;
      const before = parseCursor(cursor, z.tuple([z.int().min(1)]))?.[0] ?? null;
      const { database } = call.parts;
      const tenantId = call.caller.tenant_id;
      const page = await store.listInstallHistory(database, tenantId, name, installed ?? null, Number(limit), before);
      const last = page.length === Number(limit) ? page.at(-1) : undefined;
      return {
        status: 200,
        body: {
          entries: page.map(({ entry }) => entry),
          next_cursor: last === undefined ? null : cursorOf([last.id]),
        },
      };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/status",
      summary: "One package of this tenant: installs, channels, rollout and gate, pins, bars, freeze",
      request: { query: z.strictObject({ package: packageName }) },
      responses: { 200: { description: "As of one moment", content: json(packageStatus) } },
    }),
    action: "install.read",
    idempotency: "none",
    handler: async (call) => ({ status: 200, body: await statusOf(call, call.input.query.package) }),
  });
}
