// Who is calling, once authentication has said so. Routes and rooms trust it.

import type { Role } from "../contract/names.ts";

export interface FetcherSvids {
  /** The tenant has registered a SPIFFE ID of a fetcher. */
  readonly registered: boolean;
  /** Its flag spiffe_everywhere is on. */
  readonly everywhere: boolean;
}

export interface Caller {
  readonly tenant_id: string;
  readonly tenant: string;
  readonly principal_id: string;
  readonly kind: "person" | "service";
  readonly role: Role;
  readonly credential: "key" | "token" | "svid";
  /** What the policy asks of a key's tenant: where both are so, fetchers' keys open nothing. Null for tokens and SVIDs. */
  readonly fetcher_svids: FetcherSvids | null;
  /** Whom an SVID names, `spiffe://…`; null for keys and tokens. */
  readonly spiffe_id: string | null;
  /** Whose trust domain that ID is of: this tenant's own, or one that tenants share. Null for keys and tokens. */
  readonly spiffe_domain: "own" | "shared" | null;
}
