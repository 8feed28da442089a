// One tenant's log: the core of the AuditLog object, over its SQLite, a bucket and the rows' store. It decides what is
// due and does it; the object (durable-objects/audit-log.ts) supplies hands and alarm, simulations supply faults.
// The order of effects and what stands where after a crash: docs/audit/RECOVERY.md.

import type { Bytes } from "../contract/bytes.ts";
import type { CountReport } from "../contract/event-counts.ts";
import type { AuditEvent, EventColumns, LoggedEvent } from "../contract/events.ts";
import type { Clock, Random } from "../contract/ports.ts";
import { signStatement } from "../signing/bundle.ts";
import type { Signer } from "../signing/keys.ts";
import type { AnchoredHead } from "./anchor-event.ts";
import {
  appendEvents,
  appendGap,
  appendHeads,
  appendMissing,
  appendReceipts,
  readNewEvent,
  type SignedReceipt,
} from "./append.ts";
import { countIndexed, hoursDue, planHours, setTold, takeSealed, untold, type SealedHours } from "./hours.ts";
import { hashLeaf, leafColumns } from "./leaf.ts";
import { parseRange, rangeName, segmentKey } from "./layout.ts";
import { consistencyProof, inclusionProof, inclusionProofs } from "./proofs.ts";
import { receiptEventId, receiptStatement, type FinishedEvent } from "./receipt.ts";
import { LogFault, prune, readTile, sealOnce, type SealParts } from "./seal.ts";
import { readLeaves as readStoredLeaves } from "./segment.ts";
import type { SegmentSchemaVersion } from "./segment-schema.ts";
import type {
  AppendResult,
  ContextQuery,
  ExportState,
  GapReport,
  InclusionProof,
  LeafRow,
  ProvenLeaf,
} from "./service.ts";
import { expectCounted, missingDue } from "./sources.ts";
import { headFor, leavesEnd, openTables, readContext, readHead, readLeaves, setHead, type Head } from "./tables.ts";
import { widthAt } from "./tiles.ts";

/** Where the rows go for questions. */
export interface EventRows {
  /** When it resolves, all of them are durable, each once by (tenant_id, seq). */
  write(rows: readonly EventColumns[]): Promise<void>;
  /**
   * Seals hours before `to`: some at a time, so that it is called again from where it answers. `from`: what it answered before.
   * Every row logged before `to` was written, and none will be logged there. When it resolves, what it answers is durable.
   */
  seal(tenantId: string, hours: { readonly from: number | null; readonly to: number }): Promise<SealedHours>;
}

/** Who prices questions by the rows that there are. */
interface Meter {
  report(tenantId: string, report: CountReport): Promise<void>;
}

export interface LogParts extends SealParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly rows: EventRows;
  readonly meter: Meter;
}

const receiptsMax = 100;
const indexRowsMax = 5_000;
const indexCharactersMax = 4 * 1024 * 1024;
/** Seals of one alarm; what is left has the next one. */
const sealsMax = 20;
const sealNowRoundsMax = 10_000;
/** Calls that seal hours, of one alarm; an old history has the next one. */
const hourRoundsMax = 20;
/** Reports of one alarm; what is left goes with the next one. */
const reportsMax = 100;
const executionRowsMax = 1_000;
/** Rows, proofs or questions that one call may ask for. */
const askedMax = 2_000;
/** After so many failures in a row someone has to look. */
const alarmFailures = 5;
const retryMs = { first: 250, most: 60_000 };

type Work = "seal" | "receipt" | "index" | "hours";

export class TenantLog {
  readonly #parts: LogParts;
  #sealing: Promise<unknown> = Promise.resolve();
  #isIndexing = false;
  #isSealingHours = false;
  #isTelling = false;

  constructor(parts: LogParts) {
    this.#parts = parts;
    openTables(parts.sql);
  }

