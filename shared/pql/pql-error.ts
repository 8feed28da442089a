// How PQL says no: where, what it had expected there, and the nearest query that would do. Guards, parser and planner
// throw it; the route makes a `pql_invalid` problem of it.

export interface PqlErrorMembers {
  /** From 1, by line feeds. */
  readonly line: number;
  /** From 1, in UTF-16 code units. */
  readonly column: number;
  readonly expected: readonly string[];
  readonly suggestion: string | null;
}

export class PqlError extends Error implements PqlErrorMembers {
  override readonly name = "PqlError";
  readonly line: number;
  readonly column: number;
  readonly expected: readonly string[];
  readonly suggestion: string | null;

  constructor(message: string, members: PqlErrorMembers) {
    super(message);
    this.line = members.line;
    this.column = members.column;
    this.expected = members.expected;
    this.suggestion = members.suggestion;
  }
}

export interface Advice {
  readonly expected?: readonly string[];
  readonly suggestion?: string | null;
}

/** Throws a PqlError at an offset of the text that it was made for. */
export type Refuse = (at: number, message: string, advice?: Advice) => never;

export function refuserOf(text: string): Refuse {
  return (at, message, advice = {}) => {
    const before = text.slice(0, at);
    throw new PqlError(message, {
      line: before.split("\n").length,
      column: at - before.lastIndexOf("\n"),
      expected: advice.expected ?? [],
      suggestion: advice.suggestion ?? null,
    });
  };
}

/** The candidate that `word` was probably meant to be, or null: at most a third of it is different. */
export function nearest(word: string, candidates: Iterable<string>): string | null {
  const wanted = word.slice(0, 64).toLowerCase();
  let best: { readonly name: string; readonly distance: number } | null = null;
  for (const name of candidates) {
    const distance = editDistance(wanted, name.toLowerCase());
    if (distance <= Math.max(1, Math.floor(name.length / 3)) && (best === null || distance < best.distance)) {
      best = { name, distance };
    }
  }
  return best?.name ?? null;
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance(left: string, right: string): number {
  const rows: number[][] = [Array.from({ length: right.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= right.length; column += 1) {
      const same = left[row - 1] === right[column - 1];
      let distance = Math.min(
        rows[row - 1]![column]! + 1,
        current[column - 1]! + 1,
        rows[row - 1]![column - 1]! + (same ? 0 : 1),
      );
      if (row > 1 && column > 1 && left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]) {
        distance = Math.min(distance, rows[row - 2]![column - 2]! + 1);
      }
      current.push(distance);
    }
    rows.push(current);
  }
  return rows[left.length]![right.length]!;
}
