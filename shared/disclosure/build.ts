// Builds the pack of a run, or finds the one that stands: gathers rows, proofs, context and manifests from the tenant's log,
// signs the index, and keeps the archive under the run's id, put if absent. Called by the audit worker.
//
// All of a pack is about one tree: the end of the sealed range that holds the last row that it needs. That range is fixed
// once it is sealed, so whoever builds, and whenever, finds the same rows and proofs; only the index's ECDSA signature
// differs, and of two packs the first one stored is the run's.
//
// What stands where after a crash, at each await:
//   reads, seal, sign     nothing of the pack; the next call does it again (what was sealed stays sealed)
//   put                   durable, put-if-absent: the first pack is the run's pack, whoever comes later serves that one

import { base64Bytes, sha256Hex, toBytes, utf8, utf8Text, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, type LoggedEvent, type SignedBundle } from "../contract/events.ts";
import type { PublishedKeys } from "../contract/http-audit.ts";
import type { Clock } from "../contract/ports.ts";
import { exportPeriodMs, periodEnd } from "../audit/append.ts";
import { parseRange, rangeName, type Range } from "../audit/layout.ts";
import { parseLeaf } from "../audit/leaf.ts";
import { manifestPredicate } from "../audit/manifest.ts";
import type { AuditLogApi, LeafRow } from "../audit/service.ts";
import type { Statement } from "../signing/statement.ts";
import {
  contextEvents,
  hasSettled,
  lastRow,
  runEvents,
  selectContext,
  type AskContext,
  type RunContext,
  type RunEvents,
} from "./context.ts";
import {
  indexName,
  packEventsMax,
  packFiles,
  packStatement,
  type PackFile,
  type PackParts,
  type PackRow,
  type PackVersion,
} from "./pack.ts";

/** The finish was answered, so its event is on its way: some 50 ms through drain and queue, where Retry-After costs 1,000. */
const arrivalMs = { every: 25, most: 1_000 } as const;
/** A seal takes a moment behind its due time. */
const sealingMs = 1_000;
const retrySeconds = 1;

export type PackLog = Pick<
  AuditLogApi,
  "sealNow" | "eventsOf" | "leavesOf" | "context" | "proofsAt" | "rangesOf" | "exportState"
>;

export interface StoredPack {
  readonly sha256: string;
  readonly bytes: number;
}

/** Where packs are kept. When `put` resolves, a pack is durable under the key: this one, or one that was there. */
export interface PackStore {
  find(key: string): Promise<StoredPack | null>;
  put(key: string, bytes: Bytes, sha256: string): Promise<"created" | "exists">;
}

export interface BuildParts {
  readonly clock: Clock;
  readonly sign: (statement: Statement) => Promise<SignedBundle>;
  readonly keys: PublishedKeys;
  readonly store: PackStore;
  log(tenantId: string): PackLog;
  manifest(tenantId: string, range: Range): Promise<Bytes | null>;
  /**
   * Rows of a run that the log's object has forgotten, by the index for questions. Hints only: the leaves are read from the
   * segments, and proven.
   */
  olderRows(tenantId: string, executionId: string): Promise<readonly number[]>;
  archive(files: readonly PackFile[]): Promise<Bytes>;
  pause(ms: number): Promise<void>;
}

export type Built =
  | { readonly state: "ready"; readonly version: PackVersion; readonly pack: StoredPack }
  | { readonly state: "building"; readonly retry_after_s: number };

export const packKey = (tenantId: string, executionId: string, version: PackVersion): string =>
  `${tenantId}/pack/v${version}/${executionId}.zip`;

/** The pack of a run that has ended, of the version that the tenant's log makes now. */
export async function findOrBuild(parts: BuildParts, tenantId: string, executionId: string): Promise<Built> {
  const log = parts.log(tenantId);
  const { periodic } = await log.exportState();
  const version: PackVersion = periodic ? 2 : 3;
  const key = packKey(tenantId, executionId, version);
  const known = await parts.store.find(key);
  if (known !== null) return { state: "ready", version, pack: known };
  const gathered = await gather(parts, log, tenantId, executionId, version);
  if (gathered === null) return { state: "building", retry_after_s: await waitSeconds(parts, log) };
  const files = packFiles(gathered);
  const index = await parts.sign(await packStatement(gathered, files));
  const bytes = await parts.archive([...files, { name: indexName, bytes: utf8(canonicalJson(index)) }]);
  const sha256 = await sha256Hex(bytes);
  if ((await parts.store.put(key, bytes, sha256)) === "created") {
    return { state: "ready", version, pack: { sha256, bytes: bytes.length } };
  }
  const first = await parts.store.find(key);
  if (first === null) throw new Error("a pack that stood is gone");
  return { state: "ready", version, pack: first };
}

/** Until when the log will have what a pack needs, as far as it knows. */
async function waitSeconds({ clock }: BuildParts, log: PackLog): Promise<number> {
  const { periodic, due } = await log.exportState();
  if (!periodic) return retrySeconds;
  const now = clock();
  // What has not arrived yet is sealed at the end of a period too.
  const at = Math.min(due ?? periodEnd(now), now + exportPeriodMs);
  return Math.max(retrySeconds, Math.ceil((at + sealingMs - now) / 1000));
}

interface Row {
  readonly leaf: LeafRow;
  readonly event: LoggedEvent;
}

const rowOf = (leaf: LeafRow): Row => {
  const parsed = parseLeaf(leaf.body);
  if (!parsed.ok) throw new Error(`leaf ${leaf.seq} of the log does not parse`);
  return { leaf, event: parsed.event };
};

