// /api/identity/trust-domains/{name}/bundle: what SVIDs of a trust domain are verified with; and the bundle endpoint of domains that
// tenants share. app.ts registers them at the door.

import { createRoute, z } from "@hono/zod-openapi";
import { sha256Hex, utf8 } from "../../../shared/contract/bytes.ts";
import { bundlePut, bundleTaken, bundleView, trustDomainName } from "../../../shared/contract/http-identity.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { factsOfBundle } from "../../../shared/identity/receive-document.ts";
import { parseTrustDomain } from "../../../shared/identity/spiffe-id.ts";
import { readBundle, sharedBundle } from "../../../shared/identity/store.ts";
import { parseTrustBundle } from "../../../shared/identity/trust-bundle.ts";
import type { Call, Door } from "../door.ts";
import { takeBundle } from "../identity/take-bundle.ts";
import { notFound } from "../middleware/problem.ts";

const tags = ["identity"];
const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const ofDomain = { params: z.object({ name: trustDomainName }) };
/** Whoever polls the endpoint asks by the bundle's own hint; nothing between may keep it for longer than a moment. */
const bundleCacheControl = "public, max-age=5";

export function register(door: Door): void {
  door.route({
    action: "identity.read",
    idempotency: "none",
    problems: ["not_found"],
    route: createRoute({
      method: "get",
      path: "/api/identity/trust-domains/{name}/bundle",
      tags,
      summary: "The bundle that is in force",
      request: ofDomain,
      responses: { 200: { description: "The document, to the byte, and what it holds.", content: json(bundleView) } },
    }),
    handler: async ({ parts, caller, input }) => {
      const { name } = input.params;
      const document = await readBundle(parts.database, caller.tenant_id, name);
      const checked = parseTrustDomain(name);
      if (document === null || !checked.ok) throw notFound();
      const parsed = await parseTrustBundle(checked.value, document);
      if (!parsed.ok) throw new Error(`the stored bundle of ${name} is none: ${parsed.refusal.reason}`);
      return { status: 200, body: { ...(await factsOfBundle(parsed.value)), document } };
    },
  });

  door.route({
    action: "identity.write",
    idempotency: "optional",
    problems: ["not_found", "bundle_refused", "bundle_overtaken"],
    route: createRoute({
      method: "put",
      path: "/api/identity/trust-domains/{name}/bundle",
      tags,
      summary: "Hand in the trust domain's bundle",
      description:
        "In force from the answer on, here: an SVID of an authority that is not in it is refused by the very next request. A bundle without keys revokes all. Its sequence does not go back; a document that is refused changes nothing but what the trust domain says of it.",
      request: { ...ofDomain, body: { required: true, content: json(bundlePut) } },
      responses: { 200: { description: "It is in force.", content: json(bundleTaken) } },
    }),
    handler: async (call) => {
      const { parts, caller, now, claim, input } = call;
      const taken = await takeBundle(parts, {
        tenant_id: caller.tenant_id,
        principal: caller.principal_id,
        name: input.params.name,
        document: input.json.document,
        outcome: "handed_in",
        endpoint: null,
        now,
        claim,
        decision: call.decided.event,
      });
      if (taken.state === "missing") throw notFound();
      if (taken.state === "refused") {
        const { reason, section } = taken.refusal;
        throw new Problem("bundle_refused", `The bundle is refused: ${reason} (${section}).`, { section });
      }
      if (taken.state === "overtaken")
        throw new Problem("bundle_overtaken", "Others handed in bundles of this trust domain at the same time.");
      return { status: 200, body: taken.bundle };
    },
  });

  door.open({
    problems: ["not_found"],
    route: createRoute({
      method: "get",
      path: "/.well-known/spiffe/{name}/bundle.json",
      tags,
      summary:
        "The bundle endpoint of a trust domain that tenants share, and of the platform's own (SPIFFE Federation, https_web)",
      description: "The document in force, to the byte, for anyone.",
      request: ofDomain,
      responses: {
        200: {
          description: "The SPIFFE bundle document.",
          content: json(z.unknown().openapi({ type: "object" })),
        },
        304: { description: "It is the one whose ETag was sent." },
      },
    }),
    handler: async ({ parts, input, request }) => {
      const { name } = input.params;
      const found =
        name === parts.platform.trustDomain
          ? await platformBundle(parts.platform)
          : await sharedBundle(parts.authDatabase, name);
      if (found === null) throw notFound();
      const headers = { etag: `"${found.sha256}"`, "cache-control": bundleCacheControl };
      const asked = (request.headers.get("if-none-match") ?? "")
        .split(",")
        .map((tag) => tag.trim().replace(/^W\//, ""));
      if (asked.includes(headers.etag)) return { status: 304, body: null, headers };
      return { status: 200, body: found.document, headers: { ...headers, "content-type": "application/json" } };
    },
  });
}

async function platformBundle(platform: Call["parts"]["platform"]) {
  const document = await platform.bundle().catch(() => {
    throw new Problem("worker_unavailable", "The authority of the platform's workers gives no bundle now.");
  });
  return { document, sha256: await sha256Hex(utf8(document)) };
}
