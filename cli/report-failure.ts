// How a failure reaches the person: title, detail, rule, fix, request id. Called by `program.ts` alone.

import { ApiProblem, Failure, messageOf } from "./failure.ts";
import { commandOfFix, fixLines } from "./fix-lines.ts";
import type { Host } from "./host.ts";
import { createOutput, paintFor, printable } from "./output.ts";
import { exitCodeOf, type ExitName } from "./exit-codes.ts";

interface Told {
  readonly exit: ExitName;
  readonly lines: readonly string[];
  readonly value: Readonly<Record<string, unknown>>;
}

function tell(error: unknown): Told {
  if (error instanceof ApiProblem) {
    const { title, detail, code, rule, fix, action, suggestion, request_id } = error.problem;
    const lines: string[] = [];
    if (detail !== undefined) lines.push(printable(detail));
    if (suggestion) lines.push(`hint: ${printable(suggestion)}`);
    if (rule !== undefined) lines.push(`rule: ${printable(rule)}`);
    const command = fix ? commandOfFix(fix) : null;
    if (fix) lines.push(...fixLines(fix));
    else if (action !== undefined) lines.push(`fix: ${printable(action)}`);
    if (request_id !== undefined) lines.push(`request: ${printable(request_id)}`);
    return {
      exit: error.exit,
      lines: [`${printable(title)}${code === undefined ? "" : ` (${printable(code)})`}`, ...lines],
      value: { ...error.problem, status: error.status, ...(command === null ? {} : { command }) },
    };
  }
  if (error instanceof Failure) {
    const lines = [error.message];
    if (error.advice !== null) lines.push(`fix: ${error.advice}`);
    if (error.command !== null) lines.push(`     ${error.command}`);
    return {
      exit: error.exit,
      lines: lines.map(printable),
      value: { ...error.facts, title: error.message, advice: error.advice, command: error.command },
    };
  }
  return { exit: "failure", lines: [printable(messageOf(error))], value: { title: messageOf(error) } };
}

/** Prints `error` (stderr for the person, stdout for --json) and answers the exit code. */
export function reportFailure(host: Host, json: boolean, error: unknown): number {
  const { exit, lines, value } = tell(error);
  const paint = paintFor(host.stderrIsTerminal, host.env);
  const [first = "", ...rest] = lines;
  host.stderr.write(
    `${[`${paint.red("error:")} ${paint.bold(first)}`, ...rest.map((line) => `  ${line}`)].join("\n")}\n`,
  );
  if (json) {
    createOutput(host, true).result({ error: { ...value, exit, exit_code: exitCodeOf(exit) } }, () => "");
  }
  return exitCodeOf(exit);
}
