// The queue consumers: messages of events become rows of the tenants' logs. A message is acknowledged when every
// event in it is in its log (or told to be lost by a gap record there); otherwise it alone comes again, so that one
// tenant's trouble holds no other up. Called by index.ts.

import { sha256Hex, utf8, utf8Length } from "../../shared/contract/bytes.ts";
import { eventBytesMax, parseEvent, type AuditEvent } from "../../shared/contract/events.ts";
import { eachOf } from "../../shared/contract/each-of.ts";
import { idPattern } from "../../shared/contract/ids.ts";
import { errorName } from "../../shared/outbox/drain.ts";
import { tenantId as tenantIdShape } from "../../shared/contract/names.ts";
import type { Log } from "../../shared/contract/ports.ts";
import { canonicalText, isSurelyTextOf, isTextOf } from "../../shared/signing/canonical.ts";
import { ownTypes } from "../../shared/audit/append.ts";
import type { AuditLogApi, GapReport } from "../../shared/audit/service.ts";
import type { Activity } from "./activity.ts";

export const deadQueue = "mc-audit-dead";
const tenantsAtOnce = 16;
const retrySecondsMax = 30;

/** What a consumer needs of a platform's message. */
export interface QueueMessage {
  readonly id: string;
  readonly body: unknown;
  readonly attempts: number;
  ack(): void;
  retry(options: { delaySeconds: number }): void;
}

export interface ConsumerParts {
  auditLog(tenantId: string): Pick<AuditLogApi, "append" | "recordGap">;
  readonly activity: Pick<Activity, "note">;
  /** Keeps a message that cannot be logged, by its digest, for a person to look at. */
  keepAside(sha256: string, text: string): Promise<void>;
  readonly log: Log;
}

interface TenantEvents {
  readonly texts: string[];
  readonly ids: string[];
  readonly refusedIds: string[];
  refusedCount: number;
}

interface ReadMessage {
  readonly byTenant: Map<string, TenantEvents>;
  /** Why the message, or an event of it that names no tenant, cannot be logged; the first reason found. */
  readonly unreadable: string | null;
}

const eventId = idPattern("event");

/** Parses a message once. What can be logged is told apart from what cannot, by tenant. */
export function readMessage(body: unknown): ReadMessage {
  const byTenant = new Map<string, TenantEvents>();
  if (typeof body !== "string") return { byTenant, unreadable: "the body is not text" };
  let values: unknown;
  try {
    values = JSON.parse(body);
  } catch {
    return { byTenant, unreadable: "the body is not JSON" };
  }
  if (!Array.isArray(values)) return { byTenant, unreadable: "the body is not an array" };
  let unreadable: string | null = null;
  const of = (tenantId: string): TenantEvents => {
    const events = byTenant.get(tenantId) ?? { texts: [], ids: [], refusedIds: [], refusedCount: 0 };
    byTenant.set(tenantId, events);
    return events;
  };
  for (const value of values as unknown[]) {
    const parsed = parseEvent(value);
    const text = parsed.ok ? textOf(value, parsed.event) : null;
    if (
      parsed.ok &&
      text !== null &&
      !ownTypes.includes(parsed.event.type) &&
      parsed.event.tenant_id === parsed.event.tenant_id.toLowerCase() &&
      utf8Length(text) <= eventBytesMax
    ) {
      const events = of(parsed.event.tenant_id);
      events.texts.push(text);
      events.ids.push(parsed.event.id);
      continue;
    }
    const { tenant_id: tenantId, id } = (value ?? {}) as { tenant_id?: unknown; id?: unknown };
    if (tenantIdShape.safeParse(tenantId).success && tenantId === String(tenantId).toLowerCase()) {
      const events = of(tenantId);
      events.refusedCount += 1;
      if (typeof id === "string" && eventId.test(id)) events.refusedIds.push(id);
    } else {
      unreadable ??= "an event names no tenant";
    }
  }
  return { byTenant, unreadable };
}

/** RFC 8785 text of the event that was read from `value`; null where the two are not the same. */
function textOf(value: unknown, event: AuditEvent): string | null {
  const spelled = JSON.stringify(value);
  if (isSurelyTextOf(spelled, value, event)) return spelled;
  const text = canonicalText(value);
  return isTextOf(text, event) ? text : null;
}

