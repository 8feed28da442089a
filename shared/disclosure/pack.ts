// A disclosure pack: all that a stranger needs to check one run, as files. Pure; build.ts gathers the parts, signs the
// index and has the files archived; verify.ts checks them again, and makes anew what is derived.

import { sha256Hex, utf8, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, type LoggedEvent, type SignedBundle } from "../contract/events.ts";
import type { PublishedKeys } from "../contract/http-audit.ts";
import { proofFile } from "../audit/proof-file.ts";
import type { LeafRow } from "../audit/service.ts";
import { statement, type Statement } from "../signing/statement.ts";
import { accessReviewsAppendix, privacyBudgetAppendix } from "./appendix.ts";
import { checkScript } from "./check-script.generated.ts";
import { contextEvents, type RunContext, type RunEvents } from "./context.ts";
import { readme } from "./readme.ts";

/** 3: with proofs, context and appendices. 2: without, where the flag audit_rt_export is off. */
export type PackVersion = 2 | 3;
export const packPredicateType = (version: PackVersion): string =>
  `https://maestro-conductor.dev/attestations/disclosure-pack/v${version}`;

/** Events of one run; a run has a handful. */
export const packEventsMax = 1_000;

export interface PackFile {
  readonly name: string;
  readonly bytes: Bytes;
}

/** A row of the log, what it says, and the sibling hashes to the root of the pack's tree (none in version 2). */
export interface PackRow {
  readonly leaf: LeafRow;
  readonly event: LoggedEvent;
  readonly hashes: readonly Uint8Array[];
}

export interface PackParts {
  readonly version: PackVersion;
  readonly tenantId: string;
  readonly executionId: string;
  readonly logOrigin: string;
  /** The end of the sealed range that holds the last row that the run's pack needs: all of it is about that tree. */
  readonly treeSize: number;
  /** The signed note of exactly that size, out of its manifest. */
  readonly checkpoint: string;
  readonly run: RunEvents;
  /** Every event of the run in that tree. */
  readonly events: readonly PackRow[];
  readonly receipt: SignedBundle;
  /** Null in version 2. */
  readonly context: RunContext | null;
  readonly contextRows: readonly PackRow[];
  /** Manifests of the segments that hold the rows, by range name, verbatim. */
  readonly manifests: readonly { readonly range: string; readonly bytes: Bytes }[];
  readonly keys: PublishedKeys;
}

export const indexName = "index.json";
const sequence = (seq: number): string => String(seq).padStart(20, "0");
export type RowFolder = "events" | "context";
export const eventName = (seq: number, folder: RowFolder = "events"): string => `${folder}/${sequence(seq)}.json`;
export const proofName = (seq: number, folder: RowFolder = "events"): string => `${folder}/${sequence(seq)}.tlog-proof`;
export const manifestName = (range: string): string => `manifests/${range}.json`;
export const receiptName = "receipt.json";
export const keysName = "keys.json";
export const readmeName = "README.txt";
export const checkName = "check.sh";
export const budgetName = "appendix/privacy-budget.json";
export const reviewsName = "appendix/access-reviews.json";

const text = (name: string, content: string): PackFile => ({ name, bytes: utf8(content) });

/** The files but for the index, in the order of the archive. The same parts make the same bytes. */
export function packFiles(parts: PackParts): PackFile[] {
  const rows = (folder: RowFolder, list: readonly PackRow[]): PackFile[] =>
    list.flatMap(({ leaf, hashes }) => [
      text(eventName(leaf.seq, folder), leaf.body),
      ...(parts.version === 2
        ? []
        : [
            text(
              proofName(leaf.seq, folder),
              proofFile({ index: leaf.seq, salt: leaf.salt, hashes, checkpoint: parts.checkpoint }),
            ),
          ]),
    ]);
  return [
    text(readmeName, readme(parts)),
    text(checkName, checkScript),
    text(receiptName, canonicalJson(parts.receipt)),
    ...rows("events", parts.events),
    ...rows("context", parts.contextRows),
    ...(parts.context === null ? [] : appendices(parts.run, parts.context)),
    ...parts.manifests.map(({ range, bytes }) => ({ name: manifestName(range), bytes })),
    text(keysName, canonicalJson(parts.keys)),
  ];
}

export const appendices = (run: RunEvents, context: RunContext): PackFile[] => [
  text(budgetName, canonicalJson(privacyBudgetAppendix(run, context))),
  text(reviewsName, canonicalJson(accessReviewsAppendix(run, context))),
];

/** What is signed as `index.json`: every other file with its digest. */
export async function packStatement(parts: PackParts, files: readonly PackFile[]): Promise<Statement> {
  const subject = [];
  for (const { name, bytes } of files) subject.push({ name, digest: { sha256: await sha256Hex(bytes) } });
  return statement({
    subject,
    predicateType: packPredicateType(parts.version),
    predicate: packPredicate({ ...parts, eventCount: parts.events.length }),
  });
}

interface PackClaims extends Pick<
  PackParts,
  "version" | "tenantId" | "executionId" | "logOrigin" | "treeSize" | "run" | "context"
> {
  readonly eventCount: number;
}

/** What the index says in its own words. A verifier makes it anew from the files: nothing else may stand there. */
export function packPredicate(claims: PackClaims): Readonly<Record<string, unknown>> {
  const { version, tenantId, executionId, logOrigin, treeSize, run, context, eventCount } = claims;
  const common = {
    schema_version: version,
    tenant_id: tenantId,
    execution_id: executionId,
    log_origin: logOrigin,
    tree_size: treeSize,
    event_count: eventCount,
  };
  if (context === null) return common;
  const { started, decisions } = run;
  return {
    ...common,
    context_count: contextEvents(context).length,
    release: { seq: started.seq, sha256: started.attributes.release_sha256 },
    entitlement: {
      decided_on: started.attributes.entitlement_version,
      seq: context.entitlement?.seq ?? null,
      entitlement_version: context.entitlement?.attributes.entitlement_version ?? null,
    },
    policies: [started, ...decisions].map(({ seq, attributes }) => ({ seq, sha256: attributes.policy_sha256 })),
  };
}
