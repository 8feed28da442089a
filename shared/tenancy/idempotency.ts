// Idempotency of POST and PUT: one key, one intent, for 24 hours, scoped to tenant, principal and route. The answer is
// remembered in the transaction of the change, so that there is never one without the other.

import { sql, type SQL } from "drizzle-orm";
import { utf8, sha256 } from "../contract/bytes.ts";
import { Problem } from "../contract/problems.ts";
import { asTenant, inBatch, isUniqueViolation, type Database } from "./database.ts";

export const idempotencyWindowMs = 24 * 3_600_000;

export interface IdempotencyClaim {
  readonly tenant_id: string;
  readonly principal_id: string;
  /** Method and path pattern, with the path's ids filled in: `POST /api/executions/exe_…/finish`. */
  readonly route: string;
  readonly key: string;
  /** Of the query, where there is one, and the body. */
  readonly body_sha256: string;
}

export interface RememberedAnswer {
  readonly body_sha256: string;
  readonly status: number;
  readonly response: unknown;
}

/** 32 bytes that name this intent, for objects that must do an effect once for it. */
export const claimDigest = (claim: IdempotencyClaim): Promise<Uint8Array> =>
  sha256(utf8(JSON.stringify([claim.tenant_id, claim.principal_id, claim.route, claim.key])));

/** The answer given to this key within the window, or null. */
export async function recallAnswer(
  database: Database,
  claim: IdempotencyClaim,
  now: number,
): Promise<RememberedAnswer | null> {
  const [rows] = await asTenant(database, claim.tenant_id, [
    sql`select body_sha256, status, response from idempotency_keys
        where tenant_id = ${claim.tenant_id} and principal_id = ${claim.principal_id} and route = ${claim.route}
          and key = ${claim.key} and expires_at > ${new Date(now).toISOString()}`,
  ]);
  const row = rows?.[0];
  if (row === undefined) return null;
  return { body_sha256: String(row["body_sha256"]), status: Number(row["status"]), response: row["response"] };
}

/** Statements that make room for the claim: an expired row of the same key goes. Put them before `rememberAnswer`. */
export const forgetExpired = (claim: IdempotencyClaim | null, now: number): SQL[] =>
  claim === null
    ? []
    : [
        sql`delete from idempotency_keys
            where tenant_id = ${claim.tenant_id} and principal_id = ${claim.principal_id} and route = ${claim.route}
              and key = ${claim.key} and expires_at <= ${new Date(now).toISOString()}`,
      ];

/** Answers that one sweep forgets at most. */
const forgottenMax = 10_000;

/** Forgets answers whose window has passed, as the role maestro_drain (row security shows it no others); says how many. */
export async function forgetAllExpired(database: Database): Promise<number> {
  const [rows] = await inBatch(database, [
    sql`with gone as (
          delete from idempotency_keys where (tenant_id, principal_id, route, key) in (
            select tenant_id, principal_id, route, key from idempotency_keys where expires_at < now() limit ${forgottenMax}
          ) returning route
        ) select count(*)::int as count from gone`,
  ]);
  return Number(rows?.[0]?.["count"] ?? 0);
}

/** An INSERT of the answer; `from` (`from changed`) guards it: no row there, nothing remembered. */
export function rememberAnswer(
  claim: IdempotencyClaim,
  now: number,
  answer: { readonly status: number; readonly response: unknown },
  from: SQL = sql``,
): SQL {
  return sql`insert into idempotency_keys
    (tenant_id, principal_id, route, key, body_sha256, status, response, created_at, expires_at)
    select ${claim.tenant_id}::uuid, ${claim.principal_id}, ${claim.route}, ${claim.key}, ${claim.body_sha256},
      ${answer.status}::int, ${JSON.stringify(answer.response)}::jsonb, ${new Date(now).toISOString()}::timestamptz,
      ${new Date(now + idempotencyWindowMs).toISOString()}::timestamptz ${from}`;
}

/**
 * Remembers an answer where nothing is changed: a key that once was answered does nothing later. With `from`, false where
 * there is no row any more: nothing remembered, decide again. Throws as a change does where another request with the key was
 * faster.
 */
export async function rememberOnly(
  database: Database,
  claim: IdempotencyClaim,
  now: number,
  answer: { readonly status: number; readonly response: unknown },
  from: SQL = sql``,
): Promise<boolean> {
  const results = await asTenant(database, claim.tenant_id, [
    ...forgetExpired(claim, now),
    sql`${rememberAnswer(claim, now, answer, from)} returning key`,
  ]);
  return (results.at(-1) ?? []).length > 0;
}

/**
 * True where two requests with one key may have met, and this one lost: recall the winner's answer, and only where
 * there is none is the error what it seems. (Which unique index speaks first, the key's or the row's, is Postgres' choice.)
 */
export const lostToSameKey = (error: unknown): boolean => error instanceof LostToSameKey || isUniqueViolation(error);

/** Thrown by a route whose room met the other request behind an RPC, where the driver's error does not cross. */
export class LostToSameKey extends Error {
  override readonly name = "LostToSameKey";
}

/** An answer of a route, as far as a key remembers it. */
export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** Runs `work` unless its answer is known, and answers which of the two it was. */
export async function answerOnce<A extends Answer>(
  database: Database,
  claim: IdempotencyClaim | null,
  now: number,
  work: () => Promise<A>,
): Promise<{ answer: A | Answer; replayed: boolean }> {
  const before = await recalled(database, claim, now);
  if (before !== null) return { answer: before, replayed: true };
  try {
    return { answer: await work(), replayed: false };
  } catch (error) {
    // A conflict may be with the very change that this key made: then its answer is the answer.
    const mayBeOwn = error instanceof Problem && (error.status === 409 || error.status === 412);
    if (claim === null || !(mayBeOwn || lostToSameKey(error))) throw error;
    const winner = await recalled(database, claim, now);
    if (winner === null) throw error;
    return { answer: winner, replayed: true };
  }
}

export const otherBody = (): Problem =>
  new Problem(
    "idempotency_conflict",
    "This Idempotency-Key was sent before on this route, with another body or query.",
  );

async function recalled(database: Database, claim: IdempotencyClaim | null, now: number): Promise<Answer | null> {
  if (claim === null) return null;
  const remembered = await recallAnswer(database, claim, now);
  if (remembered === null) return null;
  if (remembered.body_sha256 !== claim.body_sha256) throw otherBody();
  return { status: remembered.status, body: remembered.response };
}
