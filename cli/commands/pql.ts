// `maestro pql`: a question to the tenant's audit events.

import type { Command } from "commander";
import { leaf, type Act } from "../command.ts";
import { ApiProblem } from "../failure.ts";
import { printable } from "../output.ts";
import { readStdin } from "../secret-input.ts";
import type { Session } from "../session.ts";
import type { PqlAnswer } from "../../shared/contract/http-pql.ts";

const queryBytesMax = 64 * 1024;

export function pqlCommands(program: Command, act: Act): void {
  leaf(program, "pql <query>", {
    summary: "ask the audit events; `-` reads the query from stdin",
    examples: [
      'maestro pql "FIND executions SINCE 1h"',
      "maestro pql \"FIND executions WHERE outcome = 'failed' BUCKET BY 5m TOP 5 BY package SINCE 1h\" --json",
      "maestro pql - < question.pql",
    ],
  })
    .option("--cursor <cursor>", "`next_cursor` of the page before")
    .action(act(ask));
}

async function ask(session: Session, given: string, options: { cursor?: string }): Promise<void> {
  const query = given === "-" ? (await readStdin(session.host, queryBytesMax)).trim() : given;
  const api = await session.api();
  let answer: PqlAnswer;
  try {
    answer = await api.pql(query, options.cursor);
  } catch (error) {
    if (error instanceof ApiProblem && error.problem.line !== undefined && error.problem.column !== undefined) {
      for (const line of pointAt(query, error.problem.line, error.problem.column)) session.out.note(line);
    }
    throw error;
  }
  session.out.result(answer, () => answerText(session, answer));
  if (answer.kind === "rows" && answer.next_cursor !== null && !session.out.json) {
    session.out.note(`more: add --cursor ${answer.next_cursor}`);
  }
}

const lineWidthMax = 160;

/** The query's line and a caret under the column (both from 1); none where the query has no such place. */
export function pointAt(query: string, line: number, column: number): string[] {
  const text = query.split(/\r\n|\r|\n/)[line - 1];
  if (text === undefined || column > text.length + 1) return [];
  // A long line is cut so that the caret stays in sight.
  const start = Math.max(0, column - 1 - lineWidthMax / 2);
  const before = printable(text.slice(start, column - 1).replaceAll("\t", " "));
  const after = printable(text.slice(column - 1, start + lineWidthMax).replaceAll("\t", " "));
  return [`  ${before}${after}`, `  ${" ".repeat(before.length)}^`];
}

function answerText(session: Session, answer: PqlAnswer): string {
  const { out } = session;
  const complete = answer.complete_to === null ? "nothing logged yet" : `complete to ${answer.complete_to}`;
  const covers = out.paint.dim(`covers ${answer.covers.from} to ${answer.covers.to}, ${complete}`);
  if (answer.kind === "rows") {
    return [
      out.table(
        answer.columns,
        answer.rows.map((row) => answer.columns.map((column) => row[column])),
      ),
      covers,
    ].join("\n");
  }
  const names = answer.groups.map((group) => group.name ?? "(none)");
  const totals = out.table(
    [answer.field ?? "all", "total"],
    [
      ...answer.groups.map((group, at) => [names[at], group.total]),
      ...(answer.field === null ? [] : [["(other)", answer.other]]),
      ["(total)", answer.total],
    ],
  );
  if (answer.buckets === null) return [totals, covers].join("\n");
  const hasOther = answer.field !== null;
  const buckets = out.table(
    ["from", ...names, ...(hasOther ? ["(other)"] : []), ""],
    answer.buckets.map((bucket) => [
      bucket.start,
      ...bucket.counts,
      ...(hasOther ? [bucket.other] : []),
      bucket.partial ? "partial" : "",
    ]),
  );
  return [totals, "", buckets, covers].join("\n");
}
