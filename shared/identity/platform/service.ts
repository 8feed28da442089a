// What the platform's workers say to each other about who they are: over service bindings. Types only: workers/ implements them.

/** The one method of an entrypoint that asks for an SVID: so none can be reached without. */
export interface GuardedService {
  /** `svid`: a JWT-SVID of the caller, for the callee. `given`: the method's arguments. */
  call(svid: string, method: string, given: readonly unknown[]): Promise<WorkerAnswer>;
}

/** Where it is refused, nothing was done. What the method throws goes on as it is. */
export type WorkerAnswer =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly refusal: WorkerRefusal };

export interface WorkerRefusal {
  /**
   * `svid_refused`: another SVID may do. `denied`: the policy says no to this ID. `unavailable`: the callee cannot know now whom to
   * believe.
   */
  readonly code: "svid_refused" | "denied" | "unavailable";
  /** A sentence without its full stop. Holds no token. */
  readonly reason: string;
}

/** What every guarded worker answers to `introduce`: who it is, and by what it checks its callers. */
export interface Introduction {
  /** The callee's own, for the caller. */
  readonly svid: string;
  /** The kids of the authority's keys that it believes now. */
  readonly holds: readonly string[];
}

/** The authority's bundle, and which of its keys signs. */
export interface AuthorityBundle {
  /** A SPIFFE bundle document. */
  readonly document: string;
  readonly active: string;
  /** Since when that key signs, RFC 3339. */
  readonly active_since: string;
}

export type Issued =
  | { readonly ok: true; readonly svid: string; readonly until_ms: number }
  | { readonly ok: false; readonly reason: string };

/** The authority, as any worker that has its binding may ask it. */
export interface AuthorityServiceApi extends GuardedService {
  /** A JWT-SVID for whoever proves by `attestation` (attestation.ts) to have a worker's key. */
  issue(attestation: string): Promise<Issued>;
  /** Public. */
  bundle(): Promise<AuthorityBundle>;
}
