// A visit: what the door knows of one request, from its first byte to its log line. app.ts opens one for each request.

import { newId } from "../../../shared/contract/ids.ts";
import type { Clock, Log, Random } from "../../../shared/contract/ports.ts";
import type { ProblemCode } from "../../../shared/contract/problems.ts";

export interface Visit {
  readonly request_id: string;
  /** The request's one reading of the clock. */
  readonly now: number;
  tenant_id: string | null;
  principal_id: string | null;
  /** The provider whose edge forwarded it, where that is proven. */
  readonly edge: string | null;
  /** The route's pattern, never the path: a path may hold a secret (a disclosure token). */
  route: string | null;
  code: ProblemCode | null;
  replayed: boolean;
}

/** The request id is ours alone: whatever the caller sent as one is not read. */
export const openVisit = (parts: { readonly clock: Clock; readonly random: Random }, edge: string | null): Visit => {
  const now = parts.clock();
  return {
    request_id: newId("request", now, parts.random(10)),
    now,
    tenant_id: null,
    principal_id: null,
    edge,
    route: null,
    code: null,
    replayed: false,
  };
};

/** One line a request. Method and pattern, never a path, a query, a header or a body. */
export function logVisit(
  parts: { readonly clock: Clock; readonly log: Log },
  visit: Visit,
  method: string,
  status: number,
): void {
  parts.log(status >= 500 ? "error" : "info", "request", {
    request_id: visit.request_id,
    tenant_id: visit.tenant_id,
    principal_id: visit.principal_id,
    edge: visit.edge,
    method,
    route: visit.route,
    status,
    code: visit.code,
    replayed: visit.replayed,
    duration_ms: Math.max(0, parts.clock() - visit.now),
  });
}
