// What forged logs are made with: leaves, statements and signatures that were changed. Called by verify-mutations.ts and its parts.

import { hashLeaf } from "../../../shared/audit/leaf.ts";
import type { Gzip } from "../../../shared/audit/segment.ts";
import type { LeafRow } from "../../../shared/audit/service.ts";
import { appendLeafHash, emptyFrontier, rootOf } from "../../../shared/audit/tree.ts";
import { base64, base64Bytes, utf8Text, type Bytes } from "../../../shared/contract/bytes.ts";
import { canonicalJson, type LoggedEvent, type SignedBundle } from "../../../shared/contract/events.ts";
import { inTotoStatement, type Statement } from "../../../shared/signing/statement.ts";
import { gzip, sha256 } from "../../../workers/audit/hashing.ts";

export const rootAt = (leaves: readonly LeafRow[], size: number): Bytes => {
  const frontier = emptyFrontier();
  for (const { salt, body } of leaves.slice(0, size)) appendLeafHash(sha256, frontier, hashLeaf(sha256, salt, body));
  return rootOf(sha256, frontier);
};

export const bundleIn = (bytes: Bytes): SignedBundle => JSON.parse(utf8Text(bytes)) as SignedBundle;

export const statementIn = (bytes: Bytes): Statement =>
  inTotoStatement.parse(JSON.parse(utf8Text(base64Bytes(bundleIn(bytes).dsseEnvelope.payload))));

export const loggedAt = ({ body }: LeafRow): string => (JSON.parse(honestBody(body)) as LoggedEvent).logged_at;

export function edited(leaf: LeafRow, change: (event: LoggedEvent) => LoggedEvent): LeafRow {
  return { ...leaf, body: canonicalJson(change(JSON.parse(leaf.body) as LoggedEvent)) };
}

export const renumbered = (leaves: readonly LeafRow[], from = 0): LeafRow[] =>
  leaves.map((leaf, at) => ({ ...edited(leaf, (event) => ({ ...event, seq: from + at })), seq: from + at }));

export const reordered = (body: string, event: LoggedEvent): string =>
  body.replace(
    canonicalJson(event.attributes),
    JSON.stringify(Object.fromEntries(Object.entries(event.attributes).toReversed())),
  );

/** Columns from one body, and another one stored: kept as one text here, with a mark in between that no body holds. */
export const mark = "\u0000stored\u0000";
export const spoken = (leaf: LeafRow, columns: string, stored: string): LeafRow => ({
  ...leaf,
  body: columns + mark + stored,
});
/** `rowOf` takes the columns from the body and then the body itself: from its third reading on it is another. */
export function asWritten({ seq, salt, body }: LeafRow): LeafRow {
  let readings = 0;
  return {
    seq,
    salt,
    get body() {
      readings += 1;
      return readings < 3 ? honestBody(body) : storedBody(body);
    },
  };
}

export const pagesChanged = (change: (page: Uint8Array) => Uint8Array): Gzip => ({
  ...gzip,
  deflate: (page) => gzip.deflate(change(page)),
});

/** With a bit flipped in a byte that is so far from the end. */
export const flipped = (bytes: Bytes, fromEnd: number): Bytes =>
  bytes.with(bytes.length - fromEnd, bytes[bytes.length - fromEnd]! ^ 1);

/** With the last byte of its signature flipped. */
export const misSigned = (note: string): string =>
  note.replace(/(— \S+ )(\S+)\n$/u, (_, start: string, encoded: string) => {
    const bytes = base64Bytes(encoded);
    return `${start}${base64(flipped(bytes, 1))}\n`;
  });

export const honestBody = (body: string): string => body.split(mark)[0]!;
export const storedBody = (body: string): string => body.split(mark).at(-1)!;
