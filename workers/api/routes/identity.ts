// /api/identity: the tenant's trust domains, their bundles, and its workloads' SPIFFE IDs; and the bundle endpoint of domains that
// tenants share. app.ts registers them at the door.

import { createRoute, z } from "@hono/zod-openapi";
import { sha256Hex, utf8 } from "../../../shared/contract/bytes.ts";
import type { AuditEvent } from "../../../shared/contract/events.ts";
import {
  bundlePut,
  bundleTaken,
  bundleView,
  newWorkload,
  trustDomain,
  trustDomainList,
  trustDomainName,
  trustDomainPut,
  workload,
  workloadList,
} from "../../../shared/contract/http-identity.ts";
import { principalId } from "../../../shared/contract/http-tenancy.ts";
import { newId } from "../../../shared/contract/ids.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { parseBundleEndpoint } from "../../../shared/identity/bundle-endpoint.ts";
import { factsOfBundle } from "../../../shared/identity/receive-document.ts";
import { parseTrustDomain } from "../../../shared/identity/spiffe-id.ts";
import {
  listDomains,
  readBundle,
  readDomain,
  removeDomain,
  sharedBundle,
  stateDomain,
  trustDomainsMax,
  type Change,
} from "../../../shared/identity/store.ts";
import { parseTrustBundle } from "../../../shared/identity/trust-bundle.ts";
import { registrableId, whyNotRegistered } from "../../../shared/identity/workload-rules.ts";
import {
  listWorkloads,
  readWorkload,
  registerWorkload,
  workloadsMax,
  removeWorkload,
} from "../../../shared/identity/workload-store.ts";
import { newEvent, outboxInsert } from "../../../shared/outbox/outbox.ts";
import { isForeignKeyViolation, isUniqueViolation } from "../../../shared/tenancy/database.ts";
import type { Call, Door } from "../door.ts";
import { tellEdge } from "../tell-edge.ts";
import { eventContext } from "../event-context.ts";
import { takeBundle } from "../identity/take-bundle.ts";
import { notFound } from "../middleware/problem.ts";

const tags = ["identity"];
const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const ofDomain = { params: z.object({ name: trustDomainName }) };
/** Whoever polls the endpoint asks by the bundle's own hint; nothing between may keep it for longer than a moment. */
const bundleCacheControl = "public, max-age=5";

export function register(door: Door): void {
  domainRoutes(door);
  bundleRoutes(door);
  workloadRoutes(door);
}

