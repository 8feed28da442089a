// Where in a query a refusal points: the line, and a caret under the column. Used by the one-shot command and the shell.

import { ApiProblem } from "../failure.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";

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

/** Notes the place, where `error` is a refusal that has one. */
export function notePlace(session: Session, query: string, error: unknown): void {
  if (!(error instanceof ApiProblem)) return;
  const { line, column } = error.problem;
  if (line === undefined || column === undefined) return;
  for (const text of pointAt(query, line, column)) session.out.note(text);
}
