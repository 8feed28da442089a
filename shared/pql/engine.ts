// From a question to its answer: text → tree → plan → one round trip → answer. Called by ask.ts, which knows the price.

import { sha256Hex, utf8 } from "../contract/bytes.ts";
import type { PqlAnswer } from "../contract/http-pql.ts";
import { Problem } from "../contract/problems.ts";
import type { Database } from "../tenancy/database.ts";
import type { Query } from "./ast.ts";
import { groupsAnswer, parseCursor, rowsAnswer, type Cursor } from "./answer.ts";
import { parsePql } from "./parse.ts";
import { planQuery, type Plan } from "./plan.ts";
import type { Proviso } from "./proviso.ts";
import { SealedCache } from "./sealed-cache.ts";
import { askLimits, readGroups, readRows, type AskLimits } from "./store.ts";

export interface Question {
  readonly tenant_id: string;
  /** Milliseconds since 1970: the end of every range. */
  readonly now: number;
  readonly query: string;
  readonly cursor?: string | undefined;
  /**
   * Up to where rows of counts may be read instead of events: a UTC hour in milliseconds since 1970, as the tenant's meter was
   * told; null or absent: nowhere. The answer is the same, and costs less.
   */
  readonly sealed_to?: number | null;
  /** What has to hold where it is read; null or absent: nothing. */
  readonly proviso?: Proviso | null;
}

/** A question that can be run, and how its pages join. */
export interface Planned {
  readonly plan: Plan;
  readonly cursor: Cursor | null;
  /** Of the query's text. */
  readonly digest: string;
}

/**
 * `query`: what the question's text was parsed to. Throws PqlError for a query that cannot be run, before anything is read;
 * Problem `invalid_request` for a cursor that is not this query's.
 */
export async function planQuestion(question: Question, query: Query): Promise<Planned> {
  const digest = (await sha256Hex(utf8(question.query))).slice(0, 32);
  const cursor = question.cursor === undefined ? null : cursorOf(question.cursor, digest, question.now);
  // Pages are one answer: of the range that the first one had, and complete as far as the first one was. Rows are written
  // in the order of the log, so that one that comes later is newer than all that stood, and in no later page.
  const plan = planQuery(query, question.query, cursor?.to ?? question.now);
  if (cursor !== null && plan.template !== "rows") throw badCursor("BUCKET BY and TOP give one answer, not pages");
  return { plan, cursor, digest };
}

/**
 * As `planQuestion`, and Problem `too_many_rows` for an answer beyond the limits. `database` connects as maestro_app.
 */
export async function askPql(
  database: Database,
  question: Question,
  ask: AskLimits = askLimits,
  kept: SealedCache = new SealedCache(),
): Promise<PqlAnswer> {
  return await readAnswer(database, question, await planQuestion(question, parsePql(question.query)), kept, ask);
}

/**
 * One round trip, seldom two. Throws Problem `too_many_rows` for an answer beyond the limits, ProvisoFailed where the proviso does
 * not hold.
 */
export async function readAnswer(
  database: Database,
  question: Question,
  { plan, cursor, digest }: Planned,
  kept: SealedCache,
  ask: AskLimits = askLimits,
): Promise<PqlAnswer> {
  const { tenant_id, sealed_to: sealedTo = null, proviso = null } = question;
  const reading = { database, tenant_id, ask, proviso };
  if (plan.template === "rows") {
    const { found, complete_to } = await readRows(reading, plan, cursor?.before ?? null);
    const completeTo = cursor === null ? complete_to : earlier(cursor.complete_to, complete_to);
    return rowsAnswer(plan, found, completeTo, ask.page_rows, digest);
  }
  const { found, complete_to } = await readGroups(reading, plan, sealedTo, kept);
  return groupsAnswer(plan, found, complete_to);
}

/** Null is the earliest. A cursor is only text that came back: it cannot promise more than is there. */
const earlier = (left: number | null, right: number | null): number | null =>
  left === null || right === null ? null : Math.min(left, right);

function cursorOf(text: string, digest: string, now: number): Cursor {
  const cursor = parseCursor(text);
  if (cursor === null || cursor.to > now) throw badCursor("send `next_cursor` of the page before, as it was");
  if (cursor.query_digest !== digest) throw badCursor("it belongs to another query; send that query's text unchanged");
  return cursor;
}

const badCursor = (message: string): Problem =>
  new Problem("invalid_request", `The cursor cannot be used here: ${message}.`, {
    errors: [{ path: "#/cursor", message }],
  });
