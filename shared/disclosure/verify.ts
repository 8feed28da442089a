// Verifies a disclosure pack offline, against keys that the verifier trusts. Used by `maestro disclosure verify`.

import { base64, hex, hexBytes, sha256Hex, utf8Text, type Bytes } from "../contract/bytes.ts";
import type { PublishedKeys } from "../contract/http-audit.ts";
import type { LoggedEvent } from "../contract/events.ts";
import { openCheckpoint, originOf, type Checkpoint } from "../audit/checkpoint.ts";
import { parseRange, type Range } from "../audit/layout.ts";
import { hashLeaf, parseLeaf } from "../audit/leaf.ts";
import { readManifest } from "../audit/manifest.ts";
import { parseProofFile } from "../audit/proof-file.ts";
import { receiptStatement } from "../audit/receipt.ts";
import { verifyInclusion, type Sha256 } from "../audit/tree.ts";
import { verifyBundle } from "../signing/bundle.ts";
import { parseCanonical } from "../signing/canonical.ts";
import { checkpointKeys, isInForce, keyFor } from "../signing/published.ts";
import type { Statement } from "../signing/statement.ts";
import { sha256Digest } from "../contract/names.ts";
import { canonicalJson } from "../contract/events.ts";
import { readArchive } from "./archive.ts";
import {
  askAmong,
  contextEvents,
  lastRow,
  runEvents,
  selectContext,
  type RunContext,
  type RunEvents,
} from "./context.ts";
import {
  appendices,
  budgetName,
  checkName,
  eventName,
  indexName,
  keysName,
  packPredicate,
  packPredicateType,
  proofName,
  readmeName,
  receiptName,
  reviewsName,
  type PackVersion,
  type RowFolder,
} from "./pack.ts";

/** A pack beyond this is refused unread. */
export const packBytesMax = 64 * 1024 * 1024;

export interface PackFacts {
  readonly pack_version: PackVersion;
  readonly tenant_id: string;
  readonly execution_id: string;
  readonly outcome: string;
  readonly event_count: number;
  /** Events that say what was in force. */
  readonly context_count: number;
  /** Size of the tree that the pack is about. */
  readonly tree_size: number;
  /** What a pack of this version cannot show, a sentence each. */
  readonly not_proven: readonly string[];
}
export type PackVerdict =
  | { readonly ok: true; readonly facts: PackFacts }
  | { readonly ok: false; readonly reason: string; readonly file: string | null };

class Refusal extends Error {
  readonly file: string | null;
  constructor(reason: string, file: string | null = null) {
    super(reason);
    this.file = file;
  }
}

/** `trusted` comes from elsewhere than the pack; its own keys.json proves nothing. */
export async function verifyPack(zip: Uint8Array, trusted: PublishedKeys, hash: Sha256): Promise<PackVerdict> {
  try {
    return { ok: true, facts: await checkPack(zip, trusted, hash) };
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, reason: error.message, file: error.file };
    throw error;
  }
}

/** Version 2 has no proofs. What it says is signed, and holds together; that is all. */
const notProven: Record<PackVersion, readonly string[]> = {
  2: [
    "that the events are in the log: a pack of version 2 has no proofs, so this is what its signer says",
    "that the receipt is of the log's own leaf: without the leaf's salt its hash cannot be computed",
    "which entitlement, budget and flags were in force: a pack of version 2 has no context and no appendices",
  ],
  3: [],
};

