// `maestro pql`: a question to the tenant's audit events, or many of them on a terminal (cli/pql/).

import { resolve } from "node:path";
import type { Writable } from "node:stream";
import { Option, type Command } from "commander";
import type { PqlAnswer } from "../../shared/contract/http-pql.ts";
import { leaf, type Act } from "../command.ts";
import type { ExitName } from "../exit-codes.ts";
import { Failure } from "../failure.ts";
import { requireWritable, writePrivate } from "../folders.ts";
import { printable } from "../output.ts";
import { answerText, chartNames, explanationText, type ChartName } from "../pql/answer-text.ts";
import { askAll, type Ended } from "../pql/ask-all.ts";
import { formatNames, isStream, parquetBytes, shown, streamPart, type FormatName } from "../pql/formats.ts";
import { notePlace } from "../pql/point-at.ts";
import { runShell } from "../pql/shell.ts";
import { readStdin } from "../secret-input.ts";
import type { Session } from "../session.ts";
import { shellLine } from "../shell-words.ts";

const queryBytesMax = 64 * 1024;
/** Rows that --all holds in memory, for formats that are one value. */
const heldRowsMax = 100_000;

const cursorOption = (cursor: string): string => printable(shellLine(["--cursor", cursor]));

interface PqlOptions {
  readonly cursor?: string;
  readonly format?: FormatName;
  readonly chart?: ChartName;
  readonly explain?: boolean;
  readonly all?: boolean;
  readonly out?: string;
}

export function pqlCommands(program: Command, act: Act): void {
  leaf(program, "pql [query]", {
    summary: "ask the audit events; `-` reads the query from stdin, none at all asks on the terminal",
    more:
      "Without a query, on a terminal: one question after the other, with history and completion (Tab); \\help tells more.\n" +
      "Counts in buckets are drawn as a sparkline a group on a terminal, and are a table in a pipe.",
    examples: [
      'maestro pql "FIND executions SINCE 1h"',
      "maestro pql \"FIND executions WHERE outcome = 'failed' BUCKET BY 5m TOP 5 BY package SINCE 1h\" --json",
      'maestro pql "FIND decisions BUCKET BY 1h SINCE 24h" --chart bars',
      'maestro pql "FIND decisions SINCE 7d" --all --format parquet --out decisions.parquet',
      'maestro pql "FIND events SINCE 30d" --explain',
      "maestro pql - < question.pql",
      "maestro pql",
    ],
  })
    .option("--cursor <cursor>", "`next_cursor` of the page before")
    .addOption(new Option("--format <format>", "what the answer is written as").choices(formatNames))
    .addOption(new Option("--chart <chart>", "how counts in buckets are drawn").choices(chartNames))
    .option("--explain", "what the query would cost, without asking it")
    .option("--all", "all pages, one after the other; Ctrl-C keeps what has come and tells where to go on")
    .option("--out <file>", "write the answer to a file")
    .action(act(pql));
}

async function pql(session: Session, given: string | undefined, options: PqlOptions): Promise<ExitName | void> {
  const format = formatOf(session, options);
  const isTerminal = session.host.stdin.isTTY === true && session.host.stdoutIsTerminal;
  const chart = options.chart ?? (session.host.stdoutIsTerminal ? "sparkline" : "none");
  if (given === undefined) {
    const alone = options.cursor ?? options.explain ?? options.all ?? options.out;
    if (!isTerminal || session.out.json || alone !== undefined || format === "parquet") {
      throw new Failure("usage", "No query was given", {
        advice: 'Give one (`maestro pql "FIND events SINCE 1h"`), `-` for stdin, or nothing on a terminal.',
      });
    }
    return await runShell(session, { format, chart });
  }
  const query = given === "-" ? (await readStdin(session.host, queryBytesMax)).trim() : given;
  try {
    if (options.explain === true) return await explain(session, query);
    return await ask(session, query, { ...options, format, chart });
  } catch (error) {
    notePlace(session, query, error);
    throw error;
  }
}

