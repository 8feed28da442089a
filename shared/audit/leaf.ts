// A leaf of the log: 16 random bytes, then the RFC 8785 bytes of the event with its `seq` and `logged_at`. The salt
// keeps a disclosed proof from telling anything about the leaf's neighbours, whose events could else be guessed.

import { concat, utf8, type Bytes } from "../contract/bytes.ts";
import {
  canonicalJson,
  eventColumns,
  parseEvent,
  parseLogged,
  type AuditEvent,
  type EventColumns,
  type LoggedEvent,
} from "../contract/events.ts";
import { timestamp } from "../contract/names.ts";
import { isSurelyTextOf, isTextOf } from "../signing/canonical.ts";
import { leafHash, type Sha256 } from "./tree.ts";

export const saltBytes = 16;

/**
 * The text that is hashed, stored and disclosed. `text`: the RFC 8785 text of `event`, from who has it. Its attributes are carried over as they
 * stand there, since to make them again costs as much as all else about a leaf.
 */
export function leafBody(event: AuditEvent, seq: number, loggedAt: number, text = canonicalJson(event)): string {
  const logged = { ...event, seq, logged_at: new Date(loggedAt).toISOString() };
  const rest = eventRest(event);
  if (!text.startsWith(bodyStart) || !text.endsWith(rest)) return canonicalJson(logged);
  return text.slice(0, text.length - rest.length) + loggedRest(logged);
}

export const leafBytes = (salt: Uint8Array, body: string): Bytes => concat(salt, utf8(body));

/** `body`: the text, or its UTF-8 bytes from who has them. */
export const hashLeaf = (sha256: Sha256, salt: Uint8Array, body: string | Uint8Array): Bytes =>
  leafHash(sha256, salt, typeof body === "string" ? utf8(body) : body);

/** `attributes` comes first in RFC 8785's order. */
const bodyStart = '{"attributes":';

/** What follows the attributes in RFC 8785's text: in its order, and of kinds that JSON.stringify writes as RFC 8785 does. */
function eventRest({
  id,
  occurred_at,
  principal,
  schema_version,
  source,
  source_seq,
  tenant_id,
  type,
}: AuditEvent): string {
  const rest = { id, occurred_at, principal, schema_version, source, source_seq, tenant_id, type };
  return `,${JSON.stringify(rest).slice(1)}`;
}

/** As `eventRest`, of an event that is in the log. */
function loggedRest(event: LoggedEvent): string {
  const { id, logged_at, occurred_at, principal, schema_version, seq, source, source_seq, tenant_id, type } = event;
  const rest = { id, logged_at, occurred_at, principal, schema_version, seq, source, source_seq, tenant_id, type };
  return `,${JSON.stringify(rest).slice(1)}`;
}

/**
 * The columns of a body. `attrs` is cut out of a canonical body instead of being made again, which costs as much as parsing.
 */
export function leafColumns(body: string, event: LoggedEvent): EventColumns {
  return eventColumns(event, attributesText(body, event) ?? undefined);
}

/** What stands for `attributes` in `body`; null where the other members are not what they are in RFC 8785's text. */
function attributesText(body: string, event: LoggedEvent): string | null {
  const rest = loggedRest(event);
  const isCanonical = body.startsWith(bodyStart) && body.endsWith(rest);
  return isCanonical ? body.slice(bodyStart.length, body.length - rest.length) : null;
}

/** `attrs`: the RFC 8785 text of the attributes, as `body` has it. */
export type ParsedLeaf =
  | { readonly ok: true; readonly event: LoggedEvent; readonly attrs: string }
  | { readonly ok: false; readonly reason: string };

/** Reads a leaf's body back, strictly: canonical, one event of the catalogue, with `seq` and `logged_at`. */
export function parseLeaf(body: string): ParsedLeaf {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return { ok: false, reason: "the leaf is not JSON" };
  }
  const logged = parseLogged(value);
  if (logged !== null && isSurelyTextOf(body, value, logged)) {
    // Behind the attributes no text holds a quotation mark.
    return { ok: true, event: logged, attrs: body.slice(bodyStart.length, body.lastIndexOf(',"id":"')) };
  }
  if (value === null || typeof value !== "object" || Array.isArray(value))
    return { ok: false, reason: "the leaf is not an object" };
  const { seq, logged_at: loggedAt, ...rest } = value as Record<string, unknown>;
  if (typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 0)
    return { ok: false, reason: "the leaf has no seq" };
  const time = timestamp.safeParse(loggedAt);
  if (!time.success) return { ok: false, reason: "the leaf has no logged_at" };
  const parsed = parseEvent(rest);
  if (!parsed.ok) return { ok: false, reason: `the leaf is no event: ${parsed.reason}` };
  const event = { ...parsed.event, seq, logged_at: time.data };
  const attrs = attributesText(body, event);
  if (attrs === null || !isTextOf(attrs, event.attributes)) {
    return { ok: false, reason: "the leaf is not canonical JSON (RFC 8785)" };
  }
  return { ok: true, event, attrs };
}
