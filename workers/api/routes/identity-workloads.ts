// /api/identity/workloads: which SPIFFE ID is which principal. app.ts registers them at the door.

import { createRoute, z } from "@hono/zod-openapi";
import { sha256Hex, utf8 } from "../../../shared/contract/bytes.ts";
import { newWorkload, workload, workloadList } from "../../../shared/contract/http-identity.ts";
import { principalId } from "../../../shared/contract/http-tenancy.ts";
import { newId } from "../../../shared/contract/ids.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { readDomain } from "../../../shared/identity/store.ts";
import { registrableId, whyNotRegistered } from "../../../shared/identity/workload-rules.ts";
import {
  listWorkloads,
  readWorkload,
  registerWorkload,
  removeWorkload,
  workloadsMax,
} from "../../../shared/identity/workload-store.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { isForeignKeyViolation, isUniqueViolation } from "../../../shared/tenancy/database.ts";
import type { Door } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { changeOf } from "../identity/change-of.ts";
import { notFound } from "../middleware/problem.ts";
import { tellEdge } from "../tell-edge.ts";

const tags = ["identity"];
const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });

export function register(door: Door): void {
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
