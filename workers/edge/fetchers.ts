// Who may read from this provider: a fetcher, by its key (fetcher-keys.ts) or its SVID (workloads.ts). Called by app.ts for each
// request.

import { presentedChain } from "../../shared/identity/client-certificate.ts";
import { tokenCharactersMax } from "../../shared/identity/jwt-svid.ts";
import type { Refusal } from "../../shared/identity/refusal.ts";
import { apiKeyPattern } from "../../shared/tenancy/api-key.ts";
import type { Source } from "./cache.ts";
import type { Fetcher, FetcherKeys } from "./fetcher-keys.ts";
import type { Svid, Workloads } from "./workloads.ts";

/** What a request has to say who sends it. */
export interface Credentials {
  readonly authorization: string | null;
  /** As the platform tells it (`request.cf.tlsClientAuth`); undefined where it tells of none. */
  readonly tlsClientAuth: unknown;
}

/** `kind`: what the request came with, for counters. `source`: how its file came; null where none was looked for. */
export type WhoIsIt = { readonly kind: "none" | "key" | Svid["kind"]; readonly source: Source | null } & (
  | { readonly state: "known"; readonly fetcher: Fetcher }
  /** No credential, one that nobody has, or a key that has expired: all the same to whoever sent it. */
  | { readonly state: "unknown" }
  /** An SVID that says that it is a fetcher's who is known here, and does not hold. */
  | { readonly state: "refused"; readonly refusal: Refusal }
  | { readonly state: "unavailable" }
  /** Too many SVIDs are being verified that were not verified before. */
  | { readonly state: "busy" }
);

export class Fetchers {
  readonly #keys: FetcherKeys;
  readonly #workloads: Workloads;

  constructor(keys: FetcherKeys, workloads: Workloads) {
    this.#keys = keys;
    this.#workloads = workloads;
  }

  async find(credentials: Credentials, now: number): Promise<WhoIsIt> {
    const bearer = bearerOf(credentials.authorization);
    if (bearer !== null && apiKeyPattern.test(bearer)) return { kind: "key", ...(await this.#keys.find(bearer, now)) };
    const svid = svidOf(credentials, bearer);
    if (svid === null) return { kind: "none", state: "unknown", source: null };
    return { kind: svid.kind, ...(await this.#workloads.find(svid, now)) };
  }
}

/** The one word of `Authorization: Bearer …`, or null. */
export function bearerOf(authorization: string | null): string | null {
  if (authorization === null || authorization.length > "Bearer ".length + tokenCharactersMax) return null;
  return /^Bearer +(\S+)$/i.exec(authorization)?.[1] ?? null;
}

/** An Authorization goes before a certificate, also one that is nobody's. */
function svidOf({ authorization, tlsClientAuth }: Credentials, bearer: string | null): Svid | null {
  if (authorization !== null) return bearer === null ? null : { kind: "jwt_svid", token: bearer };
  const chain = presentedChain(tlsClientAuth);
  return chain?.ok === true ? { kind: "x509_svid", chain: chain.value } : null;
}
