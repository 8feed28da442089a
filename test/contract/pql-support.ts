// What the PQL tests share: connections as the roles have them, and rows of audit_events to ask about.

import { neon, neonConfig } from "@neondatabase/serverless";
import { drizzle } from "drizzle-orm/neon-http";
import type { EventColumns, EventType } from "../../shared/contract/events.ts";
import { newId } from "../../shared/contract/ids.ts";
import { canonicalJson } from "../../shared/contract/events.ts";
import type { Database } from "../../shared/tenancy/database.ts";
import type { StackHandle } from "../support/stack.ts";

export type RoleName = keyof StackHandle["databaseUrls"];

export function connect(stack: Pick<StackHandle, "neonEndpoint" | "databaseUrls">, role: RoleName): Database {
  neonConfig.fetchEndpoint = () => stack.neonEndpoint;
  return drizzle({ client: neon(stack.databaseUrls[role]) });
}

/** A tenant of its own for each test: audit_events has no foreign key. The same number gives the same tenant. */
export const tenantNumber = (number: number): string =>
  `00000000-0000-4000-8000-${number.toString(16).padStart(12, "0")}`;

export type RowParts = Partial<Omit<EventColumns, "attrs" | "type">> & {
  readonly type: EventType;
  readonly attributes?: Readonly<Record<string, unknown>>;
};

export const eventId = (seq: number): string => newId("event", seq, new Uint8Array(10));

/** A row with what is not given left out; times default to 2026-04-13T00:00Z and `seq` seconds. */
export function rowOf(tenantId: string, seq: number, parts: RowParts): EventColumns {
  const { attributes = {}, ...columns } = parts;
  const at = new Date(Date.UTC(2026, 3, 13) + seq * 1000).toISOString();
  return {
    tenant_id: tenantId,
    seq,
    logged_at: at,
    occurred_at: at,
    event_id: eventId(seq),
    source: "api",
    principal: null,
    execution_id: null,
    package: null,
    version: null,
    channel: null,
    outcome: null,
    rule: null,
    action: null,
    units: null,
    duration_ms: null,
    attrs: canonicalJson(attributes),
    ...columns,
  };
}