async function checkPack(zip: Uint8Array, trusted: PublishedKeys, hash: Sha256): Promise<PackFacts> {
  const files = unpack(zip);
  const index = await checkIndex(files, trusted);
  const { version } = index;
  const checkpoints = new Checkpoints(index.tenant_id, trusted);
  const check: Check = { files, index, checkpoints, hash, notes: new Map() };
  const events = await checkRows(check, "events");
  for (const event of events) {
    if (!("execution_id" in event.attributes) || event.attributes.execution_id !== index.execution_id) {
      throw new Refusal("the event is another run's", eventName(event.seq));
    }
  }
  const around = await checkRows(check, "context");
  const manifests = await checkManifests(files, index.tenant_id, trusted, checkpoints);
  for (const [folder, rows] of [
    ["events", events],
    ["context", around],
  ] as const) {
    for (const { seq } of rows) {
      if (seq >= index.tree_size) throw new Refusal("the entry is outside of the pack's tree", eventName(seq, folder));
      if (!manifests.some(({ range: { from, to } }) => from <= seq && seq < to)) {
        throw new Refusal("no manifest in the pack is about the segment that holds the event", eventName(seq, folder));
      }
    }
  }
  const last = manifests.find(({ range: { to } }) => to === index.tree_size);
  if (last === undefined) throw new Refusal("no manifest ends with the pack's tree");
  for (const [file, note] of check.notes) {
    if (note !== last.checkpoint) throw new Refusal("the proof's checkpoint is not the one in the manifest", file);
  }
  if (index.retired !== null && last.sealedAt > index.retired) {
    throw new Refusal("the pack is about a tree from after the time of the key that signed it", indexName);
  }
  const run = runEvents(events);
  if (run === null) throw new Refusal("start and end of the run are not both in the pack");
  if (lastRow(run) >= index.tree_size) throw new Refusal("the run ends outside of the pack's tree");
  const context = version === 2 ? null : await checkContext(files, run, around);
  checkClaims(index, run, context, events.length);
  const outcome = await checkReceipt(check, run, trusted);
  return {
    pack_version: version,
    tenant_id: index.tenant_id,
    execution_id: index.execution_id,
    outcome,
    event_count: events.length,
    context_count: around.length,
    tree_size: index.tree_size,
    not_proven: notProven[version],
  };
}

type Files = ReadonlyMap<string, Uint8Array>;

function unpack(zip: Uint8Array): Files {
  if (zip.length > packBytesMax) throw new Refusal("the pack is too large");
  const read = readArchive(zip);
  if (!read.ok) throw new Refusal(read.reason, read.file);
  return read.files;
}

/** Opens the checkpoints of one pack, and remembers them all: a log that shows two trees of one size shows two histories. */
class Checkpoints {
  readonly #origin: string;
  readonly #trusted: PublishedKeys;
  readonly #roots = new Map<number, string>();

  constructor(tenantId: string, trusted: PublishedKeys) {
    this.#origin = originOf(trusted.origin_prefix, tenantId);
    this.#trusted = trusted;
  }