/** Throws Failure `usage` for options that do not go together. */
function formatOf(
  { out, host }: Session,
  { format = out.json ? "json" : "table", ...options }: PqlOptions,
): FormatName {
  const refuse = (sentence: string, advice: string): never => {
    throw new Failure("usage", sentence, { advice });
  };
  if (out.json && format !== "json") refuse(`--json and --format ${format} exclude each other`, "Give one of them.");
  if (options.out !== undefined && format === "table") {
    refuse("A table is for reading, not for a file", "Add --format json, ndjson, csv or parquet.");
  }
  if (options.explain === true && format !== "table" && format !== "json") {
    refuse("An explanation has no rows", "Leave --format away, or give --json.");
  }
  if (options.explain === true && (options.all ?? options.cursor ?? options.out) !== undefined) {
    refuse("--explain is of the whole query", "Leave --all, --cursor and --out away.");
  }
  if (format === "parquet" && options.out === undefined && host.stdoutIsTerminal) {
    refuse("Parquet is bytes, which a terminal cannot show", "Add --out FILE, or pipe it into a program.");
  }
  return format;
}

async function explain(session: Session, query: string): Promise<void> {
  const explained = await (await session.api()).explainPql(query);
  session.out.result(explained, () => explanationText(session, explained));
}

interface Asked extends PqlOptions {
  readonly format: FormatName;
  readonly chart: ChartName;
}

async function ask(
  session: Session,
  query: string,
  { format, chart, all, cursor, out: file }: Asked,
): Promise<ExitName> {
  const { out, host } = session;
  const place = file === undefined ? null : resolve(host.cwd, file);
  if (place !== null) await requireWritable(place);
  const flows = all === true && isStream(format) && place === null;
  const progress = all === true ? out.progress("rows", 0) : null;
  let count = 0;
  let held: PqlAnswer | null = null;
  let ended: Ended;
  try {
    ended = await askAll(session, query, cursor, async (page, isFirst) => {
      count += page.kind === "rows" ? page.rows.length : 0;
      if (flows) await write(host.stdout, shown(host, streamPart(format, page, isFirst)));
      else held = joined(held, page);
      progress?.update(count);
      return all === true && (flows || count < heldRowsMax) ? "more" : "enough";
    });
  } finally {
    progress?.end();
  }
  if (held !== null) await deliver(session, held, format, chart, place);
  if (place !== null) out.note(`${place}: ${count} rows`);
  if (ended.cursor === null) return "ok";
  // JSON has it in itself.
  if (all !== true) {
    if (!out.json) out.note(`more: add ${cursorOption(ended.cursor)}`);
    return "ok";
  }
  out.note(`ended after ${count} rows; to go on: add ${cursorOption(ended.cursor)}`);
  if (ended.error !== null) throw ended.error;
  return "failure";
}

/** The pages of one query are one answer, of the range and with the `complete_to` that the first one had. */
function joined(before: PqlAnswer | null, page: PqlAnswer): PqlAnswer {
  if (before?.kind !== "rows" || page.kind !== "rows") return page;
  before.rows.push(...page.rows);
  return { ...before, next_cursor: page.next_cursor };
}

async function deliver(
  session: Session,
  answer: PqlAnswer,
  format: FormatName,
  chart: ChartName,
  place: string | null,
): Promise<void> {
  const { host } = session;
  // A table is clean already, and painted.
  if (format === "table") return await write(host.stdout, `${answerText(session, answer, chart)}\n`);
  const json = (): string =>
    `${JSON.stringify(answer, null, host.stdoutIsTerminal && place === null ? 2 : undefined)}\n`;
  const content =
    format === "json" ? json() : format === "parquet" ? parquetBytes(answer) : streamPart(format, answer, true);
  if (place !== null) await writePrivate(place, content);
  else await write(host.stdout, typeof content === "string" ? shown(host, content) : content);
}

/** Resolves once the chunk is taken: a slow reader slows the pages down. */
const write = (stream: Writable, chunk: string | Uint8Array): Promise<void> =>
  new Promise((done, fail) => {
    stream.write(chunk, (error) => (error ? fail(error) : done()));
  });
