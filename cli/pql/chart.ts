// Counts along the time as marks on a line, and totals as bars: what `maestro pql` draws. Pure: text in, text out.

export interface Glyphs {
  /** From the smallest count over zero to the largest. */
  readonly levels: readonly string[];
  readonly zero: string;
  /** A bar's last cell, filled by eighths, the full cell last. */
  readonly bar: readonly string[];
}

const unicode: Glyphs = {
  levels: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
  zero: "·",
  bar: ["▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"],
};
/** Digits say the same in eighths. */
const plain: Glyphs = { levels: ["1", "2", "3", "4", "5", "6", "7", "8"], zero: ".", bar: ["#"] };

/** Blocks where the terminal says that it has UTF-8 and more than a dumb one's abilities; else ASCII. */
export function glyphsFor(env: Readonly<Record<string, string | undefined>>): Glyphs {
  // POSIX: the first of these that is not empty holds.
  const locale = [env["LC_ALL"], env["LC_CTYPE"], env["LANG"]].find((value) => value !== undefined && value !== "");
  const isUtf8 = /utf-?8/i.test(locale ?? "") || env["WT_SESSION"] !== undefined;
  return isUtf8 && env["TERM"] !== "dumb" ? unicode : plain;
}

/** Neighbours added up until at most `widthMax` are left; `each`: how many went into one, fewer into the last. */
export function merged(
  counts: readonly number[],
  widthMax: number,
): { readonly counts: number[]; readonly each: number } {
  const each = Math.max(1, Math.ceil(counts.length / Math.max(1, widthMax)));
  const sums = Array.from({ length: Math.ceil(counts.length / each) }, (_, at) =>
    counts.slice(at * each, (at + 1) * each).reduce((sum, count) => sum + count, 0),
  );
  return { counts: sums, each };
}

/** A mark a count, in eighths of the largest; zero has a mark of its own, and one is never shown as zero. */
export function sparkline(counts: readonly number[], { levels, zero }: Glyphs): string {
  const largest = Math.max(0, ...counts);
  return counts
    .map((count) => (count <= 0 ? zero : levels[Math.max(0, Math.ceil((count / largest) * levels.length) - 1)]))
    .join("");
}

/** As long as its share of `largest`, at most `width` cells; a count over zero is never without a bar. */
export function bar(count: number, largest: number, width: number, { bar: parts }: Glyphs): string {
  if (count <= 0 || largest <= 0) return "";
  const steps = Math.max(1, Math.round((count / largest) * width * parts.length));
  const whole = Math.floor(steps / parts.length);
  const rest = steps % parts.length;
  return parts.at(-1)!.repeat(whole) + (rest === 0 ? "" : parts[rest - 1]!);
}
