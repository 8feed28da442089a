// Wire shapes of workload identities: trust domains, their bundles, and which SPIFFE ID is which principal.

import { z } from "@hono/zod-openapi";
import { principalId } from "./http-tenancy.ts";
import { role, sha256Digest, timestamp } from "./names.ts";

export const trustDomainName = z
  .string()
  .regex(/^[a-z0-9._-]{1,255}$/, "a trust domain is 1 to 255 of a-z, 0-9, dots, hyphens and underscores")
  .openapi({ example: "acme.example" });
export const spiffeIdText = z
  .string()
  .max(2_048)
  .regex(
    /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/[A-Za-z0-9._-]+)+$/,
    "a workload's SPIFFE ID is spiffe://, a trust domain and a path",
  )
  .openapi({ example: "spiffe://acme.example/fetcher/berlin-1" });

export const bundleEndpoint = z
  .strictObject({
    url: z.string().max(2_000),
    profile: z.enum(["https_web", "https_spiffe"]),
    server_id: z.string().max(2_048).nullable().describe("for https_spiffe, and only there: whom the endpoint must be"),
  })
  .openapi("BundleEndpoint");
export type BundleEndpointStated = z.infer<typeof bundleEndpoint>;

export const trustDomainPut = z
  .strictObject({
    shared: z
      .boolean()
      .default(false)
      .describe("other tenants may register SPIFFE IDs below /tenant/<their slug>/; for tenants that curate"),
    endpoint: bundleEndpoint.nullable().default(null).describe("where the bundle comes from; null: it is handed in"),
  })
  .openapi("TrustDomainPut");
export type TrustDomainPut = z.infer<typeof trustDomainPut>;

const heldBundle = z.strictObject({
  sha256: sha256Digest.describe("of the document"),
  sequence_max: z.int().min(0).nullable().describe("the highest that a good document had: none below it is taken"),
  refresh_hint_seconds: z.int().min(0).nullable(),
  changed_at: timestamp.nullable().describe("when it came in force in place of another: the domain's last rotation"),
  first_authority_ends_at: timestamp.nullable().describe("of the X.509 authority that ends first; null: there is none"),
  alarm: z.boolean().describe("a third of that authority's life is left, or less"),
});

export const trustDomain = z
  .strictObject({
    name: trustDomainName,
    own: z.boolean().describe("this tenant states it; otherwise it is one that tenants share"),
    shared: z.boolean(),
    endpoint: bundleEndpoint.nullable(),
    bundle: heldBundle.nullable().describe("null: nothing of this domain is believed yet"),
    confirmed_at: timestamp.nullable().describe("when a good document came last"),
    overdue: z
      .boolean()
      .describe(
        "an alarm: the bundle comes from an endpoint, and no good document came for three times as long as it is to be asked after, ten " +
          "minutes at least; what was revoked there since is still believed",
      ),
    refused: z
      .strictObject({ reason: z.string(), at: timestamp })
      .nullable()
      .describe("why the last attempt brought nothing; null after one that did"),
    distrusts: z
      .int()
      .min(0)
      .describe(
        "authorities of it that are never believed again, whatever its bundle says: emergencies of the kind `fetcher`",
      ),
    workloads: z.int().min(0).describe("SPIFFE IDs of it that this tenant has registered"),
    created_at: timestamp,
  })
  .openapi("TrustDomain");
export type TrustDomainView = z.infer<typeof trustDomain>;
export const trustDomainList = z.strictObject({ trust_domains: z.array(trustDomain) }).openapi("TrustDomainList");

export const bundlePut = z
  .strictObject({
    document: z
      .string()
      .min(1)
      .max(524_288)
      .describe(
        "a SPIFFE bundle document, kept to the byte where none of its authorities was distrusted, else without them",
      ),
  })
  .openapi("BundlePut");

export const bundleAuthority = z.strictObject({
  certificate_sha256: sha256Digest,
  not_before: timestamp,
  not_after: timestamp,
});
const bundleFacts = {
  name: trustDomainName,
  sha256: sha256Digest,
  sequence: z.int().min(0).nullable(),
  refresh_hint_seconds: z.int().min(0).nullable(),
  authorities: z.array(bundleAuthority).describe("for X.509-SVIDs; none: all are revoked"),
  jwt_key_ids: z.array(z.string()).describe("for JWT-SVIDs"),
};
export const bundleTaken = z.strictObject(bundleFacts).openapi("BundleTaken");
export type BundleTaken = z.infer<typeof bundleTaken>;
export const bundleView = z.strictObject({ ...bundleFacts, document: z.string() }).openapi("BundleView");

export const newWorkload = z
  .strictObject({ spiffe_id: spiffeIdText, role: role.describe("what its service principal may do") })
  .openapi("NewWorkload");
export const workload = z
  .strictObject({
    id: principalId.describe("its service principal"),
    spiffe_id: spiffeIdText,
    trust_domain: trustDomainName,
    role,
    created_at: timestamp,
    created_by: principalId,
  })
  .openapi("Workload");
export type Workload = z.infer<typeof workload>;
export const workloadList = z.strictObject({ workloads: z.array(workload) }).openapi("WorkloadList");
