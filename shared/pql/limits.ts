// Every bound of PQL, with its unit. docs/pql/LANGUAGE.md has the same table; a test compares them.

export const limits = {
  queryBytesMax: 16_384,
  /** Parentheses and NOTs inside each other; each is a level of recursion in the parser, in ours and in Postgres's. */
  depthMax: 32,
  /** Comparisons, and the ANDs, ORs and NOTs that join them. */
  predicateNodesMax: 64,
  inValuesMax: 1_000,
  likePatternMax: 256,
  topMax: 100,
  sinceMaxMs: 400 * 86_400_000,
  sinceDefaultMs: 86_400_000,
  /** Buckets times (K + 1). */
  cellsMax: 50_000,
  pageRows: 100,
  /** Rows that one series may count; about 2.7 s at 0.54 µs a row. */
  countedRowsMax: 5_000_000,
  /** Buckets times names of the events that are not sealed: they go to the worker, where those of sealed hours are. */
  openCellsMax: 50_000,
  statementTimeoutMs: 4_000,
  /** The price of one question, in rows: at most 0.54 s at 0.54 µs a row. */
  priceRowsMax: 1_000_000,
  /** A tenant's rows a second, and how many it may save up: at least one question of the highest price. */
  rateRowsPerSecond: 2_000_000,
  burstRowsMax: 4_000_000,
  /** What a question takes at least, in rows: a round trip is about as long as reading so many. */
  askedRowsMin: 1_000,
  /** What a question takes that is refused, or whose answer is known. */
  unreadRows: 100,
} as const;

export const bucketsMs: ReadonlyMap<string, number> = new Map([
  ["1m", 60_000],
  ["5m", 300_000],
  ["1h", 3_600_000],
  ["1d", 86_400_000],
]);