/** One batch of `mc-audit-*`. */
export async function consume(messages: readonly QueueMessage[], parts: ConsumerParts): Promise<void> {
  const read = messages.map((message) => ({ message, ...readMessage(message.body) }));
  const texts = new Map<string, string[]>();
  for (const { byTenant } of read) {
    for (const [tenantId, events] of byTenant) {
      texts.set(tenantId, (texts.get(tenantId) ?? []).concat(events.texts));
    }
  }
  const noting = parts.activity.note([...texts.keys()]);
  const failed = new Set<string>();
  await eachOf([...texts], tenantsAtOnce, async ([tenantId, events]) => {
    if (!(await attempt(parts, tenantId, "append", async () => void (await parts.auditLog(tenantId).append(events))))) {
      failed.add(tenantId);
    }
  });
  await noting;
  await eachOf(read, tenantsAtOnce, async ({ message, byTenant, unreadable }) => {
    const isSettled =
      ![...byTenant.keys()].some((tenantId) => failed.has(tenantId)) &&
      (await tellRefused(message, byTenant, unreadable, parts));
    if (isSettled) message.ack();
    else retry(message);
  });
}

/**
 * One batch of the dead-letter queue: what failed to the end of its retries. The events are tried once more; those that
 * still cannot be logged are told to be lost, in their tenant's log, by a record that has a `seq` and verifies.
 */
export async function consumeDead(messages: readonly QueueMessage[], parts: ConsumerParts): Promise<void> {
  for (const message of messages) {
    const { byTenant, unreadable } = readMessage(message.body);
    const noting = parts.activity.note([...byTenant.keys()]);
    const sha256 = await keep(message, parts);
    let isSettled = sha256 !== null && (await tellRefused(message, byTenant, unreadable, parts));
    for (const [tenantId, events] of sha256 === null ? [] : byTenant) {
      if (events.texts.length === 0) continue;
      const auditLog = parts.auditLog(tenantId);
      if (
        await attempt(
          parts,
          tenantId,
          "append of a dead letter",
          async () => void (await auditLog.append(events.texts)),
        )
      ) {
        parts.log("warn", "a dead letter could be logged after all", { tenant_id: tenantId, message_id: message.id });
        continue;
      }
      const report: GapReport = {
        rule: "dead_letter",
        event_ids: events.ids,
        event_count: events.texts.length,
        message_sha256: sha256 ?? "",
      };
      isSettled = (await attempt(parts, tenantId, "gap record", () => auditLog.recordGap(report))) && isSettled;
    }
    await noting;
    if (isSettled) message.ack();
    else retry(message);
  }
}

/** Events that no log will ever take: the message is kept, the tenants that it names are told, the rest is an alarm. */
async function tellRefused(
  message: QueueMessage,
  byTenant: ReadMessage["byTenant"],
  unreadable: string | null,
  parts: ConsumerParts,
): Promise<boolean> {
  const refused = [...byTenant].filter(([, { refusedCount }]) => refusedCount > 0);
  if (refused.length === 0 && unreadable === null) return true;
  const sha256 = await keep(message, parts);
  if (sha256 === null) return false;
  if (unreadable !== null) {
    parts.log("error", "a message cannot be read", {
      alarm: true,
      message_id: message.id,
      message_sha256: sha256,
      reason: unreadable,
    });
  }
  let isTold = true;
  for (const [tenantId, { refusedIds, refusedCount }] of refused) {
    const report: GapReport = {
      rule: "refused_event",
      event_ids: refusedIds,
      event_count: refusedCount,
      message_sha256: sha256,
    };
    isTold = (await attempt(parts, tenantId, "gap record", () => parts.auditLog(tenantId).recordGap(report))) && isTold;
  }
  return isTold;
}

async function keep(message: QueueMessage, parts: ConsumerParts): Promise<string | null> {
  const text = typeof message.body === "string" ? message.body : (JSON.stringify(message.body) ?? "");
  const sha256 = await sha256Hex(utf8(text));
  try {
    await parts.keepAside(sha256, text);
    return sha256;
  } catch (error) {
    parts.log("error", "a message could not be kept aside", { message_id: message.id, error: errorName(error) });
    return null;
  }
}

async function attempt(
  parts: ConsumerParts,
  tenantId: string,
  what: string,
  effect: () => Promise<void>,
): Promise<boolean> {
  try {
    await effect();
    return true;
  } catch (error) {
    parts.log("error", `${what} failed, will try again`, { tenant_id: tenantId, error: errorName(error) });
    return false;
  }
}

const retry = (message: QueueMessage): void =>
  message.retry({ delaySeconds: Math.min(retrySecondsMax, 2 ** Math.min(message.attempts - 1, 10)) });
