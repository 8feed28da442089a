// The API as one Hono app, made once an isolate by index.ts and once a test: request ids, logs, headers, the routes of
// every capability behind the door, and an answer for what is not there.

import { OpenAPIHono } from "@hono/zod-openapi";
import { Problem } from "../../shared/contract/problems.ts";
import { RouteTable, type Door, type Entry } from "./door.ts";
import { RequestBody } from "./middleware/body.ts";
import type { AppContext, AppEnv } from "./middleware/context.ts";
import { forwardedBy } from "./middleware/edge-link.ts";
import { secureHeaders } from "./middleware/headers.ts";
import { notFound, problemResponse, toProblem } from "./middleware/problem.ts";
import { logVisit, openVisit } from "./middleware/visit.ts";
import { register as audit } from "./routes/audit.ts";
import { register as changes } from "./routes/changes.ts";
import { register as decisions } from "./routes/decisions.ts";
import { register as disclosure } from "./routes/disclosure.ts";
import { register as docs } from "./routes/docs.ts";
import { register as edge } from "./routes/edge.ts";
import { register as entitlements } from "./routes/entitlements.ts";
import { register as executions } from "./routes/executions.ts";
import { register as explain } from "./routes/explain.ts";
import { register as flags } from "./routes/flags.ts";
import { register as health } from "./routes/health.ts";
import { register as identity } from "./routes/identity.ts";
import { register as identityBundles } from "./routes/identity-bundles.ts";
import { register as identityWorkloads } from "./routes/identity-workloads.ts";
import { register as installs } from "./routes/installs.ts";
import { register as principals } from "./routes/principals.ts";
import { register as keys } from "./routes/keys.ts";
import { register as market } from "./routes/market.ts";
import { register as metrics } from "./routes/metrics.ts";
import { register as packages } from "./routes/packages.ts";
import { register as policies } from "./routes/policies.ts";
import { register as pql } from "./routes/pql.ts";
import { register as privacy } from "./routes/privacy.ts";
import { register as reviews } from "./routes/reviews.ts";
import { register as rollouts } from "./routes/rollouts.ts";
import { register as rotations } from "./routes/rotations.ts";
import { register as whoami } from "./routes/whoami.ts";

export interface App {
  readonly fetch: OpenAPIHono<AppEnv>["fetch"];
  readonly hono: OpenAPIHono<AppEnv>;
  /** Every declared route, in order. */
  readonly entries: readonly Entry[];
}

const modules: readonly ((door: Door, entries: readonly Entry[]) => void)[] = [
  whoami,
  keys,
  principals,
  identity,
  identityBundles,
  identityWorkloads,
  market,
  packages,
  reviews,
  changes,
  entitlements,
  explain,
  flags,
  metrics,
  installs,
  rollouts,
  executions,
  decisions,
  disclosure,
  policies,
  edge,
  privacy,
  pql,
  audit,
  rotations,
  health,
  docs,
];

/** `more`: routes beside the product's, for benchmarks. */
export function createApp(more: readonly ((door: Door) => void)[] = []): App {
  const table = new RouteTable();
  for (const register of [...modules, ...more]) register(table, table.entries);

  const app = new OpenAPIHono<AppEnv>();
  app.use(async (c, next) => {
    const visit = openVisit(c.env.parts, forwardedBy(c.req.raw.headers, c.env.parts.edgeLinkKey));
    const body = new RequestBody(c.req.raw);
    c.set("visit", visit);
    c.set("body", body);
    await next();
    await body.discard();
    secureHeaders(c.res.headers, visit.request_id);
    logVisit(c.env.parts, visit, c.req.method, c.res.status);
  });
  for (const entry of table.entries) {
    app.on(entry.route.method.toUpperCase(), routingPath(entry.route.path), async (c: AppContext) => {
      c.var.visit.route = entry.route.path;
      c.var.body.routeBytesMax = entry.bodyBytesMax;
      try {
        return await entry.answer(c);
      } catch (error) {
        // Not left to Hono's onError: that one takes instances of Error only.
        return refused(c, error);
      }
    });
  }
  for (const [path, methods] of methodsByPath(table.entries)) {
    app.all(routingPath(path), (c: AppContext) => {
      c.var.visit.route = path;
      const allow = methods.join(", ");
      if (c.req.method === "OPTIONS") return new Response(null, { status: 204, headers: { allow } });
      throw new Problem("method_not_allowed", `This path takes ${allow}.`, { allow });
    });
  }
  app.notFound((c) => problemResponse(notFound(), c.var.visit));
  app.onError((error, c) => refused(c, error));
  return { fetch: app.fetch, hono: app, entries: table.entries };
}

const refused = (c: AppContext, error: unknown): Response =>
  problemResponse(toProblem(error, c.env.parts.log, c.var.visit.request_id), c.var.visit);

/**
 * An OpenAPI path as Hono's: `{id}` is one segment, `{+path}` the rest, and a colon in a segment is itself or `%3A`
 * (Hono would read `:link` as a parameter).
 */
export function routingPath(path: string): string {
  return path
    .split("/")
    .map((segment, index) => {
      const rest = /^\{\+(\w+)\}$/.exec(segment);
      if (rest !== null) return `:${rest[1]}{.+}`;
      const one = /^\{(\w+)\}$/.exec(segment);
      if (one !== null) return `:${one[1]}`;
      if (!segment.includes(":")) return segment;
      return `:literal${index}{${segment.replaceAll(".", "\\.").replaceAll(":", "(?::|%3[Aa])")}}`;
    })
    .join("/");
}

function methodsByPath(entries: readonly Entry[]): Map<string, string[]> {
  const byPath = new Map<string, string[]>();
  for (const { route } of entries) {
    const methods = byPath.get(route.path) ?? ["OPTIONS"];
    methods.unshift(...(route.method === "get" ? ["GET", "HEAD"] : [route.method.toUpperCase()]));
    byPath.set(route.path, methods);
  }
  return byPath;
}
