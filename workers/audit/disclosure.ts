// Disclosure on the audit worker's side: gathers a run's leaves, proofs and manifests into a pack, signs its index, keeps
// it under the run's id, and opens quick links. Called by service.ts.
//
// What stands where after a crash, at each await of `link`:
//   seal, gather, sign      nothing; the next call does it again
//   put the pack            durable, put-if-absent: the first pack is the run's pack, whoever comes later serves that one
//   grant                   the grant and its event, in the object's one transaction; a retry makes another grant

import { downloadZip } from "client-zip";
import { hex, sha256, toBytes, utf8 } from "../../shared/contract/bytes.ts";
import { canonicalJson, type LoggedEvent, type SignedBundle } from "../../shared/contract/events.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import { newId } from "../../shared/contract/ids.ts";
import type { Clock, Random } from "../../shared/contract/ports.ts";
import { manifestKey, parseRange, rangeName, type Range } from "../../shared/audit/layout.ts";
import { parseLeaf } from "../../shared/audit/leaf.ts";
import type { InclusionProof, LeafRow } from "../../shared/audit/service.ts";
import type { GrantsPort } from "../../shared/disclosure/grants.ts";
import { openLink, signLink } from "../../shared/disclosure/link.ts";
import {
  indexName,
  packEventsMax,
  packFiles,
  packStatement,
  type PackFile,
  type PackParts,
} from "../../shared/disclosure/pack.ts";
import type { DownloadAnswer, LinkAnswer } from "../../shared/disclosure/service.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import type { Signer } from "../../shared/signing/keys.ts";

/** ZIP knows no time zones and starts in 1980: one instant for all packs keeps the bytes alike. */
const packTime = new Date("2026-01-01T00:00:00Z");

export interface LinkKey {
  readonly kid: string;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
}

export interface DisclosureParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly bucket: R2Bucket;
  readonly signer: Signer;
  readonly linkKey: LinkKey;
  readonly keys: PublishedKeys;
  sealNow(tenantId: string): Promise<void>;
  eventsOf(tenantId: string, executionId: string): Promise<LeafRow[]>;
  inclusionProof(tenantId: string, seq: number): Promise<InclusionProof | null>;
  /** The sealed ranges that hold these entries, each once. */
  rangesOf(tenantId: string, seqs: readonly number[]): Promise<Range[]>;
  grants(tenantId: string): GrantsPort;
}

const packKey = (tenantId: string, executionId: string): string => `${tenantId}/pack/${executionId}.zip`;

export async function disclosureLink(
  parts: DisclosureParts,
  tenantId: string,
  principalId: string,
  executionId: string,
): Promise<LinkAnswer> {
  const pack = (await storedPack(parts, tenantId, executionId)) ?? (await buildPack(parts, tenantId, executionId));
  if (pack === null) return { state: "building", retry_after_s: 1 };
  const now = parts.clock();
  const grantId = newId("grant", now, parts.random(10));
  const { token, expires_at } = await signLink(
    parts.linkKey.privateKey,
    parts.linkKey.kid,
    { sub: tenantId, jti: grantId, execution_id: executionId, sha256: pack.sha256 },
    now,
  );
  await parts
    .grants(tenantId)
    .grant(principalId, { id: grantId, execution_id: executionId, pack_sha256: pack.sha256, expires_at });
  return { state: "ready", token, sha256: pack.sha256, bytes: pack.bytes, expires_at, grant_id: grantId };
}

export async function disclosureDownload(
  parts: DisclosureParts,
  token: string,
  range: { readonly from: number; readonly to: number | null } | null,
  method: "GET" | "HEAD",
): Promise<DownloadAnswer> {
  const opened = await openLink(parts.linkKey.publicKey, token, parts.clock());
  if (!opened.ok) return { state: "refused", code: opened.code };
  const { sub: tenantId, jti, execution_id, sha256: digest } = opened.claims;
  const key = packKey(tenantId, execution_id);
  const head = await parts.bucket.head(key);
  if (head === null || hexOf(head.checksums.sha256) !== digest) return { state: "refused", code: "link_invalid" };
  if (method === "HEAD") {
    const held = await parts.grants(tenantId).use(jti, "asked");
    if (held === "gone") return { state: "refused", code: "link_invalid" };
    return { state: "ok", sha256: digest, execution_id, total: head.size, from: 0, to: head.size - 1, bytes: null };
  }
  const from = range?.from ?? 0;
  const last = Math.min(range?.to ?? head.size - 1, head.size - 1);
  if (from > last) return { state: "range", total: head.size };
  const used = await parts.grants(tenantId).use(jti, from > 0 ? "resumed" : "download");
  if (used === "gone") return { state: "refused", code: "link_invalid" };
  const object = await parts.bucket.get(key, { range: { offset: from, length: last - from + 1 } });
  if (object === null) return { state: "refused", code: "link_invalid" };
  const bytes = new Uint8Array(await object.arrayBuffer());
  return { state: "ok", sha256: digest, execution_id, total: head.size, from, to: last, bytes };
}

