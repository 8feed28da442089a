// What each source of a tenant's events has counted, against what the log has: a number that never comes is a lost event,
// and shows. Sources count from 1 without a gap (`source_seq`); their events come late and out of order. Held in the log's
// SQLite, in the transaction of an append. Called by append.ts and log.ts.

import type { Sql } from "../contract/ports.ts";

/**
 * How long a number may be missing while the source is known to be beyond it. Longer than the queue's 50 tries and the dead
 * letters' as many, at most 30 s apart (workers/audit/wrangler.toml).
 */
export const missingMs = 60 * 60_000;
/** Numbers that came ahead of a missing one; with more of a source, the missing ones are told at once. */
export const aheadMax = 50_000;

/** Numbers `from` to `to`, both included, of one source. */
export interface Missing {
  readonly source: string;
  readonly from: number;
  readonly to: number;
}

interface Count {
  /** Every number up to here came, or was told to be missing. */
  reached: number;
  ahead: number;
  stored: number;
}

/** One transaction's view: read when a source's first event comes, written by `flush`. */
export class SourceCounts {
  readonly #sql: Sql;
  readonly #now: number;
  readonly #counts = new Map<string, Count>();

  constructor(sql: Sql, now: number) {
    this.#sql = sql;
    this.#now = now;
  }

  add(source: string, sourceSeq: number): void {
    const count = this.#counts.get(source) ?? this.#read(source, sourceSeq);
    if (sourceSeq <= count.reached) return; // It was told to be missing, and came after all.
    if (sourceSeq > count.reached + 1) {
      this.#sql.exec(
        "insert into sources_ahead (source, source_seq, at) values (?, ?, ?) on conflict do nothing",
        source,
        sourceSeq,
        this.#now,
      );
      count.ahead += 1;
      return;
    }
    count.reached = count.ahead > 0 ? absorb(this.#sql, source, sourceSeq) : sourceSeq;
  }

  flush(): void {
    for (const [source, { reached, stored }] of this.#counts) {
      if (reached !== stored) setReached(this.#sql, source, reached);
    }
  }

  #read(source: string, sourceSeq: number): Count {
    let stored = readCount(this.#sql, source);
    if (stored === undefined) {
      begin(this.#sql, source, sourceSeq);
      stored = readCount(this.#sql, source)!;
    }
    const count = { ...stored, stored: stored.reached };
    this.#counts.set(source, count);
    return count;
  }
}

const readCount = (sql: Sql, source: string): { reached: number; ahead: number } | undefined =>
  sql.exec<{ reached: number; ahead: number }>(
    "select reached, (select count(*) from sources_ahead as a where a.source = s.source) as ahead from sources as s where source = ?",
    source,
  )[0];

/** A log that is older than its counters starts with the first number that it sees; any other with 1. */
function begin(sql: Sql, source: string, first: number): void {
  sql.exec(
    "insert or ignore into sources (source, reached) select ?, case when counted_from > 0 then ? else 0 end from head",
    source,
    first - 1,
  );
}

const setReached = (sql: Sql, source: string, reached: number): void =>
  void sql.exec("update sources set reached = ? where source = ?", reached, source);

/** Takes up the numbers that follow `reached` without a hole; answers the last of them. */
function absorb(sql: Sql, source: string, reached: number): number {
  const [next] = sql.exec("select 1 from sources_ahead where source = ? and source_seq = ?", source, reached + 1);
  if (next === undefined) return reached;
  const [end] = sql.exec<{ source_seq: number }>(
    `select source_seq from sources_ahead as a where source = ?1 and source_seq > ?2 and not exists
       (select 1 from sources_ahead as b where b.source = ?1 and b.source_seq = a.source_seq + 1)
     order by source_seq limit 1`,
    source,
    reached,
  );
  sql.exec("delete from sources_ahead where source = ? and source_seq <= ?", source, end!.source_seq);
  return end!.source_seq;
}

/** The source says that it has counted to `counted`: by then the log has to have them all, an hour from now. */
export function expectCounted(sql: Sql, source: string, counted: number, now: number): void {
  begin(sql, source, counted + 1);
  sql.exec(
    `update sources set expected_at = case when expected > reached then expected_at else ?2 end, expected = ?3
     where source = ?1 and ?3 > max(expected, reached)`,
    source,
    now,
    counted,
  );
}

interface Behind {
  readonly source: string;
  readonly reached: number;
  readonly ahead: number;
  /** The first number after the missing ones. */
  readonly next: number;
  readonly since: number;
}

/** The sources that are known to be beyond what the log has. */
const behind = (sql: Sql): Behind[] =>
  sql.exec<Record<keyof Behind, never>>(
    `select source, reached, count(source_seq) as ahead, coalesce(min(source_seq), expected + 1) as next,
       min(coalesce(min(at), expected_at), case when expected > reached then expected_at else min(at) end) as since
     from sources left join sources_ahead using (source)
     group by source having count(source_seq) > 0 or expected > reached`,
  );

const dueOf = ({ ahead, since }: Behind): number => (ahead > aheadMax ? since : since + missingMs);

/** When there is next a missing number to tell of, in ms since 1970; null where none is missing. */
export function missingDue(sql: Sql): number | null {
  const times = behind(sql).map((source) => dueOf(source));
  return times.length === 0 ? null : Math.min(...times);
}

/** The first run of missing numbers of each source whose time is up. They count as told, in the caller's transaction. */
export function takeMissing(sql: Sql, now: number): Missing[] {
  const due = behind(sql).filter((source) => dueOf(source) <= now);
  return due.map(({ source, reached, next }) => {
    setReached(sql, source, absorb(sql, source, next - 1));
    return { source, from: reached + 1, to: next - 1 };
  });
}
