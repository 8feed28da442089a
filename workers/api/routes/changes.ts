// /api/market/entitlement-changes: a change of entitlements that one principal proposes, another approves, and that is
// applied and reverted with one call each; and the history of all changes.

import { createRoute, z } from "@hono/zod-openapi";
import {
  changeId,
  entitlementChange,
  entitlementChangeList,
  entitlementHistory,
  entitlementUpsert,
  type EntitlementChange,
} from "../../../shared/contract/http-entitlements.ts";
import { newId } from "../../../shared/contract/ids.ts";
import { packageName, timestamp } from "../../../shared/contract/names.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import * as store from "../../../shared/market/change-store.ts";
import type { ChangeStepResult } from "../../../shared/market/entitlements.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { LostToSameKey } from "../../../shared/tenancy/idempotency.ts";
import { cursorOf, pageQuery, parseCursor } from "../cursor.ts";
import type { Call, Door } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { eachPackageOnce } from "../market/entitlement-rows.ts";
import { isOwn } from "../market/own-work.ts";
import { noEntitlements } from "../market/refusals.ts";
import { denied } from "../middleware/deny.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const byId = z.strictObject({ id: changeId });
const path = "/api/market/entitlement-changes";

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/entitlements/history",
      summary: "Every change of the tenant's entitlements, the newest first: who, when, why",
      request: { query: z.strictObject({ package: packageName.optional(), ...pageQuery(200, 50) }) },
      responses: { 200: { description: "A page of the history", content: json(entitlementHistory) } },
    }),
    action: "entitlement.read",
    idempotency: "none",
    handler: async (call) => {
      const { package: name, limit, cursor } = call.input.query;
      const place = parseCursor(cursor, z.tuple([z.int().min(1), packageName]));
      const before = place === null ? null : { version: place[0], package: place[1] };
      const { database } = call.parts;
      const page = await store.listHistory(database, call.caller.tenant_id, name ?? null, Number(limit), before);
      const last = page.length === Number(limit) ? page.at(-1) : undefined;
      const next = last === undefined ? null : cursorOf([last.version, last.entitlement.package]);
      return { status: 200, body: { entries: page, next_cursor: next } };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path,
      summary: "Propose a change of entitlements, for someone else to approve",
      request: { body: { content: json(entitlementUpsert), required: true } },
      responses: { 201: { description: "The change, proposed", content: json(entitlementChange) } },
    }),
    action: "entitlement.propose",
    idempotency: "required",
    handler: async (call) => {
      const { parts, caller, now } = call;
      const { entitlements, reason } = call.input.json;
      eachPackageOnce(entitlements);
      const change: EntitlementChange = {
        id: newId("change", now, parts.random(10)),
        state: "proposed",
        entitlements,
        before: null,
        reason,
        proposed_by: caller.principal_id,
        proposed_at: new Date(now).toISOString(),
        decided_by: null,
        decided_at: null,
        applied_by: null,
        applied_at: null,
        applied_version: null,
        reverted_by: null,
        reverted_at: null,
        reverted_version: null,
      };
      const told = { change, event: reviewed(call, change), claim: call.claim!, now };
      await store.insertChange(parts.database, caller.tenant_id, parts.shards, told);
      parts.nudgeDrain(caller.tenant_id);
      return { status: 201, body: change };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path,
      summary: "Changes of entitlements, the newest first",
      request: { query: z.strictObject(pageQuery(200, 50)) },
      responses: { 200: { description: "A page of changes", content: json(entitlementChangeList) } },
    }),
    action: "entitlement.read",
    idempotency: "none",
    handler: async (call) => {
      const { limit, cursor } = call.input.query;
      const place = parseCursor(cursor, z.tuple([timestamp, changeId]));
      const before = place === null ? null : { proposed_at: place[0], id: place[1] };
      const page = await store.listChanges(call.parts.database, call.caller.tenant_id, Number(limit), before);
      const last = page.length === Number(limit) ? page.at(-1) : undefined;
      const next = last === undefined ? null : cursorOf([last.proposed_at, last.id]);
      return { status: 200, body: { changes: page, next_cursor: next } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: `${path}/{id}`,
      summary: "One change of entitlements",
      request: { params: byId },
      responses: { 200: { description: "The change", content: json(entitlementChange) } },
    }),
    action: "entitlement.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => ({ status: 200, body: await changeById(call, call.input.params.id) }),
  });

  for (const [verb, state, summary] of [
    ["approve", "approved", "Approve a proposed change; never one's own"],
    ["reject", "rejected", "Reject a proposed change; one's own is withdrawn by this"],
  ] as const) {
    door.route({
      route: createRoute({
        method: "post",
        path: `${path}/{id}/${verb}`,
        summary,
        request: { params: byId },
        responses: { 200: { description: "The change, decided", content: json(entitlementChange) } },
      }),
      action: "entitlement.approve",
      idempotency: "required",
      problems: ["denied", "not_found", "change_state"],
      handler: async (call) => ({ status: 200, body: await decide(call, call.input.params.id, state) }),
    });
  }

  for (const [verb, summary] of [
    ["apply", "Apply an approved change"],
    ["revert", "Revert an applied change: every row is again as it was before"],
  ] as const) {
    door.route({
      route: createRoute({
        method: "post",
        path: `${path}/{id}/${verb}`,
        summary,
        request: { params: byId },
        responses: { 200: { description: "The change, after the step", content: json(entitlementChange) } },
      }),
      action: "entitlement.write",
      idempotency: "required",
      decision: "before_the_change",
      problems: ["not_found", "change_state", "change_superseded"],
      handler: async (call) => {
        const { tenant_id: tenantId, principal_id } = call.caller;
        const step = { change_id: call.input.params.id, step: verb, principal_id, claim: call.claim };
        const change = stepped(await call.parts.entitlements(tenantId).stepChange(step));
        call.parts.nudgeDrain(tenantId);
        return { status: 200, body: change };
      },
    });
  }
}