interface StoredPack {
  readonly sha256: string;
  readonly bytes: number;
}

async function storedPack(
  { bucket }: DisclosureParts,
  tenantId: string,
  executionId: string,
): Promise<StoredPack | null> {
  const head = await bucket.head(packKey(tenantId, executionId));
  return head === null ? null : { sha256: hexOf(head.checksums.sha256), bytes: head.size };
}

/** The finish was answered, so its event is on its way: some 50 ms through drain and queue, where Retry-After costs 1,000. */
const arrivalMs = { every: 25, most: 1_000 } as const;

async function finishArrived(parts: DisclosureParts, tenantId: string, executionId: string): Promise<boolean> {
  for (const end = parts.clock() + arrivalMs.most; ;) {
    const leaves = await parts.eventsOf(tenantId, executionId);
    if (leaves.some(({ body }) => (JSON.parse(body) as LoggedEvent).type === "mc.execution.finished")) return true;
    if (parts.clock() >= end) return false;
    await new Promise((resolve) => setTimeout(resolve, arrivalMs.every));
  }
}

/** Null while the log does not hold the run's receipt under a published checkpoint. */
async function buildPack(parts: DisclosureParts, tenantId: string, executionId: string): Promise<StoredPack | null> {
  if (!(await finishArrived(parts, tenantId, executionId))) return null;
  await parts.sealNow(tenantId);
  const leaves = (await parts.eventsOf(tenantId, executionId)).slice(0, packEventsMax);
  const receipt = receiptOf(leaves);
  if (receipt === null) return null;
  const events = [];
  for (const leaf of leaves) {
    const proof = await parts.inclusionProof(tenantId, leaf.seq);
    // Logged after the seal: a later pack would have it, this one ends before it.
    if (proof !== null) events.push({ leaf, proof });
    else if (leaf.seq <= receipt.seq) return null;
  }
  const manifests = [];
  for (const range of await parts.rangesOf(
    tenantId,
    events.map(({ leaf }) => leaf.seq),
  )) {
    const object = await parts.bucket.get(manifestKey(tenantId, range));
    if (object === null) return null;
    manifests.push({ range: rangeName(range), bytes: new Uint8Array(await object.arrayBuffer()) });
  }
  const pack: PackParts = {
    tenantId,
    executionId,
    logOrigin: parts.keys.origin_prefix,
    events,
    receipt: receipt.bundle,
    manifests,
    keys: parts.keys,
  };
  const files = packFiles(pack);
  const index = await signStatement(parts.signer, await packStatement(pack, files));
  const bytes = await archive([...files, { name: indexName, bytes: utf8(canonicalJson(index)) }]);
  const digest = hex(await sha256(bytes));
  const put = await parts.bucket.put(packKey(tenantId, executionId), bytes, {
    sha256: digest,
    onlyIf: new Headers({ "if-none-match": "*" }),
    httpMetadata: { contentType: "application/zip" },
  });
  // Null: another call was first, and its pack is the run's pack.
  return put === null ? await storedPack(parts, tenantId, executionId) : { sha256: digest, bytes: bytes.length };
}

function receiptOf(leaves: readonly LeafRow[]): { seq: number; bundle: SignedBundle } | null {
  for (const leaf of leaves) {
    const parsed = parseLeaf(leaf.body);
    if (!parsed.ok) throw new Error(`leaf ${leaf.seq} of the log does not parse`);
    if (parsed.event.type === "mc.receipt.signed") {
      return { seq: leaf.seq, bundle: (parsed.event.attributes as { receipt: SignedBundle }).receipt };
    }
  }
  return null;
}

async function archive(files: readonly PackFile[]): Promise<Uint8Array<ArrayBuffer>> {
  const response = downloadZip(
    files.map(({ name, bytes }) => ({ name, input: bytes, lastModified: packTime })),
    { buffersAreUTF8: true },
  );
  return new Uint8Array(await response.arrayBuffer());
}

const hexOf = (checksum: ArrayBuffer | undefined): string => (checksum === undefined ? "" : hex(toBytes(checksum)));

/** The range that holds `seq`, among names in order. */
export function rangesHolding(names: readonly string[], seqs: readonly number[]): Range[] {
  const ranges = names.map((name) => parseRange(name)).filter((range) => range !== null);
  return ranges.filter(({ from, to }) => seqs.some((seq) => from <= seq && seq < to));
}
