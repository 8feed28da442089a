// Who is calling: an API key or the issuer's token, from the Authorization header to a Caller. The API door calls it
// first on every route that is not open. One query, as maestro_auth. A key's holder is remembered for routes that have the key
// checked with their answer; nobody is let in by that memory alone, so a revoked key is refused at once.

import { Problem, type ProblemCode } from "../contract/problems.ts";
import { role } from "../contract/names.ts";
import { apiKeyDigest, apiKeyPattern } from "./api-key.ts";
import type { Caller } from "./caller.ts";
import type { CallerMemory } from "./caller-memory.ts";
import type { Condition, Database } from "./database.ts";
import { keyHolder, keyStillHeld, tokenHolder, type Holder } from "./store.ts";
import { verifyToken, type TokenIssuer } from "./token.ts";

export interface Authentication {
  readonly database: Database;
  readonly issuer: TokenIssuer;
  /** The isolate's. */
  readonly callers: CallerMemory;
  readonly now: number;
}

/** Throws a `Problem` (401, or 503 where the issuer is down); none of them tells a part of the credential. */
export async function authenticate(parts: Authentication, authorization: string | null): Promise<Caller> {
  if (authorization === null) throw new Problem("unauthenticated", "The request has no Authorization header.");
  const credential = credentialOf(authorization);
  if (credential === null) {
    throw new Problem("unauthenticated", "The Authorization header is not `Bearer` and one credential.");
  }
  return credential.startsWith("mk_") ? byKey(parts, credential) : byToken(parts, credential);
}

/** What stands behind `Bearer`; null: it is not one credential. */
export const credentialOf = (authorization: string): string | null =>
  /^Bearer +([\x21-\x7e]+)$/i.exec(authorization)?.[1] ?? null;

/** A caller by memory: nothing may be answered to them before `stands` was found true. */
export interface RememberedCaller {
  readonly caller: Caller;
  /** True while `authenticate` would answer this caller. */
  readonly stands: Condition;
  /** The next request looks the key up. */
  forget(): void;
}

/** Who the key of a request was when it was last looked up. Null: not known, or not a key. Asks nobody, and throws nothing. */
export async function rememberedCaller(
  { callers, now }: Pick<Authentication, "callers" | "now">,
  authorization: string | null,
): Promise<RememberedCaller | null> {
  const key = authorization === null ? null : credentialOf(authorization);
  if (key === null || !apiKeyPattern.test(key)) return null;
  const digest = await apiKeyDigest(key);
  const caller = callers.get(digest, now);
  if (caller === null) return null;
  return { caller, stands: keyStillHeld(digest, caller, now), forget: () => callers.forget(digest) };
}

async function byKey({ database, callers, now }: Authentication, key: string): Promise<Caller> {
  if (!apiKeyPattern.test(key)) throw new Problem("unauthenticated", "This is not an API key of ours.");
  const digest = await apiKeyDigest(key);
  const caller = await callerOf(database, digest, now).catch((error: unknown) => {
    callers.forget(digest);
    throw error;
  });
  callers.set(digest, caller, now);
  return caller;
}

async function callerOf(database: Database, digest: string, now: number): Promise<Caller> {
  const found = await keyHolder(database, digest, now);
  if (found === null) throw new Problem("unauthenticated", "This API key is not known here.");
  const refused: ProblemCode | null = found.revoked ? "key_revoked" : found.expired ? "key_expired" : null;
  if (refused !== null)
    throw new Problem(refused, found.revoked ? "This API key was revoked." : "This API key has expired.");
  return { ...enabled(found), credential: "key", fetcher_svids: found.fetcher_svids };
}

async function byToken({ database, issuer, now }: Authentication, token: string): Promise<Caller> {
  const subject = await verifyToken(issuer, token, now);
  const found = await tokenHolder(database, issuer.issuer, subject);
  if (found === null) throw new Problem("unauthenticated", "The token is valid, but its subject is no principal here.");
  return { ...enabled(found), credential: "token", fetcher_svids: null };
}

function enabled(holder: Holder): Omit<Caller, "credential" | "fetcher_svids"> {
  if (holder.disabled) throw new Problem("principal_disabled", "This principal was disabled.");
  return {
    tenant_id: holder.tenant_id,
    tenant: holder.tenant,
    principal_id: holder.principal_id,
    kind: holder.kind === "person" ? "person" : "service",
    role: role.parse(holder.role),
    spiffe_id: null,
    spiffe_domain: null,
  };
}
