// Wire shapes of the root of trust's routes, which carry TUF documents. For /api/policies and the command line.

import { z } from "@hono/zod-openapi";
import { providerState } from "../contract/http-policies.ts";
import { sha256Digest, timestamp } from "../contract/names.ts";
import { isTenantSlug } from "./serving-path.ts";
import { rootDocument, tufKey } from "./tuf.ts";

export const policyRootPut = z
  .strictObject({ version: z.int().min(1), expires: z.string(), providers: z.array(providerState) })
  .openapi("PolicyRootPut");
export type PolicyRootPut = z.infer<typeof policyRootPut>;

export const publishersMax = 100;
const policyPublisher = z
  .strictObject({ key_id: sha256Digest, spki: z.base64().max(200), created_at: timestamp })
  .openapi("PolicyPublisher");

export const policyKeys = z
  .strictObject({
    // Root keys lie in a folder of that name: what an API calls it is held to the form of one.
    tenant: z
      .string()
      .refine(isTenantSlug, "a tenant's slug is lower-case letters, digits and dashes")
      .describe("the tenant's slug, under which its metadata lies"),
    keys: z.strictObject({ targets: tufKey, snapshot: tufKey, timestamp: tufKey }),
    root: rootDocument.nullable().describe("the root in force; null before the first"),
    publishers: z
      .array(policyPublisher)
      .max(publishersMax)
      .describe("keys that may sign policies here, the newest first; a fetcher believes those that it is given"),
  })
  .openapi("PolicyKeys");
export type PolicyKeys = z.infer<typeof policyKeys>;
