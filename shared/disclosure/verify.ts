// Verifies a disclosure pack offline, against keys that the verifier trusts. Used by `maestro disclosure verify`.

import { hex, sha256Hex, utf8Text } from "../contract/bytes.ts";
import type { PublishedKeys } from "../contract/http-audit.ts";
import type { LoggedEvent } from "../contract/events.ts";
import { openCheckpoint, originOf, type Checkpoint } from "../audit/checkpoint.ts";
import { parseRange, type Range } from "../audit/layout.ts";
import { hashLeaf, parseLeaf } from "../audit/leaf.ts";
import { readManifest } from "../audit/manifest.ts";
import { parseProofFile } from "../audit/proof-file.ts";
import { receiptStatement, type FinishedEvent } from "../audit/receipt.ts";
import { verifyInclusion, type Sha256 } from "../audit/tree.ts";
import { verifyBundle } from "../signing/bundle.ts";
import { parseCanonical } from "../signing/canonical.ts";
import { checkpointKeys, keyFor } from "../signing/published.ts";
import { canonicalJson } from "../contract/events.ts";
import { readArchive } from "./archive.ts";
import { eventName, indexName, keysName, packPredicateType, proofName, readmeName, receiptName } from "./pack.ts";

/** A pack beyond this is refused unread. */
export const packBytesMax = 64 * 1024 * 1024;

