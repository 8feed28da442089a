// Appending to a tenant's log: in one transaction each event gets its `seq`, `logged_at` and salt, its leaf is hashed
// and the tree grows; an event that came before adds nothing. Called by shared/audit/log.ts.

import { bytesEqual, hex, toBytes, utf8, type Bytes } from "../contract/bytes.ts";
import {
  canonicalJson,
  eventBytesMax,
  eventSources,
  eventText,
  eventTypes,
  type AuditEvent,
  type EventAttributes,
  type EventType,
} from "../contract/events.ts";
import { derivedId, idPattern } from "../contract/ids.ts";
import type { Log, Random, Sql } from "../contract/ports.ts";
import { anchorTenantId, headEventId, type AnchoredHead } from "./anchor-event.ts";
import { contextPlaces, exportSwitch } from "./context.ts";
import { hashLeaf, leafBody, saltBytes } from "./leaf.ts";
import { RowWriter } from "./row-writer.ts";
import { segmentRowsMax } from "./segment.ts";
import type { AppendResult, GapReport } from "./service.ts";
import { SourceCounts, takeMissing, type Missing } from "./sources.ts";
import { headFor, liveFrontier, setHead, storedFrontier, TileWriter, type Head } from "./tables.ts";
import { tileHeight } from "./tiles.ts";
import { appendLeafHash, type Frontier, type Sha256 } from "./tree.ts";

/** Salts come from one call, and `getRandomValues` gives 65,536 bytes a call. Retried messages do merge into more. */
export const appendEventsMax = 4_000;
/** How long a row waits for company before it is sealed: longest, and behind an urgent event. */
export const sealAgeMs = 1_000;
export const sealUrgentMs = 250;
/** With the flag audit_rt_export off everything waits for the end of its period, counted from 1970: each second minute. */
export const exportPeriodMs = 120_000;
export const periodEnd = (now: number): number => (Math.floor(now / exportPeriodMs) + 1) * exportPeriodMs;

/**
 * A source's clock that is further off than this is an alarm; its event is logged as it is, since `logged_at` is the log's own.
 * Behind: longer than the queue and the dead letters keep a message, 14 days each at most.
 */
export const clockOffMs = { ahead: 5 * 60_000, behind: 30 * 24 * 3_600_000 } as const;

export interface AppendParts {
  readonly sql: Sql;
  readonly sha256: Sha256;
  readonly log: Log;
}

export interface NewEvent {
  readonly event: AuditEvent;
  /** RFC 8785 text of `event`. */
  readonly text: string;
  /** The same in UTF-8: what the dedupe digest is over. */
  readonly bytes: Bytes;
}

/** Types that only the log itself writes: nobody may bring them from outside. */
export const ownTypes: readonly EventType[] = ["mc.receipt.signed", "mc.log.gap", "mc.log.head"];

/** Reads what an outbox made with `eventText`. Throws TypeError where it is not that, or not this tenant's. */
export function readNewEvent(text: string, tenantId: string): NewEvent {
  const event = JSON.parse(text) as AuditEvent;
  if (event.tenant_id !== tenantId) throw new TypeError("the event is another tenant's");
  if (ownTypes.includes(event.type)) throw new TypeError(`${event.type} is the log's own`);
  const bytes = utf8(text);
  if (bytes.length > eventBytesMax) throw new TypeError("the event is too large");
  return { event, text, bytes };
}

interface Seen {
  readonly seq: number;
  /** Of the event's text. */
  readonly digest: Bytes;
}

/** The ids that a log has had, as one transaction sees and adds to them: asked for many at a time. */
class SeenIds {
  readonly #sql: Sql;
  /** Ids that were looked up or added; null: no event has it. */
  readonly #known = new Map<string, Seen | null>();
  readonly #new: RowWriter;

  constructor(sql: Sql) {
    this.#sql = sql;
    this.#new = new RowWriter(sql, "seen", ["event_id", "seq", "sha256"]);
  }

  lookUp(asked: readonly string[]): void {
    const ids = asked.filter((id) => !this.#known.has(id));
    for (const id of ids) this.#known.set(id, null);
    const rows = this.#sql.exec<{ event_id: string; seq: number; sha256: ArrayBuffer | Uint8Array }>(
      "select event_id, seq, sha256 from seen where event_id in (select value from json_each(?))",
      JSON.stringify(ids),
    );
    for (const { event_id: id, seq, sha256 } of rows) this.#known.set(id, { seq, digest: toBytes(sha256) });
  }

