// The anchor log: one log of the heads of all tenants' logs, which witnesses cosign, so that they need not watch
// each tenant's. It is the AuditLog of a system tenant that no person belongs to, and its only events are `mc.log.head`.
// A tenant stands there under the digest of its log's origin: ids are random, so a reader of the anchor log cannot tell
// whose head it is, and the tenant's verifier, who knows the origin, can.

import { hex, utf8 } from "../contract/bytes.ts";
import { canonicalJson } from "../contract/events.ts";
import { derivedId } from "../contract/ids.ts";
import type { Sha256 } from "./tree.ts";

/** The head of a log as it stands in the anchor log. */
export interface AnchoredHead {
  /** SHA-256 of the log's origin. */
  readonly log_sha256: string;
  readonly tree_size: number;
  readonly root_sha256: string;
}

/** Its log's origin is `{origin_prefix}/{this}`, as any tenant's. */
export const anchorTenantId = "00000000-0000-4000-8000-000000000001";

export const logDigest = (sha256: Sha256, origin: string): string => hex(sha256(utf8(origin)));

/** The same head is the same event, so that a repeat adds nothing. */
export function headEventId(sha256: Sha256, head: AnchoredHead): string {
  const name = canonicalJson(["mc.log.head", head.log_sha256, head.tree_size, head.root_sha256]);
  return derivedId("event", sha256(utf8(name)));
}
