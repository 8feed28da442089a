// /api/audit: the tenant's log as verifiers need it, and the keys that sign it.

import { createRoute, z } from "@hono/zod-openapi";
import { anchoringList, manifestList, publishedKeys, segmentRange } from "../../../shared/contract/http-audit.ts";
import { catalogueSchema } from "../../../shared/contract/event-schema.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import type { LogObjectKind } from "../../../shared/audit/service.ts";
import type { Call, Door } from "../door.ts";

const binary = z.string().openapi({ format: "binary" });
const byRange = z.strictObject({ range: segmentRange });
const pageMax = 1_000;

/** Made on the first request of an isolate. */
let schemaText: string | undefined;
const eventSchema = (): string => (schemaText ??= JSON.stringify(catalogueSchema()));

export function register(door: Door): void {
  door.open({
    route: createRoute({
      method: "get",
      path: "/api/audit/keys",
      summary: "The public keys that verify what this service signs",
      responses: {
        200: { description: "Every key, with its use", content: { "application/json": { schema: publishedKeys } } },
      },
    }),
    handler: async ({ parts }) => {
      const [log, release] = await Promise.all([parts.audit.keys(), parts.signer.publishedKeys()]);
      const endorsements = [...(log.endorsements ?? []), ...release.endorsements];
      const keys = [...log.keys, ...release.keys];
      return { status: 200, body: { ...log, keys, ...(endorsements.length === 0 ? {} : { endorsements }) } };
    },
  });

  door.open({
    route: createRoute({
      method: "get",
      path: "/api/audit/events.schema.json",
      summary: "What a logged event may be, as JSON Schema",
      description: "Bodies of leaves are such events. The schema only ever grows: what was valid once stays valid.",
      responses: {
        200: {
          description: "JSON Schema 2020-12",
          content: { "application/schema+json": { schema: z.record(z.string(), z.unknown()) } },
        },
      },
    }),
    handler: async () => ({
      status: 200,
      body: eventSchema(),
      headers: { "content-type": "application/schema+json", "cache-control": "public, max-age=300" },
    }),
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/audit/checkpoint",
      summary: "The newest signed checkpoint of the tenant's log",
      responses: { 200: { description: "A C2SP signed note", content: { "text/plain": { schema: z.string() } } } },
    }),
    action: "audit.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => {
      const note = await call.parts.audit.checkpoint(call.caller.tenant_id);
      if (note === null) throw new Problem("not_found", "The log has no sealed entry yet.");
      return { status: 200, body: note, headers: { "content-type": "text/plain; charset=utf-8" } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/audit/anchor",
      summary: "Where heads of the tenant's log stand in the anchor log, cosigned by witnesses",
      responses: {
        200: {
          description: "The newest head that witnesses cosigned",
          content: { "application/json": { schema: anchoringList } },
        },
      },
    }),
    action: "audit.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => {
      const anchorings = await call.parts.audit.anchorings(call.caller.tenant_id);
      if (anchorings.length === 0) throw new Problem("not_found", "No witness has cosigned a head of this log yet.");
      return { status: 200, body: { anchorings } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/audit/manifests",
      summary: "Sealed ranges of the tenant's log, in order",
      request: { query: z.strictObject({ after: segmentRange.optional() }) },
      responses: {
        200: { description: `Up to ${pageMax} ranges`, content: { "application/json": { schema: manifestList } } },
      },
    }),
    action: "audit.read",
    idempotency: "none",
    handler: async (call) => {
      const ranges = await call.parts.audit.manifests(call.caller.tenant_id, call.input.query.after ?? null, pageMax);
      return { status: 200, body: { ranges, next_after: ranges.length === pageMax ? (ranges.at(-1) ?? null) : null } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/audit/manifests/{range}",
      summary: "The signed manifest of a range",
      request: { params: byRange },
      responses: {
        200: {
          description: "A Sigstore bundle, as it was published",
          content: { "application/vnd.dev.sigstore.bundle.v0.3+json": { schema: binary } },
        },
      },
    }),
    action: "audit.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: (call) =>
      logObject(call, "manifest", call.input.params.range, "application/vnd.dev.sigstore.bundle.v0.3+json"),
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/audit/segments/{range}",
      summary: "The Parquet segment of a range",
      request: { params: byRange },
      responses: {
        200: { description: "Row i is leaf from+i", content: { "application/vnd.apache.parquet": { schema: binary } } },
      },
    }),
    action: "audit.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: (call) => logObject(call, "segment", call.input.params.range, "application/vnd.apache.parquet"),
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/audit/tiles/{+path}",
      summary: "A tile of hashes (C2SP tlog-tiles)",
      request: {
        params: z.strictObject({
          path: z
            .string()
            .max(100)
            .regex(/^\d{1,2}\/(?:x\d{3}\/)*\d{3}(?:\.p\/\d{1,3})?$/)
            .openapi({ example: "0/x001/067" }),
        }),
      },
      responses: {
        200: { description: "32 bytes a hash", content: { "application/octet-stream": { schema: binary } } },
      },
    }),
    action: "audit.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: (call) => logObject(call, "tile", call.input.params.path, "application/octet-stream"),
  });
}

async function logObject(
  { parts, caller }: Pick<Call, "parts" | "caller">,
  kind: LogObjectKind,
  name: string,
  contentType: string,
) {
  const bytes = await parts.audit.object(caller.tenant_id, kind, name);
  if (bytes === null) throw new Problem("not_found", "The log has published no such object.");
  return { status: 200 as const, body: bytes, headers: { "content-type": contentType } };
}
