// Wire shapes of the root of trust's routes, which carry TUF documents. For /api/policies and the command line.

import { z } from "@hono/zod-openapi";
import { providerState } from "../contract/http-policies.ts";
import { rootDocument, tufKey } from "./tuf.ts";

export const policyRootPut = z
  .strictObject({ version: z.int().min(1), expires: z.string(), providers: z.array(providerState) })
  .openapi("PolicyRootPut");
export type PolicyRootPut = z.infer<typeof policyRootPut>;

export const policyKeys = z
  .strictObject({
    tenant: z.string().describe("the tenant's slug, under which its metadata lies"),
    keys: z.strictObject({ targets: tufKey, snapshot: tufKey, timestamp: tufKey }),
    root: rootDocument.nullable().describe("the root in force; null before the first"),
  })
  .openapi("PolicyKeys");
export type PolicyKeys = z.infer<typeof policyKeys>;
