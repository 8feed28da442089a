// A disclosure pack: all that a stranger needs to check one run, as files. Pure; the audit worker gathers the parts,
// signs the index and archives the files (workers/audit/disclosure.ts); verify.ts checks them again.

import { sha256Hex, utf8, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, type SignedBundle } from "../contract/events.ts";
import type { PublishedKeys } from "../contract/http-audit.ts";
import { proofFile } from "../audit/proof-file.ts";
import type { InclusionProof, LeafRow } from "../audit/service.ts";
import { statement, type Statement } from "../signing/statement.ts";

export const packPredicateType = "https://maestro-conductor.dev/attestations/disclosure-pack/v1";

/** Events of one run; a run has a handful. */
export const packEventsMax = 1_000;

export interface PackFile {
  readonly name: string;
  readonly bytes: Bytes;
}

export interface PackParts {
  readonly tenantId: string;
  readonly executionId: string;
  readonly logOrigin: string;
  readonly events: readonly { readonly leaf: LeafRow; readonly proof: InclusionProof }[];
  readonly receipt: SignedBundle;
  /** Manifests of the segments that hold the events, by range name, verbatim. */
  readonly manifests: readonly { readonly range: string; readonly bytes: Bytes }[];
  readonly keys: PublishedKeys;
}

export const indexName = "index.json";
const sequence = (seq: number): string => String(seq).padStart(20, "0");
export const eventName = (seq: number): string => `events/${sequence(seq)}.json`;
export const proofName = (seq: number): string => `events/${sequence(seq)}.tlog-proof`;
export const manifestName = (range: string): string => `manifests/${range}.json`;
export const receiptName = "receipt.json";
export const keysName = "keys.json";
export const readmeName = "README.txt";

/** The files but for the index, in the order of the archive. The same parts make the same bytes. */
export function packFiles(parts: PackParts): PackFile[] {
  const text = (name: string, content: string): PackFile => ({ name, bytes: utf8(content) });
  return [
    text(readmeName, readme(parts)),
    text(receiptName, canonicalJson(parts.receipt)),
    ...parts.events.flatMap(({ leaf, proof }) => [
      text(eventName(leaf.seq), leaf.body),
      text(proofName(leaf.seq), proofFile({ index: leaf.seq, salt: leaf.salt, ...proof })),
    ]),
    ...parts.manifests.map(({ range, bytes }) => ({ name: manifestName(range), bytes })),
    text(keysName, canonicalJson(parts.keys)),
  ];
}

/** What is signed as `index.json`: every other file with its digest. */
export async function packStatement(parts: PackParts, files: readonly PackFile[]): Promise<Statement> {
  const subject = [];
  for (const { name, bytes } of files) subject.push({ name, digest: { sha256: await sha256Hex(bytes) } });
  return statement({
    subject,
    predicateType: packPredicateType,
    predicate: {
      schema_version: 1,
      tenant_id: parts.tenantId,
      execution_id: parts.executionId,
      log_origin: parts.logOrigin,
      event_count: parts.events.length,
    },
  });
}

function readme({ executionId, tenantId, logOrigin }: PackParts): string {
  return `Disclosure pack of the execution ${executionId}
tenant ${tenantId}, log ${logOrigin}/${tenantId}

What is here
  receipt.json               the signed receipt (Sigstore bundle v0.3, DSSE, in-toto statement, ECDSA P-256)
  events/N.json              an event of this run: entry N of the tenant's log, RFC 8785 JSON
  events/N.tlog-proof        proof that it is there (C2SP tlog-proof): salt, index, sibling hashes, signed checkpoint
  manifests/FROM-TO.json     signed manifest of the log segment that holds it
  keys.json                  the public keys that signed; trust them only if you had them from elsewhere
  index.json                 one signed statement with the SHA-256 of each file above

How to check it
  With the tool:  maestro disclosure verify THIS.zip
  By hand, each file against the index (the payload is base64 in dsseEnvelope.payload):
    grep -o '"payload":"[^"]*"' index.json | cut -d'"' -f4 | openssl base64 -d -A
    openssl dgst -sha256 receipt.json events/*
  A leaf is SHA-256 of: the byte 00, the 16 bytes of salt ("extra" in the proof, base64), the event's bytes. Combine it with
  the proof's hashes (RFC 9162, 2.1.3.2), SHA-256 of: the byte 01, left, right. The result is the third line of the checkpoint.
`;
}
