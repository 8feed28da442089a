// Who is calling, once authentication has said so. Routes and rooms trust it.

import type { Role } from "../contract/names.ts";

export interface Caller {
  readonly tenant_id: string;
  readonly tenant: string;
  readonly principal_id: string;
  readonly kind: "person" | "service";
  readonly role: Role;
  readonly credential: "key" | "token";
}