function domainRoutes(door: Door): void {
  door.route({
    action: "identity.read",
    idempotency: "none",
    route: createRoute({
      method: "get",
      path: "/api/identity/trust-domains",
      tags,
      summary: "List the trust domains that the tenant's workloads may come from",
      description: "Its own and those that tenants share, by name, at most 1,000.",
      responses: { 200: { description: "The trust domains.", content: json(trustDomainList) } },
    }),
    handler: async ({ parts, caller, now }) => ({
      status: 200,
      body: { trust_domains: await listDomains(parts.database, caller.tenant_id, now) },
    }),
  });

  door.route({
    action: "identity.read",
    idempotency: "none",
    problems: ["not_found"],
    route: createRoute({
      method: "get",
      path: "/api/identity/trust-domains/{name}",
      tags,
      summary: "A trust domain: its endpoint, its bundle, and when that was confirmed",
      request: ofDomain,
      responses: { 200: { description: "The trust domain.", content: json(trustDomain) } },
    }),
    handler: async ({ parts, caller, now, input }) => {
      const found = await readDomain(parts.database, caller.tenant_id, input.params.name, now);
      if (found === null) throw notFound();
      return { status: 200, body: found };
    },
  });

  door.route({
    action: "identity.write",
    idempotency: "optional",
    problems: ["trust_domain_taken", "trust_domain_invalid", "identity_full"],
    route: createRoute({
      method: "put",
      path: "/api/identity/trust-domains/{name}",
      tags,
      summary: "State a trust domain of the tenant's, and where its bundle comes from",
      description:
        "Who states a name first has it. An endpoint of the profile https_web is asked by the API, by the bundle's refresh hint; https_spiffe cannot be spoken from here, and such a bundle is handed in. Nothing is believed of the domain until a bundle is here.",
      request: { ...ofDomain, body: { required: true, content: json(trustDomainPut) } },
      responses: { 204: { description: "It is stated." } },
    }),
    handler: async (call) => {
      const { parts, caller, input } = call;
      const { name } = input.params;
      const { shared, endpoint } = input.json;
      if (name === parts.platform.trustDomain)
        throw new Problem("trust_domain_taken", `${name} is the platform's own, for its workers.`);
      if (endpoint !== null) {
        const checked = parseBundleEndpoint(name, endpoint.url, endpoint.profile, endpoint.server_id);
        if (!checked.ok) {
          const { reason, section } = checked.refusal;
          throw new Problem("trust_domain_invalid", `The endpoint is refused: ${reason} (${section}).`, { section });
        }
      }
      const event = newEvent(eventContext(call), "mc.identity.domain_stated", {
        trust_domain: name,
        shared,
        profile: endpoint?.profile ?? null,
        outcome: "stated",
      });
      const state = await stateDomain(parts.database, caller.tenant_id, name, input.json, changeOf(call, event));
      if (state === "full")
        throw new Problem("identity_full", `A tenant states at most ${trustDomainsMax} trust domains.`);
      if (state === "taken") throw new Problem("trust_domain_taken", `${name} was stated by another tenant before.`);
      if (state === "not_curating")
        throw new Problem("trust_domain_invalid", "Only a tenant that curates the marketplace shares a trust domain.");
      parts.nudgeDrain(caller.tenant_id);
      return { status: 204, body: null };
    },
  });

  door.route({
    action: "identity.write",
    idempotency: "optional",
    problems: ["not_found", "trust_domain_in_use"],
    route: createRoute({
      method: "delete",
      path: "/api/identity/trust-domains/{name}",
      tags,
      summary: "Take a trust domain back, its bundle with it",
      description: "Refused while SPIFFE IDs of it are registered. Others may state the name afterwards.",
      request: ofDomain,
      responses: { 204: { description: "It is gone." } },
    }),
    handler: async (call) => {
      const { parts, caller, input } = call;
      const { name } = input.params;
      const removed = { trust_domain: name, outcome: "removed" } as const;
      const event = newEvent(eventContext(call), "mc.identity.domain_removed", removed);
      let left: number | null | undefined;
      try {
        left = await removeDomain(parts.database, caller.tenant_id, name, changeOf(call, event));
      } catch (error) {
        // IDs that other tenants have of a shared domain are not ours to count.
        if (!isForeignKeyViolation(error)) throw error;
        throw new Problem("trust_domain_in_use", `Other tenants have SPIFFE IDs of ${name}.`, { workloads: null });
      }
      if (left === undefined) throw notFound();
      if (left !== null)
        throw new Problem("trust_domain_in_use", `${left} SPIFFE IDs of ${name} are registered.`, { workloads: left });
      parts.nudgeDrain(caller.tenant_id);
      return { status: 204, body: null };
    },
  });
}