  /** The event that has this id in the log; null where none has. */
  find(id: string): Seen | null {
    if (!this.#known.has(id)) this.lookUp([id]);
    return this.#known.get(id) ?? null;
  }

  add(id: string, seq: number, digest: Bytes): void {
    this.#known.set(id, { seq, digest });
    this.#new.add(id, seq, digest);
  }

  flush(): void {
    this.#new.flush();
  }
}

/** One open transaction's view of the log; `close` writes it back. Lives only inside `sql.transaction`. */
class Appender {
  readonly #parts: AppendParts;
  readonly #head: Head;
  readonly #frontier: Frontier;
  readonly #tiles: TileWriter;
  readonly #now: number;
  readonly #salts: Uint8Array;
  readonly #loggedAt: number;
  readonly #seen: SeenIds;
  readonly #leaves: RowWriter;
  readonly #executionRows: RowWriter;
  readonly #sources: SourceCounts;
  #sourceSeq: number;
  #sealDue: number | null;
  #periodic: 0 | 1;
  #periodicChangedAt: number;
  #saltsUsed = 0;
  #isChanged = false;
  readonly counts = { appended: 0, duplicates: 0, conflicts: 0 };

  constructor(parts: AppendParts, tenantId: string, now: number, salts: Uint8Array) {
    this.#parts = parts;
    this.#head = headFor(parts.sql, tenantId);
    this.#frontier = liveFrontier(this.#head);
    this.#tiles = new TileWriter(parts.sql);
    this.#now = now;
    this.#salts = salts;
    // A clock that went back does not take the log with it.
    this.#loggedAt = Math.max(now, this.#head.logged_at);
    this.#seen = new SeenIds(parts.sql);
    this.#leaves = new RowWriter(parts.sql, "leaves", ["seq", "salt", "body"]);
    this.#executionRows = new RowWriter(parts.sql, "execution_rows", ["execution_id", "seq"]);
    this.#sources = new SourceCounts(parts.sql, now);
    this.#sourceSeq = this.#head.audit_source_seq;
    this.#sealDue = this.#head.seal_due;
    this.#periodic = this.#head.periodic;
    this.#periodicChangedAt = this.#head.periodic_changed_at;
  }

  /** In their order. */
  addAll(events: readonly NewEvent[]): void {
    this.#seen.lookUp(events.map(({ event }) => event.id));
    for (const event of events) this.#add(event);
  }

  #add(fresh: NewEvent): void {
    const { event, bytes } = fresh;
    const digest = this.#parts.sha256(bytes);
    const known = this.#seen.find(event.id);
    if (known === null) {
      if (event.source_seq !== null) this.#sources.add(event.source, event.source_seq);
      this.#append(fresh, digest);
      this.counts.appended += 1;
    } else if (bytesEqual(known.digest, digest)) {
      this.counts.duplicates += 1;
    } else {
      this.#conflict(fresh, digest);
    }
  }

  /** Events of the log itself; where an id stands already, nothing happens. Answers their rows, in order. */
  addOwnAll<T extends EventType>(
    events: readonly { readonly id: string; readonly type: T; readonly attributes: EventAttributes<T> }[],
  ): number[] {
    this.#seen.lookUp(events.map(({ id }) => id));
    return events.map(({ id, type, attributes }) => this.addOwn(id, type, attributes));
  }

