// A visit: what the door knows of one request, from its first byte to its log line. app.ts opens one for each request.

import { newId } from "../../../shared/contract/ids.ts";
import type { Clock, Log, Random } from "../../../shared/contract/ports.ts";
import type { ProblemCode } from "../../../shared/contract/problems.ts";
import type { NoiseGate } from "./noise.ts";

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

/**
 * One line a request; refused ones of nobody known up to a rate, and a count of the others before the next line. Method and
 * pattern, never a path, a query, a header or a body.
 */
export function logVisit(
  parts: { readonly clock: Clock; readonly log: Log; readonly noise: NoiseGate },
  visit: Visit,
  method: string,
  status: number,
): void {
  // A flood that is shed is no fault of this service's.
  const isShed = visit.code === "identity_busy";
  const isFault = status >= 500 && !isShed;
  const isNoise = visit.tenant_id === null && status >= 400 && !isFault;
  if (isNoise && !parts.noise.admit(visit.now, visit.code)) return;
  const unlogged = parts.noise.takeUnlogged();
  if (unlogged !== null) {
    const { since, counts } = unlogged;
    parts.log("warn", "requests of nobody known were counted instead of logged", {
      since: new Date(since).toISOString(),
      ...counts,
    });
  }
  parts.log(isFault ? "error" : "info", "request", {
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
