// How long a tenant's questions took, as the histogram mc_pql12_query_ms of GET /api/metrics. Kept in the PqlMeter object's
// SQLite: a question that only reads must not write to Postgres. The API tells of them some at a time (workers/api/pql-times.ts).

import type { Sql } from "../contract/ports.ts";
import { Problem } from "../contract/problems.ts";
import type { TemplateName } from "./plan.ts";
import { PqlError } from "./pql-error.ts";

export const outcomes = [
  "ok",
  "cached",
  "explained",
  "invalid",
  "refused_price",
  "refused_rate",
  "too_many_rows",
  "timeout",
  "unmetered",
  "failed",
] as const;
export type Outcome = (typeof outcomes)[number];

/** One question, from the request's first byte to its answer. `none`: it had no plan. */
export interface QueryTime {
  readonly template: TemplateName | "none";
  readonly outcome: Outcome;
  readonly ms: number;
}

/** What one `observe` takes. */
export const queryTimesMax = 1_000;
const name = "mc_pql12_query_ms";
const ends = [1, 2, 5, 10, 15, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000];

/** What became of a question that was not answered. */
export function outcomeOf(error: unknown): Outcome {
  if (error instanceof PqlError) return "invalid";
  if (!(error instanceof Problem)) return "failed";
  if (error.code === "invalid_request") return "invalid";
  if (error.code === "pql_too_expensive") return "refused_price";
  if (error.code === "pql_rate_limited") return "refused_rate";
  if (error.code === "too_many_rows") return "time_max_ms" in error.members ? "timeout" : "too_many_rows";
  return error.code === "meter_unavailable" ? "unmetered" : "failed";
}

export class QueryTimes {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
    // A row a template and outcome: 50 at most. `counts` is a JSON array, of each end and of what is beyond the last.
    sql.exec(`create table if not exists query_times (
      template text not null, outcome text not null, counts text not null, ms integer not null,
      primary key (template, outcome)
    )`);
  }

  /** Durable when it returns. Throws RangeError for more than `queryTimesMax`. */
  observe(times: readonly QueryTime[]): void {
    if (times.length > queryTimesMax) throw new RangeError(`at most ${queryTimesMax} times at once`);
    this.#sql.transaction(() => {
      // A row is written once, however many times there are.
      for (const [key, given] of Object.entries(Object.groupBy(times, (time) => `${time.template} ${time.outcome}`))) {
        const [template, outcome] = key.split(" ") as [string, string];
        const { counts, ms } = this.#read(template, outcome);
        const added = [...counts];
        let sum = ms;
        for (const time of given ?? []) {
          const whole = Math.max(0, Math.round(time.ms));
          const end = ends.findIndex((end) => whole <= end);
          const at = end === -1 ? ends.length : end;
          added[at] = added[at]! + 1;
          sum += whole;
        }
        this.#sql.exec(
          "insert or replace into query_times values (?, ?, ?, ?)",
          template,
          outcome,
          JSON.stringify(added),
          sum,
        );
      }
    });
  }

  /** Prometheus' text format, version 0.0.4. */
  text(): string {
    const rows = this.#sql.exec<{ template: string; outcome: string; counts: string; ms: number }>(
      "select template, outcome, counts, ms from query_times order by template, outcome",
    );
    const series = rows.map(({ template, outcome, counts, ms }) => {
      const labels = `template="${template}",outcome="${outcome}"`;
      let total = 0;
      const buckets = (JSON.parse(counts) as number[]).map((count, at) => {
        total += count;
        return `${name}_bucket{${labels},le="${ends[at] ?? "+Inf"}"} ${total}\n`;
      });
      return [...buckets, `${name}_sum{${labels}} ${ms}\n`, `${name}_count{${labels}} ${total}\n`].join("");
    });
    return [
      `# HELP ${name} From a PQL request to its answer, by template and outcome.\n# TYPE ${name} histogram\n`,
      ...series,
    ].join("");
  }

  #read(template: string, outcome: string): { readonly counts: readonly number[]; readonly ms: number } {
    const [row] = this.#sql.exec<{ counts: string; ms: number }>(
      "select counts, ms from query_times where template = ? and outcome = ?",
      template,
      outcome,
    );
    if (row === undefined) return { counts: [...ends, Infinity].map(() => 0), ms: 0 };
    return { counts: JSON.parse(row.counts) as number[], ms: row.ms };
  }
}
