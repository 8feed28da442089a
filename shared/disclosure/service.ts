// What the audit worker offers the API worker for disclosure, over the service binding. Types only.

import type { RevokedGrant } from "./grants.ts";

export interface LinkWish {
  readonly principal_id: string;
  readonly execution_id: string;
  readonly one_time: boolean;
  /** The principal who alone may use the link. */
  readonly audience: string | null;
}

export type LinkAnswer =
  | {
      readonly state: "ready";
      readonly token: string;
      readonly sha256: string;
      readonly bytes: number;
      readonly pack_version: 2 | 3;
      readonly expires_at: string;
      readonly grant_id: string;
    }
  | { readonly state: "building"; readonly retry_after_s: number };

/** What a Range header asks for: from a byte on, to one (inclusive) or to the end; or so many last bytes. */
export type ByteRange = { readonly from: number; readonly to: number | null } | { readonly last: number };

export interface DownloadRequest {
  readonly token: string;
  readonly range: ByteRange | null;
  /** If-Range: the range counts only while this is the pack's ETag. */
  readonly if_range: string | null;
  /** HEAD has no range (RFC 9110, 14.2) and counts as no download. */
  readonly method: "GET" | "HEAD";
  /** Who calls, where they said so. */
  readonly principal_id: string | null;
}

export type LinkRefusal = "link_invalid" | "link_expired" | "link_used" | "link_revoked" | "link_audience";

export type DownloadAnswer =
  | {
      readonly state: "ok";
      readonly sha256: string;
      readonly execution_id: string;
      readonly total: number;
      readonly from: number;
      readonly to: number;
      /** The answer is a part (206), not the whole. */
      readonly partial: boolean;
      /** Null for HEAD. */
      readonly bytes: Uint8Array | null;
    }
  /** The link is for one principal, and nobody has said who calls. */
  | { readonly state: "who" }
  | { readonly state: "refused"; readonly code: LinkRefusal }
  | { readonly state: "range"; readonly total: number };

export interface DisclosureServiceApi {
  /** The pack of a finished run is built on the first call; a grant and its event are made on each. */
  disclosureLink(tenantId: string, wish: LinkWish): Promise<LinkAnswer>;
  disclosureDownload(request: DownloadRequest): Promise<DownloadAnswer>;
  /** Null where the tenant has no such grant. */
  disclosureRevoke(tenantId: string, principalId: string, grantId: string): Promise<RevokedGrant | null>;
}