  /** As `addOwnAll`, of one. */
  addOwn<T extends EventType>(id: string, type: T, attributes: EventAttributes<T>): number {
    const known = this.#seen.find(id);
    if (known !== null) return known.seq;
    const seq = this.#frontier.size;
    const event: AuditEvent<T> = {
      id,
      tenant_id: this.#head.tenant_id,
      type,
      schema_version: 1,
      source: "audit",
      source_seq: this.#sourceSeq + 1,
      occurred_at: new Date(this.#now).toISOString(),
      principal: null,
      attributes,
    };
    const text = eventText(event);
    const bytes = utf8(text);
    this.#sourceSeq += 1;
    this.#append({ event, text, bytes }, this.#parts.sha256(bytes));
    return seq;
  }

  addGap(report: GapReport): boolean {
    this.#seen.lookUp(report.event_ids);
    const missing = report.event_ids.filter((id) => this.#seen.find(id) === null);
    const eventCount = missing.length + Math.max(0, report.event_count - report.event_ids.length);
    if (eventCount === 0) return false;
    const name = utf8(canonicalJson(["mc.log.gap", report.rule, report.message_sha256]));
    this.addOwn(derivedId("event", this.#parts.sha256(name)), "mc.log.gap", {
      rule: report.rule,
      event_count: eventCount,
      first_event_id: missing.find((id) => idPattern("event").test(id)) ?? null,
      message_sha256: report.message_sha256,
    });
    return true;
  }

  /** Numbers that a source counted and that never came. */
  addMissing({ source, from, to }: Missing): void {
    const digest = this.#parts.sha256(utf8(canonicalJson(["mc.log.gap", "source_counter", source, from, to])));
    this.addOwn(derivedId("event", digest), "mc.log.gap", {
      rule: "source_counter",
      event_count: to - from + 1,
      first_event_id: null,
      message_sha256: hex(digest),
    });
  }

  close(): void {
    if (!this.#isChanged) return;
    this.#leaves.flush();
    this.#seen.flush();
    this.#executionRows.flush();
    this.#tiles.flush();
    this.#sources.flush();
    setHead(this.#parts.sql, {
      size: this.#frontier.size,
      frontier: storedFrontier(this.#frontier),
      logged_at: this.#loggedAt,
      audit_source_seq: this.#sourceSeq,
      seal_due: this.#sealDue,
      periodic: this.#periodic,
      periodic_changed_at: this.#periodicChangedAt,
    });
  }

  #append({ event, text }: NewEvent, digest: Bytes): void {
    const { sql, sha256 } = this.#parts;
    const seq = this.#frontier.size;
    const salt = this.#salts.slice(this.#saltsUsed, this.#saltsUsed + saltBytes);
    if (salt.length !== saltBytes) throw new Error("out of salts");
    this.#saltsUsed += saltBytes;
    this.#checkClock(event);
    const body = leafBody(event, seq, this.#loggedAt, text);
    this.#leaves.add(seq, salt, body);
    this.#seen.add(event.id, seq, digest);
    const executionId = (event.attributes as { execution_id?: unknown }).execution_id;
    if (typeof executionId === "string") {
      this.#executionRows.add(executionId, seq);
    }
    this.#note(event, seq, salt, body);
    if (event.type === "mc.execution.finished") {
      sql.exec("insert into receipts_due (event_id, seq) values (?, ?)", event.id, seq);
    }
    appendLeafHash(sha256, this.#frontier, hashLeaf(sha256, salt, body), (height, index, hash) => {
      if (height % tileHeight === 0) this.#tiles.add(height / tileHeight, index, hash);
    });
    this.#isChanged = true;
    const age = eventTypes[event.type].urgent ? sealUrgentMs : sealAgeMs;
    this.#dueBy(this.#periodic === 1 ? periodEnd(this.#now) : this.#now + age);
    if (this.#frontier.size - (this.#head.pending_to ?? this.#head.sealed) >= segmentRowsMax) this.#dueBy(this.#now);
  }

  #checkClock({ id, tenant_id, source, occurred_at }: AuditEvent): void {
    const aheadMs = Date.parse(occurred_at) - this.#now;
    if (aheadMs <= clockOffMs.ahead && aheadMs >= -clockOffMs.behind) return;
    this.#parts.log("error", "a source's clock is far off", {
      alarm: true,
      tenant_id,
      source,
      event_id: id,
      ahead_ms: aheadMs,
    });
  }

  /** What packs of later runs ask for, and the log's own flag. Of two switches that came in the wrong order, the later one holds. */
  #note(event: AuditEvent, seq: number, salt: Uint8Array, body: string): void {
    const { sql } = this.#parts;
    const places = contextPlaces(event);
    for (const { subject, at } of places) {
      sql.exec("insert into context_rows (subject, at, seq) values (?, ?, ?)", subject, at, seq);
    }
    if (places.length > 0) sql.exec("insert into context_leaves (seq, salt, body) values (?, ?, ?)", seq, salt, body);
    const change = exportSwitch(event);
    if (change === null) return;
    // A clock that is ahead must not have the last word for ever.
    const at = Math.min(change.at, this.#loggedAt);
    if (at < this.#periodicChangedAt) return;
    this.#periodic = change.periodic;
    this.#periodicChangedAt = at;
  }

  #dueBy(time: number): void {
    this.#sealDue = this.#sealDue === null ? time : Math.min(this.#sealDue, time);
  }

