// The one way to ask: plan → price → admission → one round trip → answer. Called by POST /api/pql. Nothing is read before
// the tenant's meter has admitted the question, and nothing where the meter does not answer.

import type { PqlReply } from "../contract/http-pql.ts";
import type { Clock } from "../contract/ports.ts";
import { Problem } from "../contract/problems.ts";
import type { Database } from "../tenancy/database.ts";
import { planQuestion, readAnswer, type Planned, type Question } from "./engine.ts";
import { explanationOf } from "./explanation.ts";
import type { Admission, MeterPort } from "./meter.ts";
import { outlineOf } from "./price.ts";
import { outcomeOf, type Outcome, type QueryTime } from "./query-times.ts";
import { askLimits, type AskLimits } from "./store.ts";

export interface AskParts {
  /** Connects as maestro_app. */
  readonly database: Database;
  /** The asking tenant's. */
  readonly meter: Pick<MeterPort, "admit">;
  readonly clock: Clock;
  /** Takes how long it took, whatever became of it; does not throw. */
  readonly note: (time: QueryTime) => void;
}

export interface AskedQuestion extends Omit<Question, "sealed_to"> {
  /** Say how it would be answered, and read nothing. */
  readonly explain: boolean;
}

/**
 * Throws PqlError for a query that cannot be run; Problem `pql_too_expensive`, `pql_rate_limited` or `meter_unavailable`
 * before anything is read; Problem `too_many_rows` for an answer beyond the limits.
 */
export async function answerQuestion(
  parts: AskParts,
  question: AskedQuestion,
  ask: AskLimits = askLimits,
): Promise<PqlReply> {
  let template: QueryTime["template"] = "none";
  const note = (outcome: Outcome): void =>
    parts.note({ template, outcome, ms: Math.max(0, parts.clock() - question.now) });
  try {
    const planned = await planQuestion(question);
    template = planned.plan.template;
    const reply = await answerPlanned(parts, question, planned, ask);
    note(reply.kind === "explanation" ? "explained" : "ok");
    return reply;
  } catch (error) {
    note(outcomeOf(error));
    throw error;
  }
}

async function answerPlanned(
  { database, meter }: AskParts,
  { explain, ...question }: AskedQuestion,
  planned: Planned,
  ask: AskLimits,
): Promise<PqlReply> {
  const { plan, cursor } = planned;
  const asked = { plan: outlineOf(plan), before_ms: cursor?.before.logged_at ?? null, held_seq: null };
  const admission = await meter.admit({ ...asked, spend: !explain });
  if (explain) return explanationOf(plan, admission);
  if (admission.state !== "admitted") throw refusalOf(admission);
  const { price, head } = admission;
  return { ...(await readAnswer(database, { ...question, sealed_to: head.sealed_to }, planned, ask)), price };
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