export interface PackFacts {
  readonly tenant_id: string;
  readonly execution_id: string;
  readonly outcome: string;
  readonly event_count: number;
  /** Size of the largest tree that a checkpoint in the pack speaks of. */
  readonly tree_size: number;
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

async function checkPack(zip: Uint8Array, trusted: PublishedKeys, hash: Sha256): Promise<PackFacts> {
  const files = unpack(zip);
  const index = await checkIndex(files, trusted);
  const checkpoints = new Checkpoints(index.tenant_id, trusted);
  const events: LoggedEvent[] = [];
  for (const name of files.keys()) {
    if (!name.startsWith("events/") || !name.endsWith(".json")) continue;
    events.push(await checkEvent(files, name, index, checkpoints, hash));
  }
  if (events.length !== index.event_count)
    throw new Refusal("the number of events is not the one that was signed", indexName);
  const ranges = await checkManifests(files, index.tenant_id, trusted, checkpoints);
  for (const { seq } of events) {
    if (!ranges.some(({ from, to }) => from <= seq && seq < to)) {
      throw new Refusal("no manifest in the pack is about the segment that holds the event", eventName(seq));
    }
  }
  const outcome = await checkReceipt(files, events, trusted, hash);
  return {
    tenant_id: index.tenant_id,
    execution_id: index.execution_id,
    outcome,
    event_count: events.length,
    tree_size: checkpoints.size,
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
  readonly #keys: readonly Uint8Array[];
  readonly #roots = new Map<number, string>();

  constructor(tenantId: string, trusted: PublishedKeys) {
    this.#origin = originOf(trusted.origin_prefix, tenantId);
    this.#keys = checkpointKeys(trusted);
  }

  async open(note: string, file: string): Promise<Checkpoint> {
    const opened = await openCheckpoint(note, this.#origin, this.#keys);
    if (!opened.ok) throw new Refusal(opened.reason, file);
    const { size, root } = opened.checkpoint;
    const known = this.#roots.get(size);
    if (known !== undefined && known !== hex(root)) {
      throw new Refusal(`the log signed two different trees of ${size} entries`, file);
    }
    this.#roots.set(size, hex(root));
    return opened.checkpoint;
  }

  /** Of the largest tree. */
  get size(): number {
    return Math.max(0, ...this.#roots.keys());
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
  readonly tenant_id: string;
  readonly execution_id: string;
  readonly event_count: number;
}

async function checkIndex(files: Files, trusted: PublishedKeys): Promise<Index> {
  const verified = await verifyBundle(jsonOf(files, indexName), keyFor(trusted, "pack"));
  if (!verified.ok) throw new Refusal(verified.reason, indexName);
  const { subject, predicate, predicateType } = verified.statement;
  if (predicateType !== packPredicateType) throw new Refusal("the index is not one of a disclosure pack", indexName);
  for (const { name, digest } of subject) {
    if ((await sha256Hex(fileOf(files, name))) !== digest.sha256) throw new Refusal("the file was changed", name);
  }
  const named = new Set(subject.map(({ name }) => name));
  for (const name of files.keys()) {
    if (name !== indexName && !named.has(name)) throw new Refusal("the file is not in the index", name);
    if (!/^(?:events\/\d{20}\.(?:json|tlog-proof)|manifests\/\d{20}-\d{20}\.json)$/.test(name) && !topLevel.has(name)) {
      throw new Refusal("a pack has no such file", name);
    }
  }
  const { tenant_id, execution_id, event_count, log_origin } = predicate;
  if (
    typeof tenant_id !== "string" ||
    typeof execution_id !== "string" ||
    typeof event_count !== "number" ||
    typeof log_origin !== "string"
  ) {
    throw new Refusal("the index says too little", indexName);
  }
  if (log_origin !== trusted.origin_prefix) throw new Refusal("the pack is of another log", indexName);
  return { tenant_id, execution_id, event_count };
}

const topLevel: ReadonlySet<string> = new Set([indexName, receiptName, keysName, readmeName]);

async function checkEvent(
  files: Files,
  name: string,
  index: Index,
  checkpoints: Checkpoints,
  hash: Sha256,
): Promise<LoggedEvent> {
  const body = textOf(files, name);
  const parsed = parseLeaf(body);
  if (!parsed.ok) throw new Refusal(parsed.reason, name);
  const { event } = parsed;
  if (name !== eventName(event.seq)) throw new Refusal("the event has another place in the log", name);
  if (event.tenant_id !== index.tenant_id) throw new Refusal("the event is another tenant's", name);
  if (!("execution_id" in event.attributes) || event.attributes.execution_id !== index.execution_id) {
    throw new Refusal("the event is another run's", name);
  }
  const proofFileName = proofName(event.seq);
  const proof = parseProofFile(textOf(files, proofFileName));
  if (proof === null || proof.index !== event.seq) throw new Refusal("not a proof of this event", proofFileName);
  const { size, root } = await checkpoints.open(proof.checkpoint, proofFileName);
  const leaf = hashLeaf(hash, proof.salt, body);
  if (!verifyInclusion(hash, { index: event.seq, size, leaf, proof: proof.hashes, root })) {
    throw new Refusal("the proof does not lead from the event to the checkpoint", proofFileName);
  }
  return event;
}

/** The ranges that the pack's manifests are about. */
async function checkManifests(
  files: Files,
  tenantId: string,
  trusted: PublishedKeys,
  checkpoints: Checkpoints,
): Promise<Range[]> {
  const ranges: Range[] = [];
  for (const name of files.keys()) {
    const rangeText = /^manifests\/(.*)\.json$/.exec(name)?.[1];
    if (rangeText === undefined) continue;
    const range = parseRange(rangeText);
    if (range === null) throw new Refusal("not a range", name);
    const verified = await verifyBundle(jsonOf(files, name), keyFor(trusted, "manifest"));
    if (!verified.ok) throw new Refusal(verified.reason, name);
    const read = readManifest(verified.statement, tenantId, range);
    if (!read.ok) throw new Refusal(read.reason, name);
    await checkpoints.open(read.predicate.checkpoint, name);
    ranges.push(range);
  }
  return ranges;
}

/** The receipt must say what the log's finished event says, and be the one that the log holds. */
async function checkReceipt(
  files: Files,
  events: readonly LoggedEvent[],
  trusted: PublishedKeys,
  hash: Sha256,
): Promise<string> {
  const bundle = jsonOf(files, receiptName);
  const verified = await verifyBundle(bundle, keyFor(trusted, "receipt"));
  if (!verified.ok) throw new Refusal(verified.reason, receiptName);
  const finished = events.find((event): event is FinishedEvent => event.type === "mc.execution.finished");
  const logged = events.find((event) => event.type === "mc.receipt.signed");
  if (finished === undefined || logged === undefined) throw new Refusal("the log's end of the run is not in the pack");
  if (canonicalJson((logged.attributes as { receipt: unknown }).receipt) !== canonicalJson(bundle)) {
    throw new Refusal("the receipt is not the one in the log", receiptName);
  }
  const proof = parseProofFile(textOf(files, proofName(finished.seq)));
  const leaf = hashLeaf(hash, proof!.salt, textOf(files, eventName(finished.seq)));
  if (canonicalJson(receiptStatement(finished, leaf)) !== canonicalJson(verified.statement)) {
    throw new Refusal(`the receipt is not of the leaf ${hex(leaf)}`, receiptName);
  }
  return finished.attributes.outcome;
}
