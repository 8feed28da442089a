// A long log as the product writes it, in a folder laid out like the bucket, for what reads long logs: seeded runs with their
// receipts, hashed, sealed and signed by the product's own functions. Made once, then found again by its name. Called by
// measure-verify.ts and by hand: node scripts/bench/written-log.ts [ROWS] [ROWS_PER_SEAL].

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { originOf, signCheckpoint } from "../../shared/audit/checkpoint.ts";
import { hashLeaf, leafBody, saltBytes } from "../../shared/audit/leaf.ts";
import { manifestKey, parseRange, segmentKey, tileKey, type Range } from "../../shared/audit/layout.ts";
import { manifestStatement } from "../../shared/audit/manifest.ts";
import { receiptEventId, receiptStatement, type FinishedEvent } from "../../shared/audit/receipt.ts";
import { segmentRowsMax, writeSegment } from "../../shared/audit/segment.ts";
import { newestSchema } from "../../shared/audit/segment-schema.ts";
import type { LeafRow } from "../../shared/audit/service.ts";
import { tileHeight, tileWidth } from "../../shared/audit/tiles.ts";
import { appendLeafHash, emptyFrontier, rootOf, type OnNode } from "../../shared/audit/tree.ts";
import { concat, hex, sha256Hex, type Bytes } from "../../shared/contract/bytes.ts";
import {
  canonicalJson,
  type AuditEvent,
  type EventAttributes,
  type EventType,
  type LoggedEvent,
} from "../../shared/contract/events.ts";
import { newId } from "../../shared/contract/ids.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { newKeys, originPrefix, publishedKeysOf } from "../../test/simulation/audit-world.ts";
import { randomBytes, seeded, startTime, tenantId } from "../../test/simulation/audit-events.ts";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";

const seed = 1_904;
/** What the folders are called by: another way to make them needs another number. */
const madeAs = 1;

export interface WrittenLog {
  readonly folder: string;
  readonly tenantId: string;
  /** The key set that it is signed with, as `--keys` takes it. */
  readonly keysPath: string;
  readonly rows: number;
}

export interface WrittenLogOptions {
  readonly rows: number;
  /** How many rows wait for each other until they are sealed. */
  readonly rowsPerSeal?: number;
  readonly signal?: AbortSignal;
  readonly progress?: (words: string) => void;
}

/** In MAESTRO_CACHE, else in the folder for temporary files. */
const cacheFolder = (): string => process.env["MAESTRO_CACHE"] ?? join(tmpdir(), "maestro-cache");

export async function writtenLog({
  rows,
  rowsPerSeal = segmentRowsMax,
  signal,
  progress,
}: WrittenLogOptions): Promise<WrittenLog> {
  const name = `log-format${newestSchema}-made${madeAs}-seed${seed}-rows${rows}-by${rowsPerSeal}`;
  const folder = join(cacheFolder(), name);
  if (!existsSync(folder)) {
    const part = `${folder}.${process.pid}.part`;
    rmSync(part, { recursive: true, force: true });
    await writeLog(part, rows, rowsPerSeal, (words) => {
      signal?.throwIfAborted();
      progress?.(words);
    });
    renameSync(part, folder);
  }
  return { folder, tenantId, keysPath: join(folder, "keys.json"), rows: rowsIn(folder) };
}

function rowsIn(folder: string): number {
  const last = readdirSync(join(folder, tenantId, "manifest"))
    .toSorted()
    .at(-1);
  return parseRange(last?.slice(0, -".json".length) ?? "")?.to ?? 0;
}

/** Receipts that are being signed while further runs go on. */
const receiptsAtOnce = 8;

async function receiptOf(signer: Signer, finished: FinishedEvent, leaf: Bytes, sourceSeq: number): Promise<AuditEvent> {
  const { execution_id, package: name, version, channel, outcome } = finished.attributes;
  const receipt = await signStatement(signer, receiptStatement(finished, leaf));
  return {
    id: await receiptEventId(finished.id),
    tenant_id: tenantId,
    type: "mc.receipt.signed",
    schema_version: 1,
    source: "audit",
    source_seq: sourceSeq,
    occurred_at: finished.logged_at,
    principal: null,
    attributes: { execution_id, package: name, version, channel, outcome, receipt },
  };
}

/** One range after the other, by the functions with which shared/audit/{append,log,seal}.ts write it; what they keep for a
 * restart, this does not need. */
