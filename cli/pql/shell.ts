// `maestro pql` without a query: questions one after the other on a terminal, with history and completion. Ctrl-C clears the
// line or cancels the question that runs, Ctrl-D ends. Called by commands/pql.ts.

import { createInterface } from "node:readline/promises";
import type { PqlAnswer } from "../../shared/contract/http-pql.ts";
import type { ExitName } from "../exit-codes.ts";
import { Failure, messageOf } from "../failure.ts";
import { reportFailure } from "../report-failure.ts";
import type { Session } from "../session.ts";
import { answerText, chartNames, explanationText, type ChartName } from "./answer-text.ts";
import { complete } from "./complete.ts";
import { formatNames, isStream, shown, streamPart, type FormatName } from "./formats.ts";
import { entryOf, readHistory, remember } from "./history.ts";
import { notePlace } from "./point-at.ts";
import { enter } from "./shell-input.ts";
import { valueQuestion, ValueMemory } from "./values.ts";
import { vocabulary } from "./vocabulary.ts";

/** How long a Tab waits for a tenant's values. */
const valuesWithinMs = 3_000;
const historyMax = 1_000;
const prompts = { first: "pql> ", more: "...> " };

export interface ShellSettings {
  format: Exclude<FormatName, "parquet">;
  chart: ChartName;
}

export const shellCommands = ["help", "format", "chart", "explain", "more", "fields", "quit"] as const;
type CommandName = (typeof shellCommands)[number];

const help = `A query ends with a semicolon at the end of a line, or with an empty line. Tab completes.
  \\help             this
  \\format FORMAT    table, json, ndjson or csv
  \\chart CHART      sparkline, bars or none
  \\explain [QUERY]  what the query, or the last one, would cost
  \\more             the next page of the last rows
  \\fields [SUBJECT] what can be asked of a subject
  \\quit             end, as Ctrl-D does; Ctrl-C clears the line or cancels the query`;

export async function runShell(session: Session, settings: ShellSettings): Promise<ExitName> {
  const { host } = session;
  // Without a login there is nothing to ask: better now than after the first query was written.
  await session.api();
  const shell = new Shell(session, settings, await readHistory(host));
  return await shell.run();
}

class Shell {
  readonly #session: Session;
  readonly #settings: ShellSettings;
  readonly #values = new ValueMemory(vocabulary);
  readonly #readline;
  /** Whole queries, the newest first: what the arrow keys go through. */
  readonly #entries: string[];
  /** readline's own list, which has single lines. */
  #listed: string[] | null = null;
  #lines: readonly string[] = [];
  #running: AbortController | null = null;
  #last: { readonly query: string; readonly answer: PqlAnswer | null } | null = null;

