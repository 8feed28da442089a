// A leaf of the log: 16 random bytes, then the RFC 8785 bytes of the event with its `seq` and `logged_at`. The salt
// keeps a disclosed proof from telling anything about the leaf's neighbours, whose events could else be guessed.

import { concat, utf8, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, parseEvent, type AuditEvent, type LoggedEvent } from "../contract/events.ts";
import { leafHash, type Sha256 } from "./tree.ts";

export const saltBytes = 16;

/** The text that is hashed, stored and disclosed. */
export const leafBody = (event: AuditEvent, seq: number, loggedAt: number): string =>
  canonicalJson({ ...event, seq, logged_at: new Date(loggedAt).toISOString() });

export const leafBytes = (salt: Uint8Array, body: string): Bytes => concat(salt, utf8(body));

export const hashLeaf = (sha256: Sha256, salt: Uint8Array, body: string): Bytes =>
  leafHash(sha256, leafBytes(salt, body));

export type ParsedLeaf = { ok: true; event: LoggedEvent } | { ok: false; reason: string };

const timePattern = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;

/** Reads a leaf's body back, strictly: canonical, one event of the catalogue, with `seq` and `logged_at`. */
export function parseLeaf(body: string): ParsedLeaf {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return { ok: false, reason: "the leaf is not JSON" };
  }
  if (value === null || typeof value !== "object" || Array.isArray(value))
    return { ok: false, reason: "the leaf is not an object" };
  const { seq, logged_at: loggedAt, ...rest } = value as Record<string, unknown>;
  if (typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 0)
    return { ok: false, reason: "the leaf has no seq" };
  if (typeof loggedAt !== "string" || !timePattern.test(loggedAt))
    return { ok: false, reason: "the leaf has no logged_at" };
  const parsed = parseEvent(rest);
  if (!parsed.ok) return { ok: false, reason: `the leaf is no event: ${parsed.reason}` };
  if (canonicalJson(value) !== body) return { ok: false, reason: "the leaf is not canonical JSON (RFC 8785)" };
  return { ok: true, event: { ...parsed.event, seq, logged_at: loggedAt } };
}
