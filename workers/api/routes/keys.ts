// /api/keys: a tenant's API keys. app.ts registers them at the door.

import { createRoute, z } from "@hono/zod-openapi";
import { newId } from "../../../shared/contract/ids.ts";
import { apiKeyId, apiKeyList, newApiKey, newApiKeyRequest } from "../../../shared/contract/http-tenancy.ts";
import { newEvent, outboxInsert } from "../../../shared/outbox/outbox.ts";
import { mintApiKey } from "../../../shared/tenancy/api-key.ts";
import { insertKey, listKeys, revokeKey } from "../../../shared/tenancy/store.ts";
import type { Call, Door } from "../door.ts";
import { tellEdge } from "../tell-edge.ts";
import { eventContext } from "../event-context.ts";
import { notFound } from "../middleware/problem.ts";

const tags = ["tenancy"];
const dayMs = 86_400_000;

export function register(door: Door): void {
  door.route({
    action: "key.list",
    idempotency: "none",
    route: createRoute({
      method: "get",
      path: "/api/keys",
      tags,
      summary: "List the tenant's API keys",
      description:
        "Newest first, at most 1,000. A key is shown by its first characters; the key itself is kept nowhere.",
      responses: { 200: { description: "The keys.", content: { "application/json": { schema: apiKeyList } } } },
    }),
    handler: async ({ parts, caller }) => ({
      status: 200,
      body: { keys: await listKeys(parts.database, caller.tenant_id) },
    }),
  });

  door.route({
    action: "key.create",
    idempotency: "required",
    route: createRoute({
      method: "post",
      path: "/api/keys",
      tags,
      summary: "Create an API key",
      description:
        "Makes a service principal with the role, and a key for it. Where two have to agree (reviews, approvals of changes), that principal is its creator. The key is in this answer only: a replay by Idempotency-Key has `null` in its place.",
      request: { body: { required: true, content: { "application/json": { schema: newApiKeyRequest } } } },
      responses: { 201: { description: "The new key.", content: { "application/json": { schema: newApiKey } } } },
    }),
    handler: async (call) => {
      const { parts, caller, now, claim } = call;
      const { role, expires_in_days } = call.input.json;
      const { key, prefix, secret_sha256 } = await mintApiKey(parts.random(32));
      const row = {
        id: newId("apiKey", now, parts.random(10)),
        principal_id: newId("principal", now, parts.random(10)),
        role,
        prefix,
        created_at: new Date(now).toISOString(),
        expires_at: expires_in_days === null ? null : new Date(now + expires_in_days * dayMs).toISOString(),
        last_used_at: null,
        revoked_at: null,
      };
      const event = newEvent(eventContext(call), "mc.key.created", { key_id: row.id, expires_at: row.expires_at });
      const remember = claim === null ? null : { claim, response: { ...row, key: null } };
      const outbox = outboxOf(call, event);
      const made = { ...row, secret_sha256, created_by: caller.principal_id };
      await insertKey(parts.database, caller.tenant_id, now, made, outbox, remember);
      parts.nudgeDrain(caller.tenant_id);
      if (role === "fetcher") await tellEdge(call);
      return { status: 201, body: { ...row, key } };
    },
  });

  door.route({
    action: "key.revoke",
    idempotency: "optional",
    problems: ["not_found"],
    route: createRoute({
      method: "delete",
      path: "/api/keys/{id}",
      tags,
      summary: "Revoke an API key",
      description:
        "From the moment of the answer the key is refused; a fetcher's key by the CDN providers some seconds later. Revoking it again changes nothing.",
      request: { params: z.object({ id: apiKeyId }) },
      responses: { 204: { description: "It is revoked." } },
    }),
    handler: async (call) => {
      const { parts, caller, now, claim, input } = call;
      const event = newEvent(eventContext(call), "mc.key.revoked", { key_id: input.params.id });
      const found = await revokeKey(
        parts.database,
        caller.tenant_id,
        now,
        input.params.id,
        outboxOf(call, event),
        claim,
      );
      if (!found) throw notFound();
      parts.nudgeDrain(caller.tenant_id);
      await tellEdge(call);
      return { status: 204, body: null };
    },
  });
}

type AnyCall = Pick<Call, "caller" | "now" | "parts">;

const outboxOf =
  ({ parts }: AnyCall, event: Parameters<typeof outboxInsert>[0][number]) =>
  (where: Parameters<typeof outboxInsert>[2]) =>
    outboxInsert([event], parts.shards, where);