  constructor(session: Session, settings: ShellSettings, history: readonly string[]) {
    this.#session = session;
    this.#settings = settings;
    this.#entries = history.toReversed();
    const { stdin: input, stdout: output } = session.host;
    this.#readline = createInterface({
      input,
      output,
      terminal: true,
      history: [...this.#entries],
      historySize: historyMax,
      completer: (line: string) => this.#complete(line),
    });
  }

  async run(): Promise<ExitName> {
    const { out, host } = this.#session;
    const readline = this.#readline;
    const leave = (): void => readline.close();
    host.interrupted.addEventListener("abort", leave);
    readline.on("SIGINT", () => this.#interrupt());
    readline.on("history", (listed) => {
      this.#listed = listed;
      const [line = ""] = listed;
      this.#list([line, ...this.#lines.toReversed()]);
    });
    out.note(out.paint.dim("A query ends with ; or an empty line. \\help tells more, Ctrl-D ends."));
    try {
      readline.setPrompt(prompts.first);
      readline.prompt();
      for await (const line of readline) {
        if ((await this.#enter(line)) === "quit" || host.interrupted.aborted) break;
        readline.setPrompt(this.#lines.length === 0 ? prompts.first : prompts.more);
        readline.prompt();
      }
    } finally {
      host.interrupted.removeEventListener("abort", leave);
      readline.close();
    }
    host.stdout.write("\n");
    return host.interrupted.aborted ? "interrupted" : "ok";
  }

  async #enter(line: string): Promise<"quit" | "stay"> {
    const entered = enter(this.#lines, line);
    this.#lines = entered.kind === "more" ? entered.lines : [];
    if (entered.kind === "query") {
      await this.#keep(entered.query);
      await this.#ask(entered.query);
    } else if (entered.kind === "command") {
      return await this.#command(entered.name, entered.argument);
    }
    return "stay";
  }

  #interrupt(): void {
    if (this.#running !== null) return this.#running.abort();
    this.#lines = [];
    // To the end, and back to the start: the line is empty.
    this.#readline.write(null, { ctrl: true, name: "e" });
    this.#readline.write(null, { ctrl: true, name: "u" });
    this.#session.host.stdout.write("^C\n");
    this.#readline.setPrompt(prompts.first);
    this.#readline.prompt();
  }

  // ---- commands

  async #command(given: string, argument: string): Promise<"quit" | "stay"> {
    const { out } = this.#session;
    const meant = shellCommands.filter((name) => name.startsWith(given === "?" ? "help" : given));
    const [name] = meant;
    if (name === undefined || (meant.length > 1 && !meant.some((one) => one === given))) {
      const which = meant.length > 1 ? `\\${given} may be \\${meant.join(" or \\")}.` : `There is no \\${given}.`;
      out.note(`${which} \\help lists the commands.`);
      return "stay";
    }
    if (name === "quit") return "quit";
    await this.#act(name, argument);
    return "stay";
  }

  async #act(name: Exclude<CommandName, "quit">, argument: string): Promise<void> {
    const { out, host } = this.#session;
    switch (name) {
      case "help":
        host.stdout.write(`${help}\n`);
        return;
      case "format": {
        const format = formatNames.find((one) => one === argument);
        if (format === "parquet") out.note("Parquet is bytes: maestro pql QUERY --format parquet --out FILE");
        else if (format === undefined) out.note(`The format is ${this.#settings.format}. table, json, ndjson or csv?`);
        else this.#settings.format = format;
        return;
      }
      case "chart": {
        const chart = chartNames.find((one) => one === argument);
        if (chart === undefined) out.note(`The chart is ${this.#settings.chart}. ${chartNames.join(", ")}?`);
        else this.#settings.chart = chart;
        return;
      }
      case "fields":
        host.stdout.write(`${this.#fields(argument.toLowerCase() || "events")}\n`);
        return;
      case "explain": {
        const query = argument === "" ? this.#last?.query : argument;
        if (query === undefined) out.note("Nothing was asked yet: \\explain QUERY");
        else await this.#explain(query);
        return;
      }
      case "more": {
        const cursor = this.#last?.answer?.kind === "rows" ? this.#last.answer.next_cursor : null;
        if (this.#last === null || cursor === null) out.note("There is no next page.");
        else await this.#ask(this.#last.query, cursor);
      }
    }
  }

  #fields(subject: string): string {
    if (!vocabulary.subjects.includes(subject)) return `A subject is one of ${vocabulary.subjects.join(", ")}.`;
    return this.#session.out.table(
      ["field", "kind", "TOP"],
      vocabulary.fieldsOf(subject).map(({ name, kind, groupable }) => [name, kind, groupable ? "yes" : "no"]),
    );
  }

  // ---- questions

  async #ask(query: string, cursor?: string): Promise<void> {
    const answer = await this.#inTurn(query, async (signal) =>
      (await this.#session.api({ signal })).pql(query, cursor),
    );
    this.#last = { query, answer };
    if (answer === null) return;
    this.#values.learn(query, answer);
    this.#show(answer);
  }

  async #explain(query: string): Promise<void> {
    const explained = await this.#inTurn(query, async (signal) =>
      (await this.#session.api({ signal })).explainPql(query),
    );
    if (explained !== null) this.#session.host.stdout.write(`${explanationText(this.#session, explained)}\n`);
  }

  /** Null where it failed or was cancelled, which the person was told. */
  async #inTurn<T>(query: string, work: (signal: AbortSignal) => Promise<T>): Promise<T | null> {
    const running = new AbortController();
    this.#running = running;
    try {
      return await work(running.signal);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (this.#session.host.interrupted.aborted) return null;
      if (running.signal.aborted) this.#session.out.note("cancelled");
      else {
        notePlace(this.#session, query, error);
        reportFailure(this.#session.host, false, error);
      }
      return null;
    } finally {
      this.#running = null;
    }
  }

  #show(answer: PqlAnswer): void {
    const { host, out } = this.#session;
    const { format, chart } = this.#settings;
    if (isStream(format)) host.stdout.write(shown(host, streamPart(format, answer, true)));
    else if (format === "json") host.stdout.write(shown(host, `${JSON.stringify(answer, null, 2)}\n`));
    else host.stdout.write(`${answerText(this.#session, answer, chart)}\n`);
    if (answer.kind === "rows" && answer.next_cursor !== null) out.note(out.paint.dim("more: \\more"));
  }

  // ---- completion and history

  async #complete(line: string): Promise<[string[], string]> {
    if (this.#lines.length === 0 && line.startsWith("\\")) return completeCommand(line);
    const before = this.#lines.map((one) => `${one}\n`).join("");
    const now = (): ReturnType<typeof complete> => complete(before + line, vocabulary, this.#values.seen);
    let completion = now();
    if (completion.wanted !== null && this.#values.mayAsk(completion.wanted)) {
      await this.#learnValues(valueQuestion(completion.wanted));
      completion = now();
    }
    const written = line.slice(Math.max(0, completion.from - before.length));
    const [only] = completion.options;
    // One that is whole is followed by a blank.
    if (completion.options.length === 1 && only !== undefined) return [[`${only} `], written];
    return [[...completion.options], written];
  }

  /** A convenience: where it fails, nothing is completed, and the next question will tell why. */
  async #learnValues(query: string): Promise<void> {
    try {
      const api = await this.#session.api({ signal: AbortSignal.timeout(valuesWithinMs) });
      this.#values.learn(query, await api.pql(query));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
    }
  }

  async #keep(query: string): Promise<void> {
    const entry = entryOf(`${query};`);
    if (entry !== null && this.#entries[0] !== entry) this.#entries.unshift(entry);
    this.#entries.splice(historyMax);
    this.#list([]);
    if (entry === null) return;
    try {
      await remember(this.#session.host, entry);
    } catch (error) {
      this.#session.out.note(`the history is not kept: ${messageOf(error)}`);
    }
  }

  /** What the arrow keys find: lines of the query that is being written, then whole queries. */
  #list(lines: readonly string[]): void {
    this.#listed?.splice(0, this.#listed.length, ...lines, ...this.#entries);
  }
}

/** The argument is completed where there is a list of them. */
function completeCommand(line: string): [string[], string] {
  const argument = /^\\(\w+)\s+(\w*)$/.exec(line);
  if (argument === null)
    return [shellCommands.map((name) => `\\${name}`).filter((name) => name.startsWith(line)), line];
  const [, name, written = ""] = argument;
  const lists: Readonly<Record<string, readonly string[]>> = {
    format: formatNames.filter((format) => format !== "parquet"),
    chart: chartNames,
    fields: vocabulary.subjects,
  };
  return [(lists[name!] ?? []).filter((word) => word.startsWith(written)), written];
}
