// What witnesses say about a tenant's log: reads anchorings (a head of the log in the anchor log, under a cosigned
// checkpoint), counts cosignatures by a trust policy, and gives the verdict of verify.ts its last word. Called by
// `maestro audit verify --witnesses`, around `verifyLog`.

import { base64, bytesEqual } from "../contract/bytes.ts";
import type { Anchoring, PublishedKeys } from "../contract/http-audit.ts";
import { ed25519PublicBytes } from "../signing/keys.ts";
import { checkpointKeys } from "../signing/published.ts";
import { anchorTenantId, logDigest, type AnchoredHead } from "./anchor-event.ts";
import { openCheckpoint, originOf } from "./checkpoint.ts";
import { openCosignature } from "./cosignature.ts";
import { hashLeaf, parseLeaf, saltBytes } from "./leaf.ts";
import { parseNote, type Note } from "./note.ts";
import { parseProofFile } from "./proof-file.ts";
import { verifyInclusion, type Sha256 } from "./tree.ts";
import type { LogVerdict, RememberedHead } from "./verify.ts";
import { isQuorum, type WitnessPolicy } from "./witness-policy.ts";

export interface WitnessedOptions {
  readonly tenantId: string;
  /** From elsewhere than the log, as for `verifyLog`: the anchor log has the same keys. */
  readonly keys: PublishedKeys;
  readonly policy: WitnessPolicy;
  readonly sha256: Sha256;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** How many agreed, on what, and since when. */
export interface Agreement {
  readonly agreed: number;
  readonly of: number;
  /** As the policy names them. */
  readonly names: readonly string[];
  /** When the quorum was complete, by the witnesses' clocks; null where it is not, or asks for nobody. */
  readonly since: string | null;
  /** Rows of the log that they agreed on. */
  readonly size: number;
}

export interface Witnessed {
  /** Every anchored head: the log must have it, however many witnesses saw it. */
  readonly heads: readonly RememberedHead[];
  readonly agreement: Agreement;
  readonly isQuorum: boolean;
}

export type OpenedAnchorings =
  | { readonly ok: true; readonly witnessed: Witnessed }
  | { readonly ok: false; readonly reason: string };

/**
 * Verifies each anchoring: that it is about this log, in the anchor log, under a checkpoint signed by a key of the log and,
 * where the policy names logs, by one of those. One that does not verify is refused with a reason; too few cosignatures
 * are none: that is `isQuorum`.
 */
export async function openAnchorings(
  anchorings: readonly Anchoring[],
  options: WitnessedOptions,
): Promise<OpenedAnchorings> {
  const { policy } = options;
  const none: Agreement = { agreed: 0, of: policy.witnesses.length, names: [], since: null, size: 0 };
  let best: Omit<Witnessed, "heads"> = { agreement: none, isQuorum: policy.quorum === null };
  const heads: RememberedHead[] = [];
  for (const anchoring of anchorings) {
    const opened = await openAnchoring(anchoring, options);
    if (typeof opened === "string") return { ok: false, reason: opened };
    const { tree_size: size, root_sha256 } = opened.head;
    heads.push({ size, root_sha256 });
    const counted = await countWitnesses(opened.note, size, options);
    if (typeof counted === "string") return { ok: false, reason: counted };
    if (isBetter(counted, best)) best = counted;
  }
  return { ok: true, witnessed: { heads, ...best } };
}

/** A quorum before none; then the longer log; without a quorum, first more witnesses. */
function isBetter(one: Omit<Witnessed, "heads">, other: Omit<Witnessed, "heads">): boolean {
  if (one.isQuorum !== other.isQuorum) return one.isQuorum;
  const more = one.agreement.agreed - other.agreement.agreed;
  if (!one.isQuorum && more !== 0) return more > 0;
  return one.agreement.size > other.agreement.size;
}

async function openAnchoring(
  { body, proof: text }: Anchoring,
  { tenantId, keys, policy, sha256 }: WitnessedOptions,
): Promise<{ head: AnchoredHead; note: Note } | string> {
  const proof = parseProofFile(text);
  const note = proof === null ? null : parseNote(proof.checkpoint);
  if (proof === null || note === null) return "the anchoring is not a tlog-proof";
  const origin = originOf(keys.origin_prefix, anchorTenantId);
  const opened = await openCheckpoint(proof.checkpoint, origin, checkpointKeys(keys));
  if (!opened.ok) return `the anchor log: ${opened.reason}`;
  const signedBy = ed25519PublicBytes(opened.spki);
  if (policy.logs.length > 0 && !policy.logs.some((log) => log.name === origin && bytesEqual(log.key, signedBy)))
    return "the anchor log is not one of the policy's";
  const leaf = hashLeaf(sha256, proof.salt, body);
  const { size, root } = opened.checkpoint;
  if (
    proof.salt.length !== saltBytes ||
    !verifyInclusion(sha256, { index: proof.index, size, leaf, proof: proof.hashes, root })
  )
    return "the anchored head is not in the anchor log";
  const parsed = parseLeaf(body);
  if (!parsed.ok) return `the anchored head: ${parsed.reason}`;
  const { event } = parsed;
  if (event.type !== "mc.log.head" || event.tenant_id !== anchorTenantId || event.seq !== proof.index)
    return "the row of the anchor log is no head";
  const key = keys.keys.find(({ use, spki }) => use === "checkpoint" && spki === base64(opened.spki));
  // A key that had signed its last checkpoint before this row was there. Its beginning says nothing: rows may be older.
  if (key?.not_after !== undefined && event.logged_at > key.not_after)
    return "the anchor log is signed by a key after its time";
  const head = event.attributes as AnchoredHead;
  if (head.log_sha256 !== logDigest(sha256, originOf(keys.origin_prefix, tenantId)))
    return "the anchored head is another log's";
  return { head, note };
}

async function countWitnesses(
  note: Note,
  size: number,
  { policy, now }: WitnessedOptions,
): Promise<Omit<Witnessed, "heads"> | string> {
  const agreed: { readonly octets: string; readonly name: string; readonly timeS: number }[] = [];
  for (const { octets, name, key } of policy.witnesses) {
    const cosignature = await openCosignature(note.text, note.signatures, key, Math.floor(now / 1000));
    // "If a signature from a known key fails to verify, clients SHOULD reject the whole note."
    if (cosignature.state === "bad") return `the cosignature of the witness ${name} does not verify`;
    if (cosignature.state === "valid") agreed.push({ octets, name, timeS: cosignature.timeS });
  }
  let since: string | null = null;
  const soFar = new Set<string>();
  for (const { octets, timeS } of agreed.toSorted((one, other) => one.timeS - other.timeS)) {
    soFar.add(octets);
    if (since === null && isQuorum(policy, soFar)) since = new Date(timeS * 1000).toISOString();
  }
  return {
    agreement: {
      agreed: agreed.length,
      of: policy.witnesses.length,
      names: agreed.map(({ name }) => name),
      since: policy.quorum === null ? null : since,
      size,
    },
    isQuorum: isQuorum(policy, soFar),
  };
}

export interface WitnessedVerdict extends LogVerdict {
  readonly witnesses: Agreement;
}

const count = (value: number): string => value.toLocaleString("en-US");

/** How many agreed, in words for people. */
export const agreementText = ({ agreed, of, size, since }: Agreement): string =>
  agreed === 0
    ? `none of ${of} witnesses has cosigned a head of this log`
    : `${agreed} of ${of} witnesses agreed on ${count(size)} ${size === 1 ? "row" : "rows"}${since === null ? "" : ` since ${since}`}`;

/** `verdict`: of `verifyLog`, which was given the anchored heads. */
export function witnessedVerdict(
  verdict: LogVerdict,
  { agreement, isQuorum: isEnough }: Witnessed,
  policy: WitnessPolicy,
): WitnessedVerdict {
  const witnesses = agreement;
  if (verdict.head === null) return { ...verdict, witnesses };
  const words = agreementText(agreement);
  if (!isEnough) {
    return {
      ...verdict,
      verdict: "UNWITNESSED",
      reason: `all ${verdict.size} rows are as signed; ${words}, and the policy asks for more`,
      head: null,
      witnesses,
    };
  }
  // A quorum of nobody shows nothing: the verdict stays what it was.
  if (policy.quorum === null) return { ...verdict, reason: `${verdict.reason}; ${words}`, witnesses };
  return { ...verdict, verdict: "VERIFIED", reason: `all ${verdict.size} rows are as signed; ${words}`, witnesses };
}
