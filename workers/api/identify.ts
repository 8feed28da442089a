// Who is calling, by what came with the request: an Authorization header first (an API key, the issuer's token or a JWT-SVID), then a
// client certificate. Called by the door. A certificate is what the platform's TLS has seen, and never a header: those that look like
// one are not read. Through the edge's name there is no certificate, since its TLS ends there: the API by that name takes bearers alone.

import { authenticateSvid, svidRefused } from "../../shared/identity/authenticate-svid.ts";
import { claimedIdOfToken } from "../../shared/identity/claimed-id.ts";
import { presentedChain } from "../../shared/identity/client-certificate.ts";
import { authenticate, credentialOf } from "../../shared/tenancy/authenticate.ts";
import type { Caller } from "../../shared/tenancy/caller.ts";
import type { Parts } from "./parts.ts";

/** Throws a `Problem` (401, 403 or 503); none of them tells a part of the credential. */
export async function identify(parts: Parts, request: Request, now: number): Promise<Caller> {
  const { authDatabase: database, issuer, callers, svidDesk: desk, sightings } = parts;
  const authorization = request.headers.get("authorization");
  if (authorization === null) {
    const chain = presentedChain((request as { readonly cf?: { readonly tlsClientAuth?: unknown } }).cf?.tlsClientAuth);
    if (chain !== null) {
      if (!chain.ok) throw svidRefused(chain.refusal);
      return authenticateSvid({ database, desk, sightings, now }, { kind: "x509", chain: chain.value });
    }
  } else {
    const token = credentialOf(authorization);
    if (token !== null && !token.startsWith("mk_") && claimedIdOfToken(token) !== null) {
      return authenticateSvid({ database, desk, sightings, now }, { kind: "jwt", token });
    }
  }
  return authenticate({ database, issuer, callers, now }, authorization);
}
