// /api/market: upgrades, rollbacks, rollouts, and what holds installs where they are.

import { createRoute, z } from "@hono/zod-openapi";
import {
  barRequest,
  freezeRequest,
  packageStatus,
  pinRequest,
  releaseBar,
  rollbackRequest,
  rollbackResult,
  rollout,
  rolloutId,
  rolloutList,
  upgradeRequest,
  upgradeResult,
} from "../../../shared/contract/http-installs.ts";
import { packageName, timestamp } from "../../../shared/contract/names.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import * as store from "../../../shared/market/install-store.ts";
import { cursorOf, pageQuery, parseCursor } from "../cursor.ts";
import type { Door } from "../door.ts";
import { barRelease, freezePackage, pinInstalls } from "../market/package-holds.ts";
import { denied } from "../middleware/deny.ts";
import { rollBackPackage } from "../market/rollback-package.ts";
import { upgradePackage } from "../market/upgrade-package.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const barList = z.strictObject({ bars: z.array(releaseBar) }).openapi("ReleaseBarList");

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/upgrades",
      summary: "Upgrade a package's installs to where a channel points, all of them or a cohort",
      description:
        "All that moves moves in one transaction. With a cohort below 100 percent a rollout starts (or is widened): those " +
        "outside of it get the last good release, and the health gate watches runs of both.",
      request: { body: { content: json(upgradeRequest), required: true } },
      responses: { 201: { description: "The rollout, and what moved", content: json(upgradeResult) } },
    }),
    action: "upgrade.start",
    idempotency: "required",
    problems: ["denied", "not_found", "release_invalid", "nothing_to_upgrade", "package_busy", "bucket_unavailable"],
    handler: async (call) => ({ status: 201, body: await upgradePackage(call, call.input.json) }),
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/rollbacks",
      summary: "Roll a package's installs back, and pin them there",
      description:
        "Unless a version or an install is named, one release is taken back from all installs that are on it: the one that a " +
        "rollout tries, else the last one rolled out. What is taken back is barred until someone lifts the bar, and its " +
        "rollout aborted.",
      request: { body: { content: json(rollbackRequest), required: true } },
      responses: { 201: { description: "What moved, and what could not", content: json(rollbackResult) } },
    }),
    action: "rollback.start",
    idempotency: "required",
    problems: ["denied", "not_found", "nothing_to_roll_back", "package_busy", "bucket_unavailable"],
    handler: async (call) => ({ status: 201, body: await rollBackPackage(call, call.input.json) }),
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/rollouts",
      summary: "Rollouts, the newest first",
      request: { query: z.strictObject({ package: packageName.optional(), ...pageQuery(200, 50) }) },
      responses: { 200: { description: "A page of rollouts", content: json(rolloutList) } },
    }),
    action: "install.read",
    idempotency: "none",
    handler: async (call) => {
      const { package: name, limit, cursor } = call.input.query;
      const place = parseCursor(cursor, z.tuple([timestamp, rolloutId]));
      const before = place === null ? null : { started_at: place[0], id: place[1] };
      const { database } = call.parts;
      const page = await store.listRollouts(database, call.caller.tenant_id, name ?? null, Number(limit), before);
      const last = page.length === Number(limit) ? page.at(-1) : undefined;
      const next = last === undefined ? null : cursorOf([last.started_at, last.id]);
      return { status: 200, body: { rollouts: page, next_cursor: next } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/rollouts/{id}",
      summary: "One rollout, with what its gate last said",
      request: { params: z.strictObject({ id: rolloutId }) },
      responses: { 200: { description: "The rollout", content: json(rollout) } },
    }),
    action: "install.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => {
      const found = await store.readRollout(call.parts.database, call.caller.tenant_id, call.input.params.id);
      if (found === null) throw new Problem("not_found", "There is no such rollout.");
      return { status: 200, body: found };
    },
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/market/freezes",
      summary: "Freeze a package: its installs stay where they are, but for a rollback",
      request: { body: { content: json(freezeRequest), required: true } },
      responses: { 200: { description: "The package, after it", content: json(packageStatus) } },
    }),
    action: "package.freeze",
    idempotency: "optional",
    problems: ["not_found", "package_busy"],
    handler: async (call) => ({ status: 200, body: await freezePackage(call, call.input.json) }),
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/market/pins",
      summary: "Pin installs to their version, or unpin them",
      request: { body: { content: json(pinRequest), required: true } },
      responses: { 200: { description: "The package, after it", content: json(packageStatus) } },
    }),
    action: "install.pin",
    idempotency: "optional",
    problems: ["not_found", "package_busy"],
    handler: async (call) => ({ status: 200, body: await pinInstalls(call, call.input.json) }),
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/bars",
      summary: "Releases of a package that this tenant has barred",
      request: { query: z.strictObject({ package: packageName }) },
      responses: { 200: { description: "Bars that stand, the newest first", content: json(barList) } },
    }),
    action: "install.read",
    idempotency: "none",
    handler: async (call) => ({
      status: 200,
      body: { bars: await store.listBars(call.parts.database, call.caller.tenant_id, call.input.query.package) },
    }),
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/market/bars",
      summary: "Bar a release for this tenant, or lift the bar",
      description: "Anyone of the role bars; a person lifts, and no service does.",
      request: { body: { content: json(barRequest), required: true } },
      responses: { 200: { description: "The package, after it", content: json(packageStatus) } },
    }),
    action: "bar.write",
    idempotency: "optional",
    problems: ["denied", "not_found", "package_busy"],
    handler: async (call) => {
      const { package: name, version, barred } = call.input.json;
      const facts = { package: name, version, lifts: !barred };
      const decision = await call.decide(facts);
      if (!decision.allow) await denied(call, decision, { facts, package: name });
      return { status: 200, body: await barRelease(call, call.input.json) };
    },
  });
}
