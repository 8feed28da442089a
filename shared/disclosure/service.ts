// What the audit worker offers the API worker for disclosure, over the service binding. Types only.

export type LinkAnswer =
  | {
      readonly state: "ready";
      readonly token: string;
      readonly sha256: string;
      readonly bytes: number;
      readonly expires_at: string;
      readonly grant_id: string;
    }
  | { readonly state: "building"; readonly retry_after_s: number };

export type DownloadAnswer =
  | {
      readonly state: "ok";
      readonly sha256: string;
      readonly execution_id: string;
      readonly total: number;
      readonly from: number;
      readonly to: number;
      /** Null for HEAD. */
      readonly bytes: Uint8Array | null;
    }
  | { readonly state: "refused"; readonly code: "link_invalid" | "link_expired" }
  | { readonly state: "range"; readonly total: number };

export interface DisclosureServiceApi {
  /** The pack of a finished run is built on the first call; a grant and its event are made on each. */
  disclosureLink(tenantId: string, principalId: string, executionId: string): Promise<LinkAnswer>;
  /** `range`: first byte, and last byte (inclusive) or null for the rest. HEAD has none (RFC 9110, 14.2) and counts as no download. */
  disclosureDownload(
    token: string,
    range: { readonly from: number; readonly to: number | null } | null,
    method: "GET" | "HEAD",
  ): Promise<DownloadAnswer>;
}
