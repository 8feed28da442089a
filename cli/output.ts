// How `maestro` speaks: one JSON value on stdout with --json, tables and colours on a terminal only, everything that
// is not the answer on stderr. Used by every command.

import type { Host } from "./host.ts";

type Cell = string | number | boolean | null | undefined;

export interface Progress {
  /** `done` of the total given at the start. */
  update(done: number): void;
  end(): void;
}

export interface Output {
  readonly json: boolean;
  readonly paint: Paint;
  /** The command's answer: `value` with --json, else `text()`. Once a command. */
  result(value: unknown, text: () => string): void;
  /** A line for the person, on stderr. */
  note(line: string): void;
  /** A bar on stderr where that is a terminal; else nothing. `total` 0 counts without an end. */
  progress(label: string, total: number): Progress;
  table(columns: readonly string[], rows: readonly (readonly Cell[])[]): string;
  record(fields: readonly (readonly [string, Cell])[]): string;
}

export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
}

const wrap =
  (on: boolean, open: number, close: number) =>
  (text: string): string =>
    on ? `\u001B[${open}m${text}\u001B[${close}m` : text;

export function paintFor(isTerminal: boolean, env: Host["env"]): Paint {
  // https://no-color.org: any value that is not empty switches colour off.
  const on = isTerminal && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
  return {
    bold: wrap(on, 1, 22),
    dim: wrap(on, 2, 22),
    red: wrap(on, 31, 39),
    green: wrap(on, 32, 39),
    yellow: wrap(on, 33, 39),
  };
}

// C0, C1, bidirectional controls and line separators: text from elsewhere must not steer the reader's terminal.
// oxlint-disable-next-line no-control-regex
const unprintable = /[\u0000-\u001F\u007F-\u009F\u2028\u2029\p{Bidi_Control}]/gu;
/** What `paint` writes, or one of the above. */
const paintOrUnprintable = new RegExp(`\u001B\\[(?:1|2|22|31|32|33|39)m|${unprintable.source}`, "gu");

/** `text` as one line without control characters; each of them shows as \u{…}. */
export const printable = (text: string): string =>
  text.replaceAll(unprintable, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);

/** The same, but line breaks stay. */
export const printableLines = (text: string): string =>
  text
    .split(/\r?\n/)
    .map((line) => printable(line.replaceAll("\t", "  ")))
    .join("\n");

/** `value` as JSON: what `printable` shows as \u{…} is an escape in it, which means the same. */
const printableJson = (value: unknown, indent?: number): string =>
  JSON.stringify(value, null, indent).replaceAll(unprintable, (character) =>
    character === "\n" ? character : `\\u${character.codePointAt(0)!.toString(16).padStart(4, "0")}`,
  );

/** The last guard of all that a person is shown: our own colours, line breaks and tabs stay, and no other control character. */
const shown = (text: string): string =>
  text.replaceAll(paintOrUnprintable, (found) =>
    found.length > 1 || found === "\n" || found === "\t" ? found : printable(found),
  );

const cellText = (cell: Cell): string => (cell === null || cell === undefined ? "-" : printable(String(cell)));

const barWidth = 24;
const progressEveryMs = 100;

export function createOutput(host: Host, json: boolean): Output {
  const paint = paintFor(host.stdoutIsTerminal, host.env);
  const toTerminal = host.stdoutIsTerminal;
  return {
    json,
    paint,
    result(value, text) {
      host.stdout.write(
        json ? `${printableJson(value, host.stdoutIsTerminal ? 2 : undefined)}\n` : `${shown(text())}\n`,
      );
    },
    note(line) {
      host.stderr.write(`${shown(line)}\n`);
    },
    progress(label, total) {
      if (!host.stderrIsTerminal) return { update: () => undefined, end: () => undefined };
      let shownAt = 0;
      const show = (done: number): void => {
        const share = total > 0 ? Math.min(1, done / total) : 0;
        const filled = Math.round(share * barWidth);
        const bar =
          total > 0
            ? `[${"#".repeat(filled)}${".".repeat(barWidth - filled)}] ${Math.floor(share * 100)}%`
            : String(done);
        host.stderr.write(`\r\u001B[K${label} ${bar}`);
      };
      return {
        update(done) {
          const now = host.now();
          if (now - shownAt < progressEveryMs) return;
          shownAt = now;
          show(done);
        },
        end: () => void host.stderr.write("\r\u001B[K"),
      };
    },
    table(names, rows) {
      const columns = names.map((name) => printable(name));
      const cells = rows.map((row) => row.map(cellText));
      // A pipe gets tabs: `cut` and `awk` read them, and no width has to be guessed.
      if (!toTerminal) return [columns, ...cells].map((row) => row.join("\t")).join("\n");
      const widths = columns.map((column, at) =>
        Math.max(column.length, ...cells.map((row) => (row[at] ?? "").length)),
      );
      const numeric = columns.map((_, at) => rows.length > 0 && rows.every((row) => typeof row[at] === "number"));
      const line = (row: readonly string[]): string =>
        row
          .map((cell, at) => (numeric[at] ? cell.padStart(widths[at]!) : cell.padEnd(widths[at]!)))
          .join("  ")
          .trimEnd();
      return [paint.bold(line(columns)), ...cells.map(line)].join("\n");
    },
    record(fields) {
      if (!toTerminal) return fields.map(([name, cell]) => `${name}\t${cellText(cell)}`).join("\n");
      const width = Math.max(...fields.map(([name]) => name.length));
      return fields.map(([name, cell]) => `${paint.dim(name.padEnd(width))}  ${cellText(cell)}`).join("\n");
    },
  };
}
