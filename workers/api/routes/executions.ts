// /api/executions: start, finish, read, list.

import { createRoute, z } from "@hono/zod-openapi";
import { utf8Text, base64, base64Bytes, utf8 } from "../../../shared/contract/bytes.ts";
import {
  execution,
  executionId,
  executionList,
  finishExecution,
  startExecution,
  type Execution,
} from "../../../shared/contract/http-executions.ts";
import { timestamp } from "../../../shared/contract/names.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { finishRun, startRun, type RunParts } from "../../../shared/executions/start.ts";
import * as store from "../../../shared/executions/store.ts";
import { readInstall } from "../../../shared/market/install-store.ts";
import type { Call, Door } from "../door.ts";
import { changesNeeded, installingWays } from "../market/installing-ways.ts";
import { decisionEvent, denied } from "../middleware/deny.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const byId = z.strictObject({ id: executionId });

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "post",
      path: "/api/executions",
      summary: "Start a run of an installed package",
      description:
        "Decides (role, entitlement, install), reserves privacy budget, and records the run. 403 says why not.",
      request: { body: { content: json(startExecution), required: true } },
      responses: { 201: { description: "The run, running", content: json(execution) } },
    }),
    action: "execution.start",
    idempotency: "required",
    problems: ["denied", "privacy_budget_exceeded"],
    handler: async (call) => {
      const run = { caller: call.caller, now: call.now, claim: call.claim!, decision: null };
      const started = await startRun(
        {
          ...partsOf(call),
          decide: (facts) => call.decide(facts),
          changesNeeded: changesNeeded(call),
          allowedEvent: (decision, facts, id) =>
            decisionEvent(call, decision, { facts, package: facts.package, execution_id: id }),
        },
        run,
        call.input.json,
      );
      if (started.state === "denied") {
        return await denied(call, started.decision, {
          facts: started.facts,
          package: call.input.json.package,
          ...(started.units === null ? {} : { units: started.units }),
        });
      }
      call.parts.nudgeDrain(call.caller.tenant_id);
      return { status: 201, body: started.execution };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/executions/{id}/finish",
      summary: "Say how a run ended, once",
      request: { params: byId, body: { content: json(finishExecution), required: true } },
      responses: { 200: { description: "The run, ended", content: json(execution) } },
    }),
    action: "execution.finish",
    idempotency: "required",
    problems: ["not_found", "execution_not_running"],
    handler: async (call) => {
      const run = { caller: call.caller, now: call.now, claim: call.claim!, decision: call.decided.event };
      const ended = await finishRun(partsOf(call), run, call.input.params.id, call.input.json);
      call.parts.nudgeDrain(call.caller.tenant_id);
      if (ended.rollout_id !== null) call.parts.nudgeGate(call.caller.tenant_id);
      return { status: 200, body: ended };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/executions/{id}",
      summary: "One run",
      request: { params: byId },
      responses: { 200: { description: "The run", content: json(execution) } },
    }),
    action: "execution.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => {
      const found = await store.readExecution(call.parts.database, call.caller.tenant_id, call.input.params.id);
      if (found === null) throw new Problem("not_found", "There is no such execution.");
      return { status: 200, body: found };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/executions",
      summary: "Runs of this tenant, newest first",
      request: {
        query: z.strictObject({
          limit: z
            .string()
            .regex(/^(?:[1-9]\d?|1\d\d|200)$/, "a whole number from 1 to 200")
            .default("50"),
          cursor: z.string().max(200).optional().describe("`next_cursor` of the page before"),
        }),
      },
      responses: { 200: { description: "A page of runs", content: json(executionList) } },
    }),
    action: "execution.read",
    idempotency: "none",
    handler: async (call) => {
      const { cursor } = call.input.query;
      const limit = Number(call.input.query.limit);
      const before = cursor === undefined ? null : parseCursor(cursor);
      const page = await store.listExecutions(call.parts.database, call.caller.tenant_id, limit, before);
      const last = page.length === limit ? page.at(-1) : undefined;
      return { status: 200, body: { executions: page, next_cursor: last === undefined ? null : cursorOf(last) } };
    },
  });
}

function partsOf({
  parts,
  caller,
  now,
}: Pick<Call, "parts" | "caller" | "now">): Omit<RunParts, "decide" | "allowedEvent" | "changesNeeded"> {
  const { database, shards, random, log } = parts;
  const tenantId = caller.tenant_id;
  return {
    random,
    log,
    entitlements: parts.entitlements(tenantId),
    installing: (name, range) => installingWays(parts, tenantId, name, range),
    runsToday: (name) => store.runsToday(database, tenantId, name, now),
    ledger: parts.ledger(tenantId),
    policy_sha256: parts.policy.sha256,
    readInstall: (name, install) => readInstall(database, tenantId, name, install),
    insert: (row) => store.insertExecution(database, tenantId, shards, row),
    read: (id) => store.readExecution(database, tenantId, id),
    end: (row) => store.endExecution(database, tenantId, shards, row),
  };
}

const cursorShape = z.tuple([timestamp, executionId]);
const cursorOf = (run: Execution): string => base64(utf8(JSON.stringify([run.started_at, run.id])));

function parseCursor(text: string): { started_at: string; id: string } {
  try {
    const parsed = cursorShape.safeParse(JSON.parse(utf8Text(base64Bytes(text))));
    if (parsed.success) return { started_at: parsed.data[0], id: parsed.data[1] };
  } catch {
    // Not base64, not UTF-8 or not JSON: the same answer.
  }
  throw new Problem("invalid_request", "The cursor is not one of ours.", {
    errors: [{ path: "cursor", message: "send `next_cursor` of the page before, as it was" }],
  });
}