type ChangeCall = Pick<Call, "parts" | "caller" | "now">;

const reviewed = (call: ChangeCall, change: EntitlementChange) =>
  newEvent(eventContext(call), "mc.entitlement.reviewed", {
    change_id: change.id,
    entitlement_version: null,
    outcome: change.state,
  });

export async function changeById(
  { parts, caller }: Pick<Call, "parts" | "caller">,
  id: string,
): Promise<EntitlementChange> {
  const change = await store.readChange(parts.database, caller.tenant_id, id);
  if (change === null) throw new Problem("not_found", "There is no such change.");
  return change;
}

async function decide(
  call: Call<never, "entitlement.approve">,
  id: string,
  state: "approved" | "rejected",
): Promise<EntitlementChange> {
  const { parts, caller, now } = call;
  const proposed = await changeById(call, id);
  if (proposed.state !== "proposed") throw wrongState(proposed.state);
  const facts = { change_id: id, own: state === "approved" && (await isOwn(call, proposed.proposed_by)) };
  const decision = await call.decide(facts);
  if (!decision.allow) await denied(call, decision, { facts });
  const change: EntitlementChange = {
    ...proposed,
    state,
    decided_by: caller.principal_id,
    decided_at: new Date(now).toISOString(),
  };
  const told = { change, event: reviewed(call, change), claim: call.claim!, now };
  if (!(await store.decideChange(parts.database, caller.tenant_id, parts.shards, told))) {
    throw wrongState((await changeById(call, id)).state);
  }
  parts.nudgeDrain(caller.tenant_id);
  return change;
}

function stepped(result: ChangeStepResult): EntitlementChange {
  if (result.state === "changed") return result.change;
  if (result.state === "missing") throw new Problem("not_found", "There is no such change.");
  if (result.state === "wrong_state") throw wrongState(result.state_now);
  if (result.state === "lost_to_same_key") throw new LostToSameKey();
  if (result.state === "unavailable") throw noEntitlements();
  throw new Problem("change_superseded", `Changed again since: ${result.packages.join(", ")}.`, {
    packages: result.packages,
  });
}

const wrongState = (state: string): Problem =>
  new Problem("change_state", `The change is ${state}.`, { state_now: state });
