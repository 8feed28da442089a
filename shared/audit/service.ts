// What the audit worker offers the API worker over its service binding, and what a tenant's log object offers the audit
// worker. Types only: workers/audit implements them, callers and tests hold them.

import type { AuditEvent } from "../contract/events.ts";
import type { Anchoring, PublishedKeys } from "../contract/http-audit.ts";
import type { AnchoredHead } from "./anchor-event.ts";

export type LogObjectKind = "segment" | "manifest" | "tile";

/** Entrypoint `AuditService` of maestro-audit. The disclosure calls are in shared/disclosure. */
export interface AuditServiceApi {
  /** The newest published checkpoint, a signed note; null where the tenant has no sealed row yet. */
  checkpoint(tenantId: string): Promise<string | null>;
  /** Up to `limit` (at most 1,000) sealed ranges `{from:020}-{to:020}` in order, strictly after `after`. */
  manifests(tenantId: string, after: string | null, limit: number): Promise<string[]>;
  /** `name`: a range for segments and manifests, a tlog-tiles path without `tile/` (`0/x001/067`, `0/000.p/12`) for tiles. */
  object(tenantId: string, kind: LogObjectKind, name: string): Promise<Uint8Array | null>;
  keys(): Promise<PublishedKeys>;
  /** Seals what the log has when this is called; resolves when it is durable in the bucket. */
  sealNow(tenantId: string): Promise<void>;
  /** Appends directly, past the queue; the same dedupe by event id. Events of one tenant or several. */
  record(events: AuditEvent[]): Promise<void>;
  /** The run's leaves in `seq` order. */
  eventsOf(tenantId: string, executionId: string): Promise<LeafRow[]>;
  /** Proves that leaf `seq` is in the newest published checkpoint; null where that does not cover it yet. */
  inclusionProof(tenantId: string, seq: number): Promise<InclusionProof | null>;
  /** Where heads of this log stand in the anchor log, cosigned, newest first; empty where no witness has cosigned yet. */
  anchorings(tenantId: string): Promise<Anchoring[]>;
}

/** The LogAnchor object, of which there is one. */
export interface LogAnchorApi {
  /** Appends the heads that have changed to the anchor log. Failures are logged, and made good the next time. */
  collect(): Promise<void>;
  /** Asks witnesses to cosign the anchor log's newest checkpoint, and puts copies into the bucket. Failures are logged. */
  cosign(): Promise<void>;
  anchorings(tenantId: string): Promise<Anchoring[]>;
}

export interface AppendResult {
  readonly appended: number;
  readonly duplicates: number;
  readonly conflicts: number;
}

/** A row of the log as it was hashed: leaf = salt ‖ body. */
export interface LeafRow {
  readonly seq: number;
  /** 16 bytes. */
  readonly salt: Uint8Array;
  /** RFC 8785 text of the event with `seq` and `logged_at`. */
  readonly body: string;
}

export interface ProvenLeaf {
  readonly leaf: LeafRow;
  /** Sibling hashes from the leaf up, RFC 6962. */
  readonly hashes: Uint8Array[];
}

export interface InclusionProof {
  readonly seq: number;
  readonly size: number;
  /** Sibling hashes from the leaf up, RFC 6962. */
  readonly hashes: Uint8Array[];
  /** The signed note of exactly this `size`. */
  readonly checkpoint: string;
}

/** Events that say what was in force for `subject` (see context.ts): the newest first, none after `at`. */
export interface ContextQuery {
  readonly subject: string;
  /** An entitlement version, or ms since 1970: what the subject is ordered by. */
  readonly at: number;
  readonly limit: number;
}

export interface ExportState {
  /** The flag audit_rt_export is off: what is logged is published at the end of each period. */
  readonly periodic: boolean;
  /** Rows that are published. */
  readonly sealed: number;
  /** When what is not published yet will be, in ms since 1970; null where all is. */
  readonly due: number | null;
}

/** Why events are missing: set down as `mc.log.gap` by the log itself. */
export interface GapReport {
  readonly rule: "dead_letter" | "unreadable_message" | "refused_event";
  /** Ids of the lost events, where they could be read; those that are in the log after all do not count. */
  readonly event_ids: readonly string[];
  /** All that were lost, at least as many as `event_ids`. */
  readonly event_count: number;
  readonly message_sha256: string;
}

/** The AuditLog object of one tenant; its name is the tenant id. */
export interface AuditLogApi {
  /** `events`: `eventText()` each, all of this tenant. Throws where one is not; nothing is appended then. */
  append(events: string[]): Promise<AppendResult>;
  recordGap(report: GapReport): Promise<void>;
  /** Of the anchor log only: appends `mc.log.head` events, a repeated head as nothing; answers their rows, in order. */
  appendHeads(heads: AnchoredHead[]): Promise<number[]>;
  checkpoint(): Promise<string | null>;
  sealNow(): Promise<void>;
  inclusionProof(seq: number): Promise<InclusionProof | null>;
  /** A leaf and its path in the tree of `size` leaves (at most the published size); null beyond. */
  provenLeaf(seq: number, size: number): Promise<ProvenLeaf | null>;
  /** Hashes that prove the tree of `size1` to be a prefix of that of `size2` (at most the published size); null beyond. */
  consistencyProof(size1: number, size2: number): Promise<Uint8Array[] | null>;
  /** Hashes of a tile within the published tree, at the width asked for; null beyond. */
  tile(level: number, index: number, width: number): Promise<Uint8Array | null>;
  eventsOf(executionId: string): Promise<LeafRow[]>;
  /** The leaves of these rows, in their order. Throws where one is not in the log. */
  leavesOf(seqs: number[]): Promise<LeafRow[]>;
  /** For each question the leaves that answer it. */
  context(asked: ContextQuery[]): Promise<LeafRow[][]>;
  /** Sibling hashes of each row in the tree of `size`; null where a row or the size is not published. */
  proofsAt(seqs: number[], size: number): Promise<Uint8Array[][] | null>;
  exportState(): Promise<ExportState>;
  /** Sealed ranges in order, strictly after `after`, at most `limit`. */
  ranges(after: string | null, limit: number): Promise<string[]>;
  /** The sealed ranges that hold these rows, each once. */
  rangesOf(seqs: number[]): Promise<string[]>;
  /**
   * For the cron: does what is overdue, and arms the alarm anew. True where nothing is left to do. `apiCounted`: how many of
   * the tenant's events the drain of Postgres' outbox has counted; null where it has counted none.
   */
  sweep(apiCounted: number | null): Promise<boolean>;
}