  /** `sealedAt`: when it was signed, as its manifest says. */
  async open(note: string, file: string, sealedAt: string | null = null): Promise<Checkpoint> {
    const opened = await openCheckpoint(note, this.#origin, checkpointKeys(this.#trusted));
    if (!opened.ok) throw new Refusal(opened.reason, file);
    const spki = base64(opened.spki);
    const key = this.#trusted.keys.find((one) => one.use === "checkpoint" && one.spki === spki);
    if (key === undefined || (sealedAt !== null && !isInForce(key, sealedAt))) {
      throw new Refusal("the checkpoint is from before or after the time of the key that signed it", file);
    }
    const { size, root } = opened.checkpoint;
    const known = this.#roots.get(size);
    if (known !== undefined && known !== hex(root)) {
      throw new Refusal(`the log signed two different trees of ${size} entries`, file);
    }
    this.#roots.set(size, hex(root));
    return opened.checkpoint;
  }
}

function fileOf(files: Files, name: string): Uint8Array {
  const bytes = files.get(name);
  if (bytes === undefined) throw new Refusal("the file is missing", name);
  return bytes;
}

function textOf(files: Files, name: string): string {
  const bytes = fileOf(files, name);
  try {
    return utf8Text(bytes);
  } catch {
    throw new Refusal("the file is not UTF-8", name);
  }
}

function jsonOf(files: Files, name: string): unknown {
  const value = parseCanonical(textOf(files, name));
  if (value === undefined) throw new Refusal("the file is not canonical JSON (RFC 8785)", name);
  return value;
}

interface Index {
  readonly version: PackVersion;
  readonly tenant_id: string;
  readonly execution_id: string;
  readonly tree_size: number;
  readonly log_origin: string;
  /** When the key that signed the index was retired; null: it was not. */
  readonly retired: string | null;
  /** RFC 8785 text of all that it claims. */
  readonly claims: string;
}

const rowFiles = /^(?:events|context)\/\d{20}\.(?:json|tlog-proof)$/;
const plainRowFiles = /^events\/\d{20}\.json$/;
const manifestFiles = /^manifests\/\d{20}-\d{20}\.json$/;
const common = [indexName, receiptName, keysName, readmeName, checkName];
const named: Record<PackVersion, { readonly rows: RegExp; readonly others: readonly string[] }> = {
  2: { rows: plainRowFiles, others: common },
  3: { rows: rowFiles, others: [...common, budgetName, reviewsName] },
};

async function checkIndex(files: Files, trusted: PublishedKeys): Promise<Index> {
  const verified = await verifyBundle(jsonOf(files, indexName), keyFor(trusted, "pack"));
  if (!verified.ok) throw new Refusal(verified.reason, indexName);
  const { subject, predicate, predicateType } = verified.statement;
  const version = ([3, 2] as const).find((known) => packPredicateType(known) === predicateType);
  if (version === undefined)
    throw new Refusal("the index is not one of a disclosure pack of version 2 or 3", indexName);
  for (const { name, digest } of subject) {
    if ((await sha256Hex(fileOf(files, name))) !== digest.sha256) throw new Refusal("the file was changed", name);
  }
  const signed = new Set(subject.map(({ name }) => name));
  const { rows, others } = named[version];
  for (const name of files.keys()) {
    if (name !== indexName && !signed.has(name)) throw new Refusal("the file is not in the index", name);
    if (!rows.test(name) && !manifestFiles.test(name) && !others.includes(name)) {
      throw new Refusal("a pack has no such file", name);
    }
  }
  const { tenant_id, execution_id, tree_size, log_origin } = predicate;
  if (
    typeof tenant_id !== "string" ||
    typeof execution_id !== "string" ||
    typeof tree_size !== "number" ||
    typeof log_origin !== "string"
  ) {
    throw new Refusal("the index says too little", indexName);
  }
  if (log_origin !== trusted.origin_prefix) throw new Refusal("the pack is of another log", indexName);
  const retired = trusted.keys.find(({ kid, use }) => kid === verified.kid && use === "pack")?.not_after ?? null;
  return { version, tenant_id, execution_id, tree_size, log_origin, retired, claims: canonicalJson(predicate) };
}

interface Check {
  readonly files: Files;
  readonly index: Index;
  readonly checkpoints: Checkpoints;
  readonly hash: Sha256;
  /** The checkpoints of the proofs, by file. */
  readonly notes: Map<string, string>;
}

/** The entries in a folder, in order, each with its proof where the pack's version has proofs. */
async function checkRows(check: Check, folder: RowFolder): Promise<LoggedEvent[]> {
  const events: LoggedEvent[] = [];
  for (const name of check.files.keys()) {
    if (name.startsWith(`${folder}/`) && name.endsWith(".json")) events.push(await checkRow(check, name, folder));
  }
  return events.toSorted((left, right) => left.seq - right.seq);
}

async function checkRow(
  { files, index, checkpoints, hash, notes }: Check,
  name: string,
  folder: RowFolder,
): Promise<LoggedEvent> {
  const body = textOf(files, name);
  const parsed = parseLeaf(body);
  if (!parsed.ok) throw new Refusal(parsed.reason, name);
  const { event } = parsed;
  if (name !== eventName(event.seq, folder)) throw new Refusal("the event has another place in the log", name);
  if (event.tenant_id !== index.tenant_id) throw new Refusal("the event is another tenant's", name);
  if (index.version === 2) return event;
  const proofFileName = proofName(event.seq, folder);
  const proof = parseProofFile(textOf(files, proofFileName));
  if (proof === null || proof.index !== event.seq) throw new Refusal("not a proof of this event", proofFileName);
  const { size, root } = await checkpoints.open(proof.checkpoint, proofFileName);
  if (size !== index.tree_size) throw new Refusal("the proof is about another tree than the pack", proofFileName);
  notes.set(proofFileName, proof.checkpoint);
  const leaf = hashLeaf(hash, proof.salt, body);
  if (!verifyInclusion(hash, { index: event.seq, size, leaf, proof: proof.hashes, root })) {
    throw new Refusal("the proof does not lead from the event to the checkpoint", proofFileName);
  }
  return event;
}

/** The context must be what these very events select, and the appendices what they add up to. */
async function checkContext(files: Files, run: RunEvents, around: readonly LoggedEvent[]): Promise<RunContext> {
  const context = await selectContext(run, askAmong(around));
  const selected = new Set(contextEvents(context).map(({ seq }) => seq));
  for (const { seq } of around) {
    if (!selected.has(seq)) throw new Refusal("the entry was not in force for this run", eventName(seq, "context"));
  }
  for (const { name, bytes } of appendices(run, context)) {
    if (textOf(files, name) !== utf8Text(bytes)) {
      throw new Refusal("the appendix is not what the entries of the pack say", name);
    }
  }
  return context;
}

function checkClaims(index: Index, run: RunEvents, context: RunContext | null, eventCount: number): void {
  const expected = packPredicate({
    version: index.version,
    tenantId: index.tenant_id,
    executionId: index.execution_id,
    logOrigin: index.log_origin,
    treeSize: index.tree_size,
    run,
    context,
    eventCount,
  });
  if (canonicalJson(expected) !== index.claims) {
    throw new Refusal("the index claims something else than the files of the pack say", indexName);
  }
}

interface ReadManifestFile {
  readonly range: Range;
  readonly checkpoint: string;
  readonly sealedAt: string;
}

async function checkManifests(
  files: Files,
  tenantId: string,
  trusted: PublishedKeys,
  checkpoints: Checkpoints,
): Promise<ReadManifestFile[]> {
  const manifests: ReadManifestFile[] = [];
  for (const name of files.keys()) {
    const rangeText = /^manifests\/(.*)\.json$/.exec(name)?.[1];
    if (rangeText === undefined) continue;
    const range = parseRange(rangeText);
    if (range === null) throw new Refusal("not a range", name);
    const verified = await verifyBundle(jsonOf(files, name), keyFor(trusted, "manifest"));
    if (!verified.ok) throw new Refusal(verified.reason, name);
    const read = readManifest(verified.statement, tenantId, range);
    if (!read.ok) throw new Refusal(read.reason, name);
    const { sealed_at: sealedAt, checkpoint } = read.predicate;
    const key = trusted.keys.find(({ kid, use }) => kid === verified.kid && use === "manifest");
    if (key === undefined || !isInForce(key, sealedAt)) {
      throw new Refusal("the manifest is from before or after the time of the key that signed it", name);
    }
    await checkpoints.open(checkpoint, name, sealedAt);
    manifests.push({ range, checkpoint, sealedAt });
  }
  return manifests;
}

/** The receipt must say what the log's finished event says, and be the one that the log holds. */
async function checkReceipt(
  { files, index, hash }: Check,
  { finished, receipt }: RunEvents,
  trusted: PublishedKeys,
): Promise<string> {
  const bundle = jsonOf(files, receiptName);
  const verified = await verifyBundle(bundle, keyFor(trusted, "receipt"));
  if (!verified.ok) throw new Refusal(verified.reason, receiptName);
  if (receipt === null) throw new Refusal("the log's end of the run is not in the pack");
  if (canonicalJson(receipt.attributes.receipt) !== canonicalJson(bundle)) {
    throw new Refusal("the receipt is not the one in the log", receiptName);
  }
  const leaf = index.version === 2 ? leafNamedIn(verified.statement) : leafIn(files, finished.seq, hash);
  if (canonicalJson(receiptStatement(finished, leaf)) !== canonicalJson(verified.statement)) {
    throw new Refusal(`the receipt is not of the leaf ${hex(leaf)}`, receiptName);
  }
  return finished.attributes.outcome;
}

const leafIn = (files: Files, seq: number, hash: Sha256): Bytes =>
  hashLeaf(hash, parseProofFile(textOf(files, proofName(seq)))!.salt, textOf(files, eventName(seq)));

/** Without a salt the receipt's own word for it: the rest of the receipt is compared all the same. */
function leafNamedIn({ predicate }: Statement): Bytes {
  const finished = predicate["finished_event"] as { readonly leaf_sha256?: unknown } | undefined;
  const digest = sha256Digest.safeParse(finished?.leaf_sha256);
  if (!digest.success) throw new Refusal("the receipt names no leaf", receiptName);
  return hexBytes(digest.data);
}
