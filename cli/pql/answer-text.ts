// A PQL answer as text: tables, a sparkline a group, bars, the price. Used by the one-shot command and the shell.

import type { PqlAnswer, PqlExplanation } from "../../shared/contract/http-pql.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";
import { bar, glyphsFor, merged, sparkline } from "./chart.ts";

export const chartNames = ["sparkline", "bars", "none"] as const;
export type ChartName = (typeof chartNames)[number];
type Groups = Extract<PqlAnswer, { kind: "groups" }>;

const widthDefault = 80;
const chartWidthMin = 10;
const barWidthMax = 60;
/** Between four columns. */
const gaps = 6;

export function answerText(session: Session, answer: PqlAnswer, chart: ChartName): string {
  const { out } = session;
  const complete = answer.complete_to === null ? "nothing logged yet" : `complete to ${answer.complete_to}`;
  const covers = out.paint.dim(`covers ${answer.covers.from} to ${answer.covers.to}, ${complete}`);
  if (answer.kind === "rows") {
    const rows = answer.rows.map((row) => answer.columns.map((column) => row[column]));
    return [out.table(answer.columns, rows), covers].join("\n");
  }
  if (answer.buckets === null) {
    return [chart === "bars" ? groupBars(session, answer) : totals(session, answer), covers].join("\n");
  }
  if (chart === "sparkline") return [...sparklines(session, answer, answer.buckets), covers].join("\n");
  const buckets = chart === "bars" ? bucketBars(session, answer.buckets) : bucketTable(session, answer, answer.buckets);
  return [totals(session, answer), "", buckets, covers].join("\n");
}

interface Line {
  readonly name: string;
  readonly total: number;
  readonly counts: readonly number[];
}

const nameOf = (name: string | null): string => name ?? "(none)";

/** The groups, what they leave out, and all of it. */
function linesOf(answer: Groups): Line[] {
  const series = (pick: (bucket: NonNullable<Groups["buckets"]>[number]) => number): number[] =>
    (answer.buckets ?? []).map(pick);
  const groups = answer.groups.map(({ name, total }, at) => ({
    name: nameOf(name),
    total,
    counts: series(({ counts }) => counts[at] ?? 0),
  }));
  const other = { name: "(other)", total: answer.other, counts: series((bucket) => bucket.other) };
  const all = { name: "(total)", total: answer.total, counts: series(bucketTotal) };
  return [...groups, ...(answer.field === null ? [] : [other]), all];
}

const bucketTotal = ({ counts, other }: NonNullable<Groups["buckets"]>[number]): number =>
  counts.reduce((sum, count) => sum + count, other);

function totals({ out }: Session, answer: Groups): string {
  return out.table(
    [answer.field ?? "all", "total"],
    linesOf(answer).map(({ name, total }) => [name, total]),
  );
}

function bucketTable({ out }: Session, answer: Groups, buckets: NonNullable<Groups["buckets"]>): string {
  const hasOther = answer.field !== null;
  return out.table(
    ["from", ...answer.groups.map(({ name }) => nameOf(name)), ...(hasOther ? ["(other)"] : []), ""],
    buckets.map((bucket) => [
      bucket.start,
      ...bucket.counts,
      ...(hasOther ? [bucket.other] : []),
      bucket.partial ? "partial" : "",
    ]),
  );
}

/** Each line on a scale of its own: the peak says how high it is, the total how much. */
function sparklines(session: Session, answer: Groups, buckets: NonNullable<Groups["buckets"]>): string[] {
  const { out, host } = session;
  const glyphs = glyphsFor(host.env);
  const lines = linesOf(answer);
  const totalTexts = lines.map(({ total }) => String(total));
  const beside =
    longest([answer.field ?? "all", ...lines.map(({ name }) => name)]) +
    longest(["total", ...totalTexts]) +
    longest(["peak", ...totalTexts]) +
    gaps;
  const width = Math.max(chartWidthMin, (host.stdout.columns ?? widthDefault) - beside);
  const each = merged(
    buckets.map(() => 0),
    width,
  ).each;
  const table = out.table(
    [answer.field ?? "all", "total", "peak", "counts"],
    lines.map(({ name, total, counts }) => {
      const { counts: marks } = merged(counts, width);
      return [name, total, Math.max(0, ...marks), sparkline(marks, glyphs)];
    }),
  );
  const mark =
    each === 1 ? durationText(answer.bucket_ms ?? 0) : `${each} buckets of ${durationText(answer.bucket_ms ?? 0)}`;
  const last = buckets.at(-1)?.partial === true ? ", the last is partial" : "";
  return [table, out.paint.dim(`each mark is ${mark}${last}; each line has its own scale`)];
}

const longest = (texts: readonly string[]): number => Math.max(0, ...texts.map((text) => printable(text).length));

function groupBars(session: Session, answer: Groups): string {
  const lines = linesOf(answer).filter(({ name }) => name !== "(total)");
  return barTable(
    session,
    answer.field ?? "all",
    lines.map(({ name, total }) => ({ name, count: total, note: "" })),
  );
}

const bucketBars = (session: Session, buckets: NonNullable<Groups["buckets"]>): string =>
  barTable(
    session,
    "from",
    buckets.map((bucket) => ({
      name: bucket.start,
      count: bucketTotal(bucket),
      note: bucket.partial ? "partial" : "",
    })),
  );

interface Bar {
  readonly name: string;
  readonly count: number;
  readonly note: string;
}

function barTable({ out, host }: Session, title: string, bars: readonly Bar[]): string {
  const glyphs = glyphsFor(host.env);
  const largest = Math.max(0, ...bars.map(({ count }) => count));
  const beside =
    longest([title, ...bars.map(({ name }) => name)]) +
    longest(["count", String(largest)]) +
    longest(bars.map(({ note }) => note)) +
    gaps;
  const width = Math.min(barWidthMax, Math.max(chartWidthMin, (host.stdout.columns ?? widthDefault) - beside));
  return out.table(
    [title, "count", "", ""],
    bars.map(({ name, count, note }) => [name, count, bar(count, largest, width, glyphs), note]),
  );
}

function durationText(ms: number): string {
  const units = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["m", 60_000],
  ] as const;
  const [unit, size] = units.find(([, size]) => ms >= size && ms % size === 0) ?? ["ms", 1];
  return `${ms / size}${unit}`;
}

/** How a query would be answered, what it would cost, and what would make it cheaper, in the API's own sentences. */
export function explanationText({ out }: Session, { words, covers }: PqlExplanation): string {
  return [...words.map((sentence) => printable(sentence)), out.paint.dim(`covers ${covers.from} to ${covers.to}`)].join(
    "\n",
  );
}