function bundleRoutes(door: Door): void {
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

function workloadRoutes(door: Door): void {
  door.route({
    action: "identity.read",
    idempotency: "none",
    route: createRoute({
      method: "get",
      path: "/api/identity/workloads",
      tags,
      summary: "List the tenant's workloads: which SPIFFE ID is which principal",
      description: "Newest first, at most 1,000.",
      responses: { 200: { description: "The workloads.", content: json(workloadList) } },
    }),
    handler: async ({ parts, caller }) => ({
      status: 200,
      body: { workloads: await listWorkloads(parts.database, caller.tenant_id) },
    }),
  });

  door.route({
    action: "identity.write",
    idempotency: "required",
    problems: ["not_found", "workload_taken", "workload_invalid", "identity_full"],
    route: createRoute({
      method: "post",
      path: "/api/identity/workloads",
      tags,
      summary: "Register a workload's SPIFFE ID",
      description:
        "Makes a service principal with the role: whoever has an SVID of that ID is it. In a trust domain that tenants share, the ID is below /tenant/<the tenant's slug>/. Where two have to agree, that principal is its creator, and what asks for a person it may not do. Once a fetcher's ID is registered, fetchers' keys open nothing while the flag spiffe_everywhere is on.",
      request: { body: { required: true, content: json(newWorkload) } },
      responses: { 201: { description: "It is registered.", content: json(workload) } },
    }),
    handler: async (call) => {
      const { parts, caller, now, input } = call;
      const { spiffe_id, role } = input.json;
      const id = registrableId(spiffe_id);
      if (!id.ok)
        throw new Problem("workload_invalid", `The ID is refused: ${id.refusal.reason} (${id.refusal.section}).`);
      const domain = await readDomain(parts.database, caller.tenant_id, id.value.trustDomain, now);
      if (domain === null)
        throw new Problem(
          "workload_invalid",
          `The trust domain ${id.value.trustDomain} is neither the tenant's nor shared.`,
        );
      const why = whyNotRegistered(id.value, domain.shared, caller.tenant, role);
      if (why !== null) throw new Problem("workload_invalid", why);
      const body = {
        id: newId("principal", now, parts.random(10)),
        spiffe_id,
        trust_domain: domain.name,
        role,
        created_at: new Date(now).toISOString(),
        created_by: caller.principal_id,
      };
      const event = newEvent(eventContext(call), "mc.identity.workload_registered", {
        ...(await workloadFacts(body.id, body)),
        outcome: "registered",
      });
      try {
        const change = changeOf(call, event);
        const state = await registerWorkload(parts.database, caller.tenant_id, body, domain.shared, change);
        if (state === "missing") throw notFound();
        if (state === "full")
          throw new Problem("identity_full", `A tenant registers at most ${workloadsMax} SPIFFE IDs.`);
      } catch (error) {
        // The trust domain was taken back meanwhile.
        if (isForeignKeyViolation(error)) throw notFound();
        if (!isUniqueViolation(error)) throw error;
        throw new Problem("workload_taken", "This SPIFFE ID is a principal already, here or of another tenant.");
      }
      parts.nudgeDrain(caller.tenant_id);
      await tellEdge(call);
      return { status: 201, body };
    },
  });

  door.route({
    action: "identity.write",
    idempotency: "optional",
    problems: ["not_found"],
    route: createRoute({
      method: "delete",
      path: "/api/identity/workloads/{id}",
      tags,
      summary: "Remove a workload: its SPIFFE ID opens nothing any more, here from the answer on",
      request: { params: z.object({ id: principalId }) },
      responses: { 204: { description: "It is removed." } },
    }),
    handler: async (call) => {
      const { parts, caller, input } = call;
      const found = await readWorkload(parts.database, caller.tenant_id, input.params.id);
      if (found === null) throw notFound();
      const event = newEvent(eventContext(call), "mc.identity.workload_removed", {
        ...(await workloadFacts(input.params.id, found)),
        outcome: "removed",
      });
      await removeWorkload(parts.database, caller.tenant_id, input.params.id, changeOf(call, event));
      parts.nudgeDrain(caller.tenant_id);
      await tellEdge(call);
      return { status: 204, body: null };
    },
  });
}

const workloadFacts = async (
  id: string,
  of: { readonly spiffe_id: string; readonly trust_domain: string },
): Promise<{ principal_id: string; trust_domain: string; spiffe_id_sha256: string }> => ({
  principal_id: id,
  trust_domain: of.trust_domain,
  spiffe_id_sha256: await sha256Hex(utf8(of.spiffe_id)),
});

type AnyCall = Pick<Call, "caller" | "now" | "parts" | "claim">;

const changeOf = ({ caller, now, parts, claim }: AnyCall, event: AuditEvent): Change => ({
  now,
  principal_id: caller.principal_id,
  outbox: (where) => outboxInsert([event], parts.shards, where),
  claim,
});
