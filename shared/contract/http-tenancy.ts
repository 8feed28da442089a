// Wire shapes of who-am-I and API keys.

import { z } from "@hono/zod-openapi";
import { idPattern } from "./ids.ts";
import { role, tenantId, timestamp } from "./names.ts";

export const principalId = z.string().regex(idPattern("principal"));
export const apiKeyId = z.string().regex(idPattern("apiKey"));

export const whoami = z
  .strictObject({
    tenant_id: tenantId,
    tenant: z.string().describe("the tenant's slug"),
    principal_id: principalId,
    kind: z.enum(["person", "service"]),
    role,
    credential: z.enum(["key", "token", "svid"]),
    spiffe_id: z.string().max(2_048).nullable().describe("whom the SVID names; null for keys and tokens"),
  })
  .openapi("Whoami");
export type Whoami = z.infer<typeof whoami>;

export const principal = z
  .strictObject({
    id: principalId,
    kind: z.enum(["person", "service"]),
    role,
    created_at: timestamp,
    disabled_at: timestamp.nullable(),
    identities: z
      .array(z.strictObject({ issuer: z.string(), subject: z.string() }))
      .describe("who it is outside; empty for services, and for a person who was erased"),
  })
  .openapi("Principal");
export type Principal = z.infer<typeof principal>;
export const principalList = z.strictObject({ principals: z.array(principal) }).openapi("PrincipalList");

export const apiKey = z
  .strictObject({
    id: apiKeyId,
    principal_id: principalId,
    role,
    prefix: z.string().describe("the first characters of the key, to tell keys apart"),
    created_at: timestamp,
    expires_at: timestamp.nullable(),
    last_used_at: timestamp.nullable().describe("to the minute"),
    revoked_at: timestamp.nullable(),
  })
  .openapi("ApiKey");
export type ApiKey = z.infer<typeof apiKey>;

export const newApiKeyRequest = z
  .strictObject({
    role: role.describe("the role of the service principal that the key is for"),
    expires_in_days: z.int().min(1).max(366).nullable().default(90),
  })
  .openapi("NewApiKeyRequest");
export const newApiKey = apiKey
  .extend({
    key: z.string().nullable().describe("shown once, in the first answer; a replay by Idempotency-Key has null"),
  })
  .strict()
  .openapi("NewApiKey");
export const apiKeyList = z.strictObject({ keys: z.array(apiKey) }).openapi("ApiKeyList");
