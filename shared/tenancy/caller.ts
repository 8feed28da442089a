// Who is calling, once authentication has said so. Routes and rooms trust it.

import type { Role } from "../contract/names.ts";

export interface Caller {
  readonly tenant_id: string;
  readonly tenant: string;
  readonly principal_id: string;
  readonly kind: "person" | "service";
  readonly role: Role;
  readonly credential: "key" | "token" | "svid";
  /** Whom an SVID names, `spiffe://…`; null for keys and tokens. */
  readonly spiffe_id: string | null;
  /** Whose trust domain that ID is of: this tenant's own, or one that tenants share. Null for keys and tokens. */
  readonly spiffe_domain: "own" | "shared" | null;
}