  /** The same id with another content: kept aside, told once, never appended. */
  #conflict({ event, text }: NewEvent, digest: Bytes): void {
    this.counts.conflicts += 1;
    const kept = this.#parts.sql.exec(
      "insert into conflicts (event_id, sha256, body, at) values (?, ?, ?, ?) on conflict do nothing returning 1",
      event.id,
      digest,
      text,
      this.#now,
    );
    if (kept.length === 0) return;
    const name = utf8(canonicalJson(["mc.log.gap", "conflicting_event", event.id, hex(digest)]));
    this.addOwn(derivedId("event", this.#parts.sha256(name)), "mc.log.gap", {
      rule: "conflicting_event",
      event_count: 1,
      first_event_id: event.id,
      message_sha256: hex(digest),
    });
    this.#parts.log("error", "an event id came again with another content", {
      alarm: true,
      tenant_id: event.tenant_id,
      event_id: event.id,
    });
  }
}

function inTransaction<T>(
  parts: AppendParts,
  tenantId: string,
  now: number,
  salts: Uint8Array,
  work: (appender: Appender) => T,
): T {
  return parts.sql.transaction(() => {
    const appender = new Appender(parts, tenantId, now, salts);
    const result = work(appender);
    appender.close();
    return result;
  });
}

/** Appends in slices of at most 4,000, each in one transaction. When it returns, all are durable or were there. */
export function appendEvents(
  parts: AppendParts,
  tenantId: string,
  events: readonly NewEvent[],
  now: number,
  random: Random,
): AppendResult {
  const total = { appended: 0, duplicates: 0, conflicts: 0 };
  for (let at = 0; at < events.length; at += appendEventsMax) {
    const slice = events.slice(at, at + appendEventsMax);
    // A conflict takes a salt for its gap record, in the place of the event's own.
    const salts = random(slice.length * saltBytes);
    const counts = inTransaction(parts, tenantId, now, salts, (appender) => {
      appender.addAll(slice);
      return appender.counts;
    });
    total.appended += counts.appended;
    total.duplicates += counts.duplicates;
    total.conflicts += counts.conflicts;
  }
  return total;
}

/** Sets down that events were lost, unless all of them are in the log after all. Twice the same report is once. */
export function appendGap(
  parts: AppendParts,
  tenantId: string,
  report: GapReport,
  now: number,
  random: Random,
): boolean {
  return inTransaction(parts, tenantId, now, random(saltBytes), (appender) => appender.addGap(report));
}

/** Sets down which numbers of which sources never came; answers them. */
export function appendMissing(parts: AppendParts, tenantId: string, now: number, random: Random): Missing[] {
  const salts = random(eventSources.length * saltBytes);
  return inTransaction(parts, tenantId, now, salts, (appender) => {
    const missing = takeMissing(parts.sql, now);
    for (const one of missing) appender.addMissing(one);
    return missing;
  });
}

export interface SignedReceipt {
  readonly finishedEventId: string;
  readonly eventId: string;
  readonly attributes: EventAttributes<"mc.receipt.signed">;
}

/** Logs receipts and strikes their finished events off `receipts_due`, in one transaction. */
export function appendReceipts(
  parts: AppendParts,
  tenantId: string,
  receipts: readonly SignedReceipt[],
  now: number,
  random: Random,
): void {
  inTransaction(parts, tenantId, now, random(Math.max(1, receipts.length) * saltBytes), (appender) => {
    for (const { finishedEventId, eventId, attributes } of receipts) {
      const due = parts.sql.exec("delete from receipts_due where event_id = ? returning 1", finishedEventId);
      if (due.length > 0) appender.addOwn(eventId, "mc.receipt.signed", attributes);
    }
  });
}

/** Heads of tenants' logs, each once; answers their rows, in order. Only the anchor log takes them. */
export function appendHeads(
  parts: AppendParts,
  tenantId: string,
  heads: readonly AnchoredHead[],
  now: number,
  random: Random,
): number[] {
  if (tenantId !== anchorTenantId) throw new TypeError("heads go into the anchor log only");
  const seqs: number[] = [];
  for (let at = 0; at < heads.length; at += appendEventsMax) {
    const slice = heads.slice(at, at + appendEventsMax);
    const events = slice.map((head) => ({
      id: headEventId(parts.sha256, head),
      type: "mc.log.head" as const,
      attributes: { ...head },
    }));
    const salts = random(slice.length * saltBytes);
    seqs.push(...inTransaction(parts, tenantId, now, salts, (appender) => appender.addOwnAll(events)));
  }
  return seqs;
}