async function writeLog(
  folder: string,
  rows: number,
  rowsPerSeal: number,
  progress: (words: string) => void,
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const put = (key: string, bytes: Uint8Array | string): void => {
    mkdirSync(dirname(join(folder, key)), { recursive: true });
    writeFileSync(join(folder, key), bytes);
  };
  const keys = await newKeys();
  put("keys.json", JSON.stringify(publishedKeysOf(keys)));
  const next = seeded(seed);
  const runs = runEvents(next);
  const frontier = emptyFrontier();
  const tiles = new Map<number, Bytes[]>();
  const onNode: OnNode = (height, index, hash) => {
    if (height % tileHeight !== 0) return;
    const level = height / tileHeight;
    const hashes = tiles.get(level) ?? [];
    hashes.push(hash);
    tiles.set(level, hashes);
    if (hashes.length < tileWidth) return;
    put(tileKey(tenantId, { level, index: Math.floor(index / tileWidth), width: tileWidth }), concat(...hashes));
    tiles.set(level, []);
  };
  let now = startTime;
  let previous: Range | null = null;
  const due: Promise<AuditEvent>[] = [];
  let receipts = 0;
  const append = (event: AuditEvent, leaves: LeafRow[]): void => {
    const salt = randomBytes(next, saltBytes);
    const body = leafBody(event, frontier.size, now);
    leaves.push({ seq: frontier.size, salt, body });
    const leaf = hashLeaf(sha256, salt, body);
    if (event.type === "mc.execution.finished") {
      receipts += 1;
      due.push(receiptOf(keys.statement, JSON.parse(body) as FinishedEvent, leaf, receipts));
    }
    appendLeafHash(sha256, frontier, leaf, onNode);
  };
  while (frontier.size < rows) {
    const range: Range = { from: frontier.size, to: Math.min(rows, frontier.size + rowsPerSeal) };
    const leaves: LeafRow[] = [];
    while (frontier.size < range.to) {
      now += frontier.size % 2;
      append(due.length < receiptsAtOnce ? runs.next().value : await due.shift()!, leaves);
    }
    const segment = writeSegment({ tenantId, range, version: newestSchema }, leaves, gzip);
    put(segmentKey(tenantId, range), segment);
    const origin = originOf(originPrefix, tenantId);
    const root = rootOf(sha256, frontier);
    const checkpoint = await signCheckpoint(keys.checkpoint, { origin, size: range.to, root });
    const loggedAt = (leaf: LeafRow): string => (JSON.parse(leaf.body) as LoggedEvent).logged_at;
    const statement = manifestStatement({
      tenantId,
      range,
      previous,
      segment: { sha256: await sha256Hex(segment), byteCount: segment.length, schemaVersion: newestSchema },
      root,
      sealedAt: new Date(now).toISOString(),
      firstLoggedAt: loggedAt(leaves.at(0)!),
      lastLoggedAt: loggedAt(leaves.at(-1)!),
      checkpoint,
    });
    put(manifestKey(tenantId, range), canonicalJson(await signStatement(keys.statement, statement)));
    put(`${tenantId}/checkpoint`, checkpoint);
    previous = range;
    progress(`${range.to} rows of ${rows}`);
  }
}

const packages = [
  "tools/sbom-inventory",
  "tools/license-scan",
  "analytics/cohort-report",
  "etl/nightly-export",
] as const;
const versions = ["1.2.0", "1.2.1", "1.3.0-rc.1"] as const;

/** The events of run after run, without end: four of five are decided, paid for, started, finished; the others are denied. */
function* runEvents(next: () => number): Generator<AuditEvent, never> {
  const pick = <T>(of: readonly T[]): T => of[Math.floor(next() * of.length)]!;
  const digest = (): string => hex(sha256(randomBytes(next, 16)));
  const principals = Array.from({ length: 40 }, (_, at) => newId("principal", startTime - at, randomBytes(next, 10)));
  const releases = new Map(packages.flatMap((name) => versions.map((version) => [`${name}@${version}`, digest()])));
  const policy = digest();
  let at = startTime;
  const counts = { api: 0, privacy: 0 };
  function event<T extends EventType>(
    type: T,
    source: "api" | "privacy",
    principal: string | null,
    attributes: EventAttributes<T>,
  ): AuditEvent {
    at += Math.floor(next() * 4);
    counts[source] += 1;
    return {
      id: newId("event", at, randomBytes(next, 10)),
      tenant_id: tenantId,
      type,
      schema_version: 1,
      source,
      source_seq: source === "api" ? null : counts[source],
      occurred_at: new Date(at).toISOString(),
      principal,
      attributes,
    };
  }
  let remaining = 1_000_000_000;
  for (;;) {
    const principal = pick(principals);
    const run = {
      execution_id: newId("execution", at, randomBytes(next, 10)),
      package: pick(packages),
      version: pick(versions),
      channel: next() < 0.9 ? ("stable" as const) : ("canary" as const),
    };
    const isAllowed = next() < 0.8;
    const units = 1 + Math.floor(next() * 50);
    yield event("mc.policy.decision", "api", principal, {
      action: "execution.start",
      outcome: isAllowed ? "allow" : "deny",
      rule: isAllowed ? "ok" : pick(["not_entitled", "outside_window", "budget_exhausted"]),
      package: run.package,
      ...(isAllowed ? { execution_id: run.execution_id, units } : {}),
      policy_sha256: policy,
      input_sha256: digest(),
    });
    if (!isAllowed) continue;
    const execution = { execution_id: run.execution_id, units };
    remaining -= units;
    yield event("mc.privacy.reserved", "privacy", null, { ...execution, remaining_units: remaining });
    const work = {
      ...run,
      release_sha256: releases.get(`${run.package}@${run.version}`)!,
      input_sha256: next() < 0.7 ? digest() : null,
      units,
    };
    yield event("mc.execution.started", "api", principal, { ...work, entitlement_version: 3, policy_sha256: policy });
    const isGood = next() < 0.95;
    yield event("mc.execution.finished", "api", principal, {
      ...work,
      outcome: isGood ? "succeeded" : "failed",
      exit_code: isGood ? 0 : 1,
      output_sha256: isGood ? digest() : null,
      duration_ms: Math.floor(next() * 60_000),
    });
    yield event("mc.privacy.settled", "privacy", null, { ...execution, remaining_units: remaining });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [rows = "1000000", rowsPerSeal = String(segmentRowsMax)] = process.argv.slice(2);
  const made = await writtenLog({
    rows: Number(rows),
    rowsPerSeal: Number(rowsPerSeal),
    progress: (words) => void process.stderr.write(`\r${words}`),
  });
  process.stdout.write(`\n${JSON.stringify(made)}\n`);
}
