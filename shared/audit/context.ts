// What was in force when: rare events (entitlements and their reviews, releases, budgets, flags) that packs of later runs
// carry. The log keeps a copy of each under its subjects when it is appended; who opens a pack finds them the same way.

import type { AuditEvent, EventAttributes, EventType } from "../contract/events.ts";
import type { FlagName } from "../contract/http-flags.ts";

export const subjects = {
  /** Ordered by entitlement version. */
  entitlement: (packageName: string): string => `entitlement:${packageName}`,
  /** The step of a reviewed change that made a version. */
  entitlementVersion: (version: number): string => `entitlement_version:${version}`,
  /** The others are ordered by when they occurred. */
  change: (changeId: string): string => `change:${changeId}`,
  release: (sha256: string): string => `release:${sha256}`,
  budget: "budget",
  flag: (flag: string): string => `flag:${flag}`,
} as const;

export interface ContextPlace {
  readonly subject: string;
  readonly at: number;
}

/** Where an event is looked for; none for most. */
export function contextPlaces(event: AuditEvent): ContextPlace[] {
  const time = Date.parse(event.occurred_at);
  if (is(event, "mc.entitlement.changed") || is(event, "mc.entitlement.removed")) {
    const { package: name, entitlement_version: version } = event.attributes;
    return [{ subject: subjects.entitlement(name), at: version }];
  }
  if (is(event, "mc.entitlement.reviewed")) {
    const { change_id: changeId, entitlement_version: version } = event.attributes;
    const step = version === null ? [] : [{ subject: subjects.entitlementVersion(version), at: version }];
    return [...step, { subject: subjects.change(changeId), at: time }];
  }
  if (
    is(event, "mc.release.submitted") ||
    is(event, "mc.release.reviewed") ||
    is(event, "mc.release.published") ||
    is(event, "mc.release.yanked")
  ) {
    return [{ subject: subjects.release(event.attributes.release_sha256), at: time }];
  }
  if (is(event, "mc.privacy.budget_set")) return [{ subject: subjects.budget, at: time }];
  if (is(event, "mc.flag.changed")) return [{ subject: subjects.flag(event.attributes.flag), at: time }];
  return [];
}

const exportFlag: FlagName = "audit_rt_export";

/** The switch of the log's own flag, if the event is one. */
export function exportSwitch(event: AuditEvent): { readonly periodic: 0 | 1; readonly at: number } | null {
  if (!is(event, "mc.flag.changed") || event.attributes.flag !== exportFlag) return null;
  return { periodic: event.attributes.outcome === "off" ? 1 : 0, at: Date.parse(event.occurred_at) };
}

/** Tells an event's type to the compiler. */
export const is = <T extends EventType>(
  event: AuditEvent,
  type: T,
): event is AuditEvent & { readonly type: T; readonly attributes: EventAttributes<T> } => event.type === type;
