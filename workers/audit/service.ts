// What the audit worker does for the API worker: reading a tenant's log, and disclosure. Called through the door of AuditService
// (index.ts), which asks for an SVID; which person may ask is decided by the API before it calls.

import { manifestKey, parseRange, segmentKey, tileKey } from "../../shared/audit/layout.ts";
import type { AuditServiceApi, InclusionProof, LeafRow, LogObjectKind } from "../../shared/audit/service.ts";
import { parseTilePath, tileWidth } from "../../shared/audit/tiles.ts";
import { eventText, type AuditEvent } from "../../shared/contract/events.ts";
import type { Anchoring, PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { RevokedGrant } from "../../shared/disclosure/grants.ts";
import type {
  DisclosureServiceApi,
  DownloadAnswer,
  DownloadRequest,
  LinkAnswer,
  LinkWish,
} from "../../shared/disclosure/service.ts";
import type { RingKeys, RotatedKeys, RotatingKeysApi } from "../../shared/rotation/service.ts";
import type { Parts } from "./compose.ts";
import { disclosureDownload, disclosureLink } from "./disclosure.ts";

export type LogParts = Omit<Parts, "door" | "service" | "caller">;

export class AuditCalls implements AuditServiceApi, DisclosureServiceApi, RotatingKeysApi {
  readonly #parts: LogParts;

  constructor(parts: LogParts) {
    this.#parts = parts;
  }

  checkpoint(tenantId: string): Promise<string | null> {
    return this.#parts.auditLog(tenantId).checkpoint();
  }

  manifests(tenantId: string, after: string | null, limit: number): Promise<string[]> {
    return this.#parts.auditLog(tenantId).ranges(after, limit);
  }

  async object(tenantId: string, kind: LogObjectKind, name: string): Promise<Uint8Array | null> {
    const { bucket, auditLog } = this.#parts;
    if (kind === "tile") {
      const tile = parseTilePath(name);
      if (tile === null) return null;
      // Full tiles are in the bucket for good; what is still growing only the log has.
      const stored = tile.width === tileWidth ? await bucket.get(tileKey(tenantId, tile)) : null;
      return stored ?? (await auditLog(tenantId).tile(tile.level, tile.index, tile.width));
    }
    const range = parseRange(name);
    if (range === null) return null;
    return await bucket.get(kind === "segment" ? segmentKey(tenantId, range) : manifestKey(tenantId, range));
  }

  keys(): Promise<PublishedKeys> {
    return this.#parts.keys();
  }

  sealNow(tenantId: string): Promise<void> {
    return this.#parts.auditLog(tenantId).sealNow();
  }

  async record(events: AuditEvent[]): Promise<void> {
    const byTenant = new Map<string, string[]>();
    for (const event of events) {
      byTenant.set(event.tenant_id, [...(byTenant.get(event.tenant_id) ?? []), eventText(event)]);
    }
    const noting = this.#parts.activity.note([...byTenant.keys()]);
    for (const [tenantId, texts] of byTenant) await this.#parts.auditLog(tenantId).append(texts);
    await noting;
  }

  eventsOf(tenantId: string, executionId: string): Promise<LeafRow[]> {
    return this.#parts.auditLog(tenantId).eventsOf(executionId);
  }

  inclusionProof(tenantId: string, seq: number): Promise<InclusionProof | null> {
    return this.#parts.auditLog(tenantId).inclusionProof(seq);
  }

  anchorings(tenantId: string): Promise<Anchoring[]> {
    return this.#parts.anchor().anchorings(tenantId);
  }

  async disclosureLink(tenantId: string, wish: LinkWish): Promise<LinkAnswer> {
    return await disclosureLink(await this.#parts.disclosure(), tenantId, wish);
  }

  async disclosureDownload(request: DownloadRequest): Promise<DownloadAnswer> {
    return await disclosureDownload(await this.#parts.disclosure(), request);
  }

  async disclosureRevoke(tenantId: string, principalId: string, grantId: string): Promise<RevokedGrant | null> {
    return await (await this.#parts.disclosure()).grants(tenantId).revoke(principalId, grantId);
  }

  prepareKeys(rotation: string, slots: readonly string[]): Promise<RotatedKeys> {
    return this.#parts.ring().prepareKeys(rotation, slots);
  }

  publishKeys(rotation: string): Promise<void> {
    return this.#parts.ring().publishKeys(rotation);
  }

  activateKeys(rotation: string): Promise<void> {
    return this.#parts.ring().activateKeys(rotation);
  }

  taintKeys(rotation: string): Promise<void> {
    return this.#parts.ring().taintKeys(rotation);
  }

  revokeKeys(rotation: string, compromised: boolean): Promise<void> {
    return this.#parts.ring().revokeKeys(rotation, compromised);
  }

  withdrawKeys(rotation: string): Promise<RotatedKeys> {
    return this.#parts.ring().withdrawKeys(rotation);
  }

  publishedKeys(): Promise<RingKeys> {
    return this.#parts.ring().publishedKeys();
  }
}