/** Null while the log does not hold all that the pack needs under a published checkpoint. */
export async function gather(
  parts: BuildParts,
  log: PackLog,
  tenantId: string,
  executionId: string,
  version: PackVersion,
): Promise<PackParts | null> {
  const known = (await log.eventsOf(executionId)).map(rowOf);
  // The object knows all rows of a run or, where it ended long ago, only what came later.
  const older = known.some(({ event }) => event.type === "mc.execution.started")
    ? []
    : await olderRows(parts, log, tenantId, executionId);
  if (!(await haveArrived(parts, log, executionId, older))) return null;
  if (version === 3) await log.sealNow();
  const rows = await rowsOf(log, executionId, older);
  const run = runEvents(rows.map(({ event }) => event));
  if (run === null || run.receipt === null) return null;
  const context = version === 2 ? null : await contextOf(log, run);
  const around = context?.rows ?? [];
  const range = (await rangesOf(log, [Math.max(lastRow(run), ...around.map(({ event }) => event.seq))]))[0];
  if (range === undefined) return null;
  const treeSize = range.to;
  const own = rows.filter(({ event }) => event.seq < treeSize).slice(0, packEventsMax);
  const ranges = await rangesOf(
    log,
    [...own, ...around, { event: { seq: treeSize - 1 } }].map(({ event }) => event.seq),
  );
  const manifests = [];
  for (const of of ranges) {
    const bytes = await parts.manifest(tenantId, of);
    // A range is listed once its manifest is durable: this is no matter of waiting.
    if (bytes === null) throw new Error(`the manifest ${rangeName(of)} was published, and is gone`);
    manifests.push({ range: rangeName(of), bytes });
  }
  const events = version === 2 ? own.map(unproven) : await proven(log, own, treeSize);
  const contextRows = version === 2 ? [] : await proven(log, around, treeSize);
  if (events === null || contextRows === null) return null;
  return {
    version,
    tenantId,
    executionId,
    logOrigin: parts.keys.origin_prefix,
    treeSize,
    checkpoint: checkpointIn(manifests.at(-1)!.bytes),
    run,
    events,
    receipt: run.receipt.attributes.receipt,
    context: context?.context ?? null,
    contextRows,
    manifests,
    keys: parts.keys,
  };
}

const unproven = (row: Row): PackRow => ({ ...row, hashes: [] });

async function proven(log: PackLog, rows: readonly Row[], treeSize: number): Promise<PackRow[] | null> {
  const proofs = await log.proofsAt(
    rows.map(({ event }) => event.seq),
    treeSize,
  );
  if (proofs === null) return null;
  return rows.map((row, at) => ({ ...row, hashes: proofs[at]!.map((hash) => toBytes(hash)) }));
}

/** Waits a moment for events that are on their way. */
async function haveArrived(
  parts: BuildParts,
  log: PackLog,
  executionId: string,
  older: readonly Row[],
): Promise<boolean> {
  for (const end = parts.clock() + arrivalMs.most; ;) {
    const run = runEvents((await rowsOf(log, executionId, older)).map(({ event }) => event));
    if (run !== null && hasSettled(run, parts.clock())) return true;
    if (parts.clock() >= end) return false;
    await parts.pause(arrivalMs.every);
  }
}

/** In order, each once. */
async function rowsOf(log: PackLog, executionId: string, older: readonly Row[]): Promise<Row[]> {
  const known = (await log.eventsOf(executionId)).map(rowOf);
  const bySeq = new Map([...older, ...known].map((row) => [row.event.seq, row]));
  return [...bySeq.values()].toSorted((left, right) => left.event.seq - right.event.seq);
}

async function olderRows(parts: BuildParts, log: PackLog, tenantId: string, executionId: string): Promise<Row[]> {
  const seqs = await parts.olderRows(tenantId, executionId);
  if (seqs.length === 0) return [];
  return (await log.leavesOf([...seqs])).map(rowOf).filter(({ event }) => isOf(event, executionId));
}

const isOf = ({ attributes }: LoggedEvent, executionId: string): boolean =>
  (attributes as { execution_id?: unknown }).execution_id === executionId;

async function contextOf(log: PackLog, run: RunEvents): Promise<{ context: RunContext; rows: readonly Row[] }> {
  const rows = new Map<number, Row>();
  const ask: AskContext = async (asked) =>
    (await log.context(asked)).map((leaves) =>
      leaves.map((leaf) => {
        const row = rowOf(leaf);
        rows.set(row.event.seq, row);
        return row.event;
      }),
    );
  const context = await selectContext(run, ask);
  return { context, rows: contextEvents(context).map(({ seq }) => rows.get(seq)!) };
}

/** In order. */
async function rangesOf(log: PackLog, seqs: readonly number[]): Promise<Range[]> {
  const names = await log.rangesOf([...new Set(seqs)]);
  return names
    .map((name) => parseRange(name))
    .filter((range) => range !== null)
    .toSorted((left, right) => left.from - right.from);
}

/** The signed note in a manifest of ours. */
function checkpointIn(manifest: Bytes): string {
  const { dsseEnvelope } = JSON.parse(utf8Text(manifest)) as SignedBundle;
  const { predicate } = JSON.parse(utf8Text(base64Bytes(dsseEnvelope.payload))) as { predicate: unknown };
  return manifestPredicate.parse(predicate).checkpoint;
}
