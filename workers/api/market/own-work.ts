// Whether a caller would approve their own work: four eyes are two persons, and a key is the person who made it. Called by
// reviews of releases, approvals of changes, and explanations of both.

import { sameOrigin } from "../../../shared/tenancy/store.ts";
import type { Call } from "../door.ts";

export const isOwn = ({ parts, caller }: Pick<Call, "parts" | "caller">, by: string | null): Promise<boolean> =>
  sameOrigin(parts.database, caller.tenant_id, caller.principal_id, by);
