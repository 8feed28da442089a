// Who is calling: an API key or the issuer's token, from the Authorization header to a Caller. The API door calls it
// first on every route that is not open. One query, as maestro_auth; the answer is not cached, so a revoked key is
// refused at once.

import { Problem, type ProblemCode } from "../contract/problems.ts";
import { role } from "../contract/names.ts";
import { apiKeyDigest, apiKeyPattern } from "./api-key.ts";
import type { Caller } from "./caller.ts";
import type { Database } from "./database.ts";
import { keyHolder, tokenHolder, type Holder } from "./store.ts";
import { verifyToken, type TokenIssuer } from "./token.ts";

export interface Authentication {
  readonly database: Database;
  readonly issuer: TokenIssuer;
  readonly now: number;
}

/** Throws a `Problem` (401, or 503 where the issuer is down); none of them tells a part of the credential. */
export async function authenticate(parts: Authentication, authorization: string | null): Promise<Caller> {
  if (authorization === null) throw new Problem("unauthenticated", "The request has no Authorization header.");
  const credential = /^Bearer +([\x21-\x7e]+)$/i.exec(authorization)?.[1];
  if (credential === undefined) {
    throw new Problem("unauthenticated", "The Authorization header is not `Bearer` and one credential.");
  }
  return credential.startsWith("mk_") ? byKey(parts, credential) : byToken(parts, credential);
}

async function byKey({ database, now }: Authentication, key: string): Promise<Caller> {
  if (!apiKeyPattern.test(key)) throw new Problem("unauthenticated", "This is not an API key of ours.");
  const found = await keyHolder(database, await apiKeyDigest(key), now);
  if (found === null) throw new Problem("unauthenticated", "This API key is not known here.");
  const refused: ProblemCode | null = found.revoked ? "key_revoked" : found.expired ? "key_expired" : null;
  if (refused !== null)
    throw new Problem(refused, found.revoked ? "This API key was revoked." : "This API key has expired.");
  return enabled(found, "key");
}

async function byToken({ database, issuer, now }: Authentication, token: string): Promise<Caller> {
  const subject = await verifyToken(issuer, token, now);
  const found = await tokenHolder(database, issuer.issuer, subject);
  if (found === null) throw new Problem("unauthenticated", "The token is valid, but its subject is no principal here.");
  return enabled(found, "token");
}

function enabled(holder: Holder, credential: Caller["credential"]): Caller {
  if (holder.disabled) throw new Problem("principal_disabled", "This principal was disabled.");
  return {
    tenant_id: holder.tenant_id,
    tenant: holder.tenant,
    principal_id: holder.principal_id,
    kind: holder.kind === "person" ? "person" : "service",
    role: role.parse(holder.role),
    credential,
  };
}