  /** All or, where one event is not of this tenant's or not an event at all, none. Durable when it returns. */
  append(tenantId: string, texts: readonly string[]): AppendResult {
    const events = texts.map((text) => readNewEvent(text, tenantId));
    return appendEvents(this.#parts, tenantId, events, this.#parts.clock(), this.#parts.random);
  }

  recordGap(tenantId: string, report: GapReport): void {
    const isNew = appendGap(this.#parts, tenantId, report, this.#parts.clock(), this.#parts.random);
    if (isNew) this.#parts.log("error", "events were lost", { alarm: true, tenant_id: tenantId, rule: report.rule });
  }

  /** How far a source has counted, whether or not its events came. */
  expectCounted(tenantId: string, source: AuditEvent["source"], counted: number): void {
    const { sql, clock } = this.#parts;
    sql.transaction(() => {
      // Also where none of them ever came, and the log is empty.
      headFor(sql, tenantId);
      expectCounted(sql, source, counted, clock());
    });
  }

  /** Heads of other logs, for the anchor log; their rows, in order. Durable when it returns. */
  appendHeads(tenantId: string, heads: readonly AnchoredHead[]): number[] {
    return appendHeads(this.#parts, tenantId, heads, this.#parts.clock(), this.#parts.random);
  }

  /** When there is next something to do, in ms since 1970; null where nothing is left. Follows from the tables alone. */
  nextDue(): number | null {
    const head = readHead(this.#parts.sql);
    if (head === null) return null;
    const now = this.#parts.clock();
    const times = this.#logDue(head, now);
    const hours = this.#isSealingHours ? null : hoursDue(this.#parts.sql, head, now);
    if (hours !== null) times.push(Math.max(hours, head.hours_retry_at ?? 0));
    return times.length === 0 ? null : Math.min(...times);
  }

  /** Of all but the hours, which wait for their end. */
  #logDue(head: Head, now: number): number[] {
    const times: number[] = [];
    if (head.pending_to !== null) times.push(head.seal_retry_at ?? now);
    else if (head.seal_due !== null && head.size > head.sealed)
      times.push(Math.max(head.seal_due, head.seal_retry_at ?? 0));
    if (this.#receiptsDue().length > 0) times.push(head.receipt_retry_at ?? now);
    if (head.indexed < head.sealed && !this.#isIndexing) times.push(head.index_retry_at ?? now);
    const missing = missingDue(this.#parts.sql);
    if (missing !== null) times.push(missing);
    return times;
  }

  /** True where every row is sealed, indexed and has its receipt; the hour may still be open. */
  isIdle(): boolean {
    const head = readHead(this.#parts.sql);
    return head === null || (this.#logDue(head, this.#parts.clock()).length === 0 && head.indexed === head.size);
  }

  /** The alarm's work: receipts, then what wants to be sealed. Failures are logged and set down with a time to retry. */
  runDue(): Promise<void> {
    return this.#alone(async () => {
      this.#tellMissing();
      await this.#attempt("receipt", () => this.#signReceipts());
      await this.#attempt("seal", async () => {
        for (let seals = 0; seals < sealsMax; seals += 1) {
          if (!(await sealOnce(this.#parts, this.#parts.clock(), false))) return;
        }
      });
    });
  }

  #tellMissing(): void {
    const { sql, clock, random, log } = this.#parts;
    const head = readHead(sql);
    const due = missingDue(sql);
    if (head === null || due === null || due > clock()) return;
    for (const { source, from, to } of appendMissing(this.#parts, head.tenant_id, clock(), random)) {
      log("error", "events that a source counted never came", {
        alarm: true,
        tenant_id: head.tenant_id,
        source,
        from,
        to,
      });
    }
  }

  /** Signs what is due and seals what the log has then; throws where that cannot be done now. */
  sealNow(): Promise<void> {
    return this.#alone(async () => {
      await this.#signReceipts();
      this.#succeeded("receipt");
      const target = readHead(this.#parts.sql)?.size ?? 0;
      for (let round = 0; round < sealNowRoundsMax; round += 1) {
        if ((readHead(this.#parts.sql)?.sealed ?? 0) >= target) return;
        await sealOnce(this.#parts, this.#parts.clock(), true);
      }
    });
  }

  /** Writes the sealed rows that Postgres does not have yet. Apart from sealing, so that an outage there holds nothing up. */
  async index(): Promise<void> {
    if (this.#isIndexing) return;
    this.#isIndexing = true;
    try {
      await this.#attempt("index", async () => {
        for (
          let head = readHead(this.#parts.sql);
          head !== null && head.indexed < head.sealed;
          head = readHead(this.#parts.sql)
        ) {
          await this.#indexSome(head);
        }
      });
    } finally {
      this.#isIndexing = false;
    }
  }

  /** Seals the hours that are over in Postgres. Apart from indexing, so that neither waits for the other's failures. */
  async sealHours(): Promise<void> {
    if (this.#isSealingHours) return;
    this.#isSealingHours = true;
    try {
      await this.#attempt("hours", async () => {
        const { sql, rows, clock } = this.#parts;
        for (let round = 0; round < hourRoundsMax; round += 1) {
          const hours = sql.transaction(() => planHours(sql, clock()));
          if (hours === null) return;
          const sealed = await rows.seal(hours.tenant_id, { from: hours.from, to: hours.to });
          sql.transaction(() => takeSealed(sql, sealed));
        }
      });
    } finally {
      this.#isSealingHours = false;
    }
  }

  /** Tells the meter what has changed. Where it does not answer, it is told with what changes next: nothing waits for it. */
  async tellMeter(): Promise<void> {
    if (this.#isTelling) return;
    this.#isTelling = true;
    const { sql, meter, log } = this.#parts;
    try {
      for (let reports = 0; reports < reportsMax; reports += 1) {
        const next = untold(sql);
        if (next === null) return;
        await meter?.report(next.tenant_id, next.report);
        sql.transaction(() => setTold(sql, next.report));
      }
    } catch (error) {
      log("warn", "the meter was not told how many rows there are", { error: errorNames(error) });
    } finally {
      this.#isTelling = false;
    }
  }

  checkpoint(): string | null {
    return readHead(this.#parts.sql)?.checkpoint ?? null;
  }

  ranges(after: string | null, limit: number): string[] {
    const start = after === null ? -1 : (parseRange(after)?.from ?? Number.MAX_SAFE_INTEGER);
    return this.#parts.sql
      .exec<{ from_seq: number; to_seq: number }>(
        "select from_seq, to_seq from ranges where from_seq > ? order by from_seq limit ?",
        start,
        Math.max(1, Math.min(limit, 1_000)),
      )
      .map(({ from_seq: from, to_seq: to }) => rangeName({ from, to }));
  }

  /** The sealed ranges that hold these rows, each once. */
  rangesOf(seqs: readonly number[]): string[] {
    const names = seqs.flatMap((seq) =>
      this.#parts.sql.exec<{ from_seq: number; to_seq: number }>(
        "select from_seq, to_seq from (select * from ranges where from_seq <= ? order by from_seq desc limit 1) where to_seq > ?",
        seq,
        seq,
      ),
    );
    return [...new Set(names.map(({ from_seq: from, to_seq: to }) => rangeName({ from, to })))];
  }

  async inclusionProof(seq: number): Promise<InclusionProof | null> {
    const head = readHead(this.#parts.sql);
    if (head === null || head.checkpoint === null || !Number.isSafeInteger(seq) || seq < 0 || seq >= head.sealed)
      return null;
    const hashes = await inclusionProof(this.#parts.sha256, this.#tileReader(head), seq, head.sealed);
    return { seq, size: head.sealed, hashes, checkpoint: head.checkpoint };
  }

  async provenLeaf(seq: number, size: number): Promise<ProvenLeaf | null> {
    const { sql, sha256 } = this.#parts;
    const head = readHead(sql);
    if (head === null || !Number.isSafeInteger(seq) || !Number.isSafeInteger(size)) return null;
    if (seq < 0 || seq >= size || size > head.sealed) return null;
    const kept = readLeaves(sql, { from: seq, to: seq + 1 })[0];
    const leaf = kept ?? (await this.#segmentWith(seq)).find((row) => row.seq === seq);
    if (leaf === undefined) throw new LogFault(`row ${seq} is neither in the object nor in its segment`);
    return { leaf, hashes: await inclusionProof(sha256, this.#tileReader(head), seq, size) };
  }

  /** Sibling hashes of each row in the tree of `size`; null where a row or the size is not published. */
  async proofsAt(seqs: readonly number[], size: number): Promise<Bytes[][] | null> {
    const head = readHead(this.#parts.sql);
    if (head === null || !Number.isSafeInteger(size) || size > head.sealed || seqs.length > askedMax) return null;
    if (seqs.some((seq) => !Number.isSafeInteger(seq) || seq < 0 || seq >= size)) return null;
    return await inclusionProofs(this.#parts.sha256, this.#tileReader(head), seqs, size);
  }

  /** How this log exports now, and until when what it has will be published. */
  exportState(): ExportState {
    const head = readHead(this.#parts.sql);
    if (head === null) return { periodic: false, sealed: 0, due: null };
    const due = head.sealed === head.size ? null : Math.max(head.seal_due ?? 0, head.seal_retry_at ?? 0);
    return { periodic: head.periodic === 1, sealed: head.sealed, due };
  }

  /** For each question the events that it is about, the newest first. Rows from before this index was kept are not found. */
  context(asked: readonly ContextQuery[]): LeafRow[][] {
    if (asked.length > askedMax) throw new RangeError("too many questions");
    return asked.map((query) => readContext(this.#parts.sql, query));
  }

  async consistencyProof(size1: number, size2: number): Promise<Bytes[] | null> {
    const head = readHead(this.#parts.sql);
    if (head === null || !Number.isSafeInteger(size1) || !Number.isSafeInteger(size2)) return null;
    if (size1 < 1 || size1 > size2 || size2 > head.sealed) return null;
    return await consistencyProof(this.#parts.sha256, this.#tileReader(head), size1, size2);
  }

  async tile(level: number, index: number, width: number): Promise<Bytes | null> {
    const head = readHead(this.#parts.sql);
    if (head === null || width < 1 || width > widthAt(level, index, head.sealed)) return null;
    return await this.#tileReader(head)({ level, index, width });
  }

  /**
   * The run's leaves in `seq` order, from the object while they are there, else from their segments. Of a run that ended long
   * ago the object has forgotten the rows: none, or only what came later.
   */
  async eventsOf(executionId: string): Promise<LeafRow[]> {
    const rows = this.#parts.sql.exec<{ seq: number }>(
      "select seq from execution_rows where execution_id = ? order by seq limit ?",
      executionId,
      executionRowsMax,
    );
    return await this.leavesOf(rows.map(({ seq }) => seq));
  }

  /** The leaves of these rows, in their order. Throws where one is not in the log. */
  async leavesOf(seqs: readonly number[]): Promise<LeafRow[]> {
    const { sql } = this.#parts;
    if (seqs.length > askedMax) throw new RangeError("too many rows");
    const leaves: LeafRow[] = [];
    let segment: LeafRow[] = [];
    for (const seq of seqs) {
      const [kept] = readLeaves(sql, { from: seq, to: seq + 1 });
      if (kept === undefined && !segment.some((row) => row.seq === seq)) segment = await this.#segmentWith(seq);
      const leaf = kept ?? segment.find((row) => row.seq === seq);
      if (leaf === undefined) throw new LogFault(`row ${seq} is neither in the object nor in its segment`);
      leaves.push(leaf);
    }
    return leaves;
  }

  async #segmentWith(seq: number): Promise<LeafRow[]> {
    const { sql, bucket, gzip } = this.#parts;
    const head = readHead(sql);
    const [row] = sql.exec<{ from_seq: number; to_seq: number; schema_version: SegmentSchemaVersion }>(
      "select from_seq, to_seq, schema_version from ranges where from_seq <= ? order by from_seq desc limit 1",
      seq,
    );
    if (head === null || row === undefined) return [];
    const range = { from: row.from_seq, to: row.to_seq };
    const bytes = await bucket.get(segmentKey(head.tenant_id, range));
    if (bytes === null) throw new LogFault(`the segment ${rangeName(range)} is missing`);
    const read = await readStoredLeaves({ tenantId: head.tenant_id, range, version: row.schema_version }, bytes, gzip);
    if (!read.ok) throw new LogFault(`the segment ${rangeName(range)}: ${read.reason}`);
    return read.leaves;
  }

  #tileReader = (head: Head) => (tile: { level: number; index: number; width: number }) =>
    readTile(this.#parts, head.tenant_id, tile);

  #receiptsDue(): { event_id: string; seq: number }[] {
    return this.#parts.sql.exec("select event_id, seq from receipts_due order by seq limit ?", receiptsMax);
  }

  async #signReceipts(): Promise<void> {
    const { sql, clock, random, signed } = this.#parts;
    for (let due = this.#receiptsDue(); due.length > 0; due = this.#receiptsDue()) {
      const head = readHead(sql);
      if (head === null) return;
      const receipts = await signed(clock(), ({ statement: signer }) =>
        Promise.all(due.map((one) => this.#receiptOf(signer, one))),
      );
      appendReceipts(this.#parts, head.tenant_id, receipts, clock(), random);
    }
  }

  async #receiptOf(signer: Signer, due: { readonly event_id: string; readonly seq: number }): Promise<SignedReceipt> {
    const { sql, sha256 } = this.#parts;
    const [leaf] = readLeaves(sql, { from: due.seq, to: due.seq + 1 });
    if (leaf === undefined) throw new LogFault(`row ${due.seq} waits for a receipt, and is gone`);
    const finished = JSON.parse(leaf.body) as FinishedEvent;
    const statement = receiptStatement(finished, hashLeaf(sha256, leaf.salt, leaf.body));
    const { execution_id, package: name, version, channel, outcome } = finished.attributes;
    const receipt = await signStatement(signer, statement);
    return {
      finishedEventId: due.event_id,
      eventId: await receiptEventId(due.event_id),
      attributes: { execution_id, package: name, version, channel, outcome, receipt },
    };
  }

  async #indexSome(head: Head): Promise<void> {
    const { sql, rows, clock } = this.#parts;
    const to = leavesEnd(sql, { from: head.indexed, to: head.sealed }, indexRowsMax, indexCharactersMax);
    if (to === null) throw new LogFault(`a row behind row ${head.indexed} is gone before it was indexed`);
    const leaves = readLeaves(sql, { from: head.indexed, to });
    const columns = leaves.map(({ body }) => leafColumns(body, JSON.parse(body) as LoggedEvent));
    await rows.write(columns);
    sql.transaction(() => {
      setHead(sql, { indexed: to, indexed_to: Date.parse(columns.at(-1)!.logged_at) });
      countIndexed(sql, columns);
      prune(sql, clock());
    });
  }

  /** One after the other: sealing is never two at once, whoever asks. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#sealing.then(work, work);
    this.#sealing = result.catch(() => undefined);
    return result;
  }

  #succeeded(work: Work): void {
    const { sql } = this.#parts;
    if ((readHead(sql)?.[`${work}_failures`] ?? 0) > 0) {
      setHead(sql, { [`${work}_failures`]: 0, [`${work}_retry_at`]: null });
    }
  }

  async #attempt(work: Work, effect: () => Promise<void>): Promise<void> {
    const { sql, clock, log } = this.#parts;
    const before = readHead(sql);
    if (before === null) return;
    const retryAt = before[`${work}_retry_at`];
    if (retryAt !== null && retryAt > clock()) return;
    try {
      await effect();
      this.#succeeded(work);
    } catch (error) {
      // Read again: a part of the work may have succeeded, and that ended the row of failures before this one.
      const failures = (readHead(sql) ?? before)[`${work}_failures`] + 1;
      setHead(sql, {
        [`${work}_failures`]: failures,
        [`${work}_retry_at`]: clock() + Math.min(retryMs.most, retryMs.first * 2 ** Math.min(failures - 1, 16)),
      });
      log("error", "work on the log failed, will try again", {
        tenant_id: before.tenant_id,
        work,
        failures,
        alarm: failures >= alarmFailures,
        // Other messages may quote a payload.
        error: error instanceof LogFault ? `${error.name}: ${error.message}` : errorNames(error),
      });
    }
  }
}

function errorNames(error: unknown): string {
  const names: string[] = [];
  for (let at = error; at instanceof Error && names.length < 8; at = at.cause) names.push(at.name);
  return names.join(" < ") || typeof error;
}
