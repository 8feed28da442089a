// The one way to ask: plan → price → admission → one round trip → answer. Called by POST /api/pql. Nothing is read before
// the tenant's meter has admitted the question, and nothing where the meter does not answer.

import type { PqlReply } from "../contract/http-pql.ts";
import type { Clock } from "../contract/ports.ts";
import { Problem } from "../contract/problems.ts";
import type { Database } from "../tenancy/database.ts";
import { type AnswerCache, answerTag, isNamedBy, questionKey, seqOfTag, withEnd } from "./answer-cache.ts";
import type { Query } from "./ast.ts";
import type { Cursor } from "./answer.ts";
import { planQuestion, readAnswer, type Planned, type Question } from "./engine.ts";
import { explanationOf } from "./explanation.ts";
import type { Admission, MeterPort } from "./meter.ts";
import { parsePql } from "./parse.ts";
import type { Plan } from "./plan.ts";
import { outlineOf, type Priced } from "./price.ts";
import { ProvisoFailed } from "./proviso.ts";
import { outcomeOf, type Outcome, type QueryTime } from "./query-times.ts";
import type { SealedCache } from "./sealed-cache.ts";
import { askLimits, type AskLimits } from "./store.ts";

export interface AskParts {
  /** Connects as maestro_app. */
  readonly database: Database;
  /** The asking tenant's. */
  readonly meter: Pick<MeterPort, "admit">;
  readonly clock: Clock;
  /** Throws PqlError where the tenant may not ask the query, of which `text` is the text; Problem where that cannot be told. */
  readonly requireGrammar: (query: Query, text: string) => Promise<void>;
  /** Takes how long it took, whatever became of it, unless its proviso failed; does not throw. */
  readonly note: (time: QueryTime) => void;
  /** The isolate's, both. */
  readonly cache: AnswerCache;
  readonly sealed: SealedCache;
}

export interface AskedQuestion extends Omit<Question, "sealed_to"> {
  /** Say how it would be answered, and read nothing. */
  readonly explain: boolean;
  readonly if_none_match: string | null;
  /** The format that the answer will have, as letters and digits: part of its tag. */
  readonly representation: string;
}

export interface Reply {
  /** Null: the caller has it, by the tag that it sent. */
  readonly body: PqlReply | null;
  /** Null: an answer like it will not come again. */
  readonly etag: string | null;
}

interface Answered extends Reply {
  readonly outcome: Outcome;
}

/**
 * Throws PqlError for a query that cannot be run; Problem `pql_too_expensive`, `pql_rate_limited` or `meter_unavailable`
 * before anything is read; Problem `too_many_rows` for an answer beyond the limits; ProvisoFailed where something was read and the
 * question's proviso did not hold. A proviso is asked only where something is read: what is told otherwise is its giver's to hold back.
 */
export async function answerQuestion(
  parts: AskParts,
  question: AskedQuestion,
  ask: AskLimits = askLimits,
): Promise<Reply> {
  let template: QueryTime["template"] = "none";
  const note = (outcome: Outcome): void =>
    parts.note({ template, outcome, ms: Math.max(0, parts.clock() - question.now) });
  try {
    const query = parsePql(question.query);
    await parts.requireGrammar(query, question.query);
    const planned = await planQuestion(question, query);
    template = planned.plan.template;
    const { body, etag, outcome } = question.explain
      ? await explain(parts, planned)
      : await answerPlanned(parts, question, planned, ask);
    note(outcome);
    return { body, etag };
  } catch (error) {
    if (!(error instanceof ProvisoFailed)) note(outcomeOf(error));
    throw error;
  }
}

async function explain({ meter }: AskParts, { plan, cursor }: Planned): Promise<Answered> {
  const admission = await meter.admit({ ...pricedOf(plan, cursor), held_seq: null, spend: false });
  return { body: explanationOf(plan, admission), etag: null, outcome: "explained" };
}

const pricedOf = (plan: Plan, cursor: Cursor | null): Priced => ({
  plan: outlineOf(plan),
  before_ms: cursor?.before.logged_at ?? null,
});

async function answerPlanned(
  { database, meter, cache, sealed }: AskParts,
  question: AskedQuestion,
  planned: Planned,
  ask: AskLimits,
): Promise<Answered> {
  const { plan, cursor, digest } = planned;
  const { tenant_id: tenantId, now, representation, if_none_match: ifNoneMatch } = question;
  const key = questionKey(tenantId, digest, plan);
  const held = key === null ? null : cache.get(key, now);
  const tagged = key === null || ifNoneMatch === null ? null : await seqOfTag(key, ifNoneMatch, representation);
  // The newer of the two: the other one holds no longer.
  const seqs = [tagged, held?.indexed_seq ?? null].filter((seq) => seq !== null);
  const heldSeq = seqs.length === 0 ? null : Math.max(...seqs);

  const admission = await meter.admit({ ...pricedOf(plan, cursor), held_seq: heldSeq, spend: true });
  if (admission.state !== "admitted") throw refusalOf(admission);
  const { price, head } = admission;
  const etag = key === null ? null : await answerTag(key, head.indexed_seq, representation);
  if (admission.unchanged) {
    if (tagged === head.indexed_seq) return { body: null, etag, outcome: "cached" };
    if (held !== null) return { body: { ...withEnd(held.answer, plan.to), price }, etag, outcome: "cached" };
  }
  const answer = await readAnswer(database, { ...question, sealed_to: head.sealed_to }, planned, sealed, ask);
  const named = key !== null && answer.kind === "groups" && isNamedBy(answer, plan, head);
  if (named) cache.put(key, { answer, indexed_seq: head.indexed_seq, kept_at: now });
  return { body: { ...answer, price }, etag: named ? etag : null, outcome: "ok" };
}

function refusalOf(refused: Exclude<Admission, { readonly state: "admitted" }>): Problem {
  const { price } = refused;
  if (refused.state === "rate_limited") {
    const seconds = Math.max(1, Math.ceil(refused.retry_after_ms / 1_000));
    return new Problem(
      "pql_rate_limited",
      `The question would read ${price.rows} rows; the tenant may read so many in ${seconds} s.`,
      { price, retry_after_seconds: seconds },
    );
  }
  const { changes } = refused;
  return new Problem(
    "pql_too_expensive",
    `The question would read ${price.rows} rows; one question may read ${price.limit}.`,
    {
      price,
      changes,
      suggestion: changes.length === 0 ? null : changes.map(({ text, rows }) => `${text} (${rows} rows)`).join(" or "),
    },
  );
}
