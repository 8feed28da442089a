// /api/identity/trust-domains: the trust domains that the tenant's workloads come from. app.ts registers them at the door.

import { createRoute, z } from "@hono/zod-openapi";
import {
  trustDomain,
  trustDomainList,
  trustDomainName,
  trustDomainPut,
} from "../../../shared/contract/http-identity.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { parseBundleEndpoint } from "../../../shared/identity/bundle-endpoint.ts";
import { listDomains, readDomain, removeDomain, stateDomain, trustDomainsMax } from "../../../shared/identity/store.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { isForeignKeyViolation } from "../../../shared/tenancy/database.ts";
import type { Door } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { changeOf } from "../identity/change-of.ts";
import { notFound } from "../middleware/problem.ts";

const tags = ["identity"];
const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const ofDomain = { params: z.object({ name: trustDomainName }) };

export function register(door: Door): void {
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
      // Whether it is shared decides whose workloads it lets in at the edges, too.
      await parts.nudgeTrust(name);
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
