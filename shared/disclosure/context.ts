// What a pack tells of a run beside its own events: the entitlement that was in force and who reviewed it, what was said of
// its release, the budget, the flags. The audit worker asks the log, a verifier asks the pack: both by `selectContext`, so
// that a pack can hold nothing else. Pure.

import { contextPlaces, is, subjects } from "../audit/context.ts";
import type { ContextQuery } from "../audit/service.ts";
import type { AuditEvent, EventAttributes, EventType, LoggedEvent } from "../contract/events.ts";
import { runFlags } from "../contract/http-flags.ts";

/** Steps of one reviewed change, and what is said of one release; there are a handful of each. */
const reviewsMax = 50;
/** A lost settlement is told by the lease's alarm within minutes; after so long a pack is made without it. */
const settleWaitMs = 10 * 60_000;

export type Of<T extends EventType> = LoggedEvent & { readonly type: T; readonly attributes: EventAttributes<T> };

/** The events that tell how a run went, the first of each type. */
export interface RunEvents {
  readonly started: Of<"mc.execution.started">;
  readonly finished: Of<"mc.execution.finished">;
  readonly receipt: Of<"mc.receipt.signed"> | null;
  readonly reserved: Of<"mc.privacy.reserved"> | null;
  readonly settled: Of<"mc.privacy.settled"> | null;
  readonly refunded: Of<"mc.privacy.refunded"> | null;
  readonly decisions: readonly Of<"mc.policy.decision">[];
}

const firstOf = <T extends EventType>(events: readonly LoggedEvent[], type: T): Of<T> | null =>
  events.find((event) => is(event, type)) ?? null;

/** Null while the log does not hold its start and its end. */
export function runEvents(events: readonly LoggedEvent[]): RunEvents | null {
  const started = firstOf(events, "mc.execution.started");
  const finished = firstOf(events, "mc.execution.finished");
  if (started === null || finished === null) return null;
  return {
    started,
    finished,
    receipt: firstOf(events, "mc.receipt.signed"),
    reserved: firstOf(events, "mc.privacy.reserved"),
    settled: firstOf(events, "mc.privacy.settled"),
    refunded: firstOf(events, "mc.privacy.refunded"),
    decisions: events.filter((event) => event.type === "mc.policy.decision") as Of<"mc.policy.decision">[],
  };
}

/** What a run spent reaches the log by another way than its end: false while that is still to be expected. */
export function hasSettled({ started, finished, reserved, settled, refunded }: RunEvents, now: number): boolean {
  if (started.attributes.units === 0) return true;
  if (reserved !== null && (settled !== null || refunded !== null)) return true;
  return now - Date.parse(finished.logged_at) > settleWaitMs;
}

/** The highest row that a pack of the run cannot do without. */
export const lastRow = ({ started, finished, receipt, reserved, settled, refunded }: RunEvents): number =>
  Math.max(...[started, finished, receipt, reserved, settled, refunded].map((event) => event?.seq ?? 0));

export interface RunContext {
  /** The package's row that was in force: the newest with at most the version that the run was decided on. */
  readonly entitlement: Of<"mc.entitlement.changed"> | Of<"mc.entitlement.removed"> | null;
  /** Where a reviewed change made that version: its steps up to that one, in order. */
  readonly reviews: readonly Of<"mc.entitlement.reviewed">[];
  /** What the tenant's log says of the release up to the start, in order. */
  readonly release: readonly LoggedEvent[];
  /** The budget that was set last before the run reserved from it. */
  readonly budget: Of<"mc.privacy.budget_set"> | null;
  /** The last switch of each flag that bears on a run, before the start. */
  readonly flags: readonly Of<"mc.flag.changed">[];
}

/** Answers each query with events, the newest first. */
export type AskContext = (asked: ContextQuery[]) => Promise<readonly (readonly LoggedEvent[])[]>;

export async function selectContext({ started, reserved }: RunEvents, ask: AskContext): Promise<RunContext> {
  const { package: name, entitlement_version: version, release_sha256: release } = started.attributes;
  const startedAt = Date.parse(started.occurred_at);
  const budgetAt = reserved === null ? startedAt : Date.parse(reserved.occurred_at);
  const [entitlements = [], releases = [], budgets = [], ...flags] = await ask([
    { subject: subjects.entitlement(name), at: version, limit: 1 },
    { subject: subjects.release(release), at: startedAt, limit: reviewsMax },
    { subject: subjects.budget, at: budgetAt, limit: 1 },
    ...runFlags.map((flag) => ({ subject: subjects.flag(flag), at: startedAt, limit: 1 })),
  ]);
  const entitlement = (entitlements[0] ?? null) as RunContext["entitlement"];
  return {
    entitlement,
    reviews: entitlement === null ? [] : await reviewsOf(entitlement.attributes.entitlement_version, ask),
    release: releases.toReversed(),
    budget: (budgets[0] ?? null) as RunContext["budget"],
    flags: flags.flat() as Of<"mc.flag.changed">[],
  };
}

async function reviewsOf(version: number, ask: AskContext): Promise<Of<"mc.entitlement.reviewed">[]> {
  const [steps = []] = await ask([{ subject: subjects.entitlementVersion(version), at: version, limit: 1 }]);
  const step = steps[0] as Of<"mc.entitlement.reviewed"> | undefined;
  if (step === undefined) return [];
  const at = Date.parse(step.occurred_at);
  const subject = subjects.change(step.attributes.change_id);
  const [reviews = []] = await ask([{ subject, at, limit: reviewsMax }]);
  return reviews.toReversed() as Of<"mc.entitlement.reviewed">[];
}

/** Each once, in `seq` order. */
export function contextEvents({ entitlement, reviews, release, budget, flags }: RunContext): LoggedEvent[] {
  const all = [entitlement, ...reviews, ...release, budget, ...flags].filter((event) => event !== null);
  return [...new Map(all.map((event) => [event.seq, event])).values()].toSorted((left, right) => left.seq - right.seq);
}

/** Answers from events that are at hand, as the log answers from its index. */
export function askAmong(events: readonly LoggedEvent[]): AskContext {
  const places = events.flatMap((event) => contextPlaces(event as AuditEvent).map((place) => ({ ...place, event })));
  places.sort((left, right) => right.at - left.at || right.event.seq - left.event.seq);
  return (asked) =>
    Promise.resolve(
      asked.map(({ subject, at, limit }) =>
        places
          .filter((place) => place.subject === subject && place.at <= at)
          .slice(0, limit)
          .map(({ event }) => event),
      ),
    );
}
