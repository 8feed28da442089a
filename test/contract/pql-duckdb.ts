// A second oracle for PQL's counts: DuckDB over the same rows as Parquet. It shares no code with the engine, and none with the
// reference in memory but how a question is written down.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import type { EventColumns } from "../../shared/contract/events.ts";
import { subjects, type Field } from "../../shared/pql/catalogue.ts";
import type { Ask, Wanted } from "./pql-generator.ts";

/** What is compared of an answer in groups. `counts` are by bucket, a list a group, then what is left over. */
export interface Counted {
  readonly groups: readonly { readonly name: string | null; readonly total: number }[];
  readonly other: number;
  readonly total: number;
  readonly counts: readonly (readonly number[])[] | null;
}

export interface DuckRows {
  /** Of the rows with a `seq` below `size`. */
  count(ask: Ask, now: number, size: number): Promise<Counted>;
  close(): void;
}

const bucketsMs = { "1m": 60_000, "5m": 300_000, "1h": 3_600_000, "1d": 86_400_000 } as const;
const textLiteral = (value: string): string => `'${value.replaceAll("'", "''")}'`;

/** The field as what it is compared as: text, BIGINT, BOOLEAN, or BIGINT milliseconds. */
function valueSql(field: Field): string {
  const isAttribute = field.name.startsWith("attrs.");
  const stored = isAttribute ? `(attrs::JSON ->> '$.${field.name.slice("attrs.".length)}')` : `"${field.name}"`;
  if (field.kind === "timestamp") return `epoch_ms(${stored}::TIMESTAMPTZ)`;
  if (field.kind === "text") return stored;
  return `${stored}::${field.kind === "boolean" ? "BOOLEAN" : "BIGINT"}`;
}

const literal = (value: string | number | boolean): string =>
  typeof value === "string" ? textLiteral(value) : String(value);

/** True or false, never null. */
function wantedSql(wanted: Wanted): string {
  if (wanted.kind === "not") return `(not ${wantedSql(wanted.of)})`;
  if ("of" in wanted) return `(${wanted.of.map(wantedSql).join(` ${wanted.kind} `)})`;
  const value = valueSql(wanted.field);
  if (wanted.kind === "exists") return `(${value} is not null)`;
  if (wanted.kind === "like") return `coalesce(${value} like ${textLiteral(wanted.pattern)} escape '\\', false)`;
  if (wanted.kind === "in") return `coalesce(${value} in (${wanted.values.map(literal).join(", ")}), false)`;
  if (wanted.op === "!=") return `(${value} is distinct from ${literal(wanted.value)})`;
  return `coalesce(${value} ${wanted.op} ${literal(wanted.value)}, false)`;
}

/** Writes the rows as Parquet into a folder of its own, which `close` removes. */
export async function duckRows(rows: readonly EventColumns[]): Promise<DuckRows> {
  const folder = mkdtempSync(join(tmpdir(), "maestro-pql-"));
  const [json, parquet] = [join(folder, "rows.json"), join(folder, "rows.parquet")];
  writeFileSync(json, rows.map((row) => JSON.stringify(row)).join("\n"));
  const connection = await (await DuckDBInstance.create(":memory:")).connect();
  await connection.run("set timezone = 'UTC'");
  const types = Object.keys(rows[0]!).map((name) => {
    const isTime = name === "logged_at" || name === "occurred_at";
    return `"${name}": '${isTime ? "TIMESTAMPTZ" : ["seq", "units", "duration_ms"].includes(name) ? "BIGINT" : "VARCHAR"}'`;
  });
  await connection.run(
    `copy (select * from read_json('${json}', format = 'newline_delimited', columns = {${types.join(", ")}}))
     to '${parquet}' (format parquet)`,
  );
  const select = async (query: string): Promise<Record<string, unknown>[]> =>
    (await connection.runAndReadAll(query)).getRowObjectsJson();

  return {
    async count(ask, now, size) {
      const bucketMs = ask.bucket === null ? null : bucketsMs[ask.bucket];
      const start = now - (ask.since?.ms ?? 86_400_000);
      const from = bucketMs === null ? start : start - (((start % bucketMs) + bucketMs) % bucketMs);
      const name = ask.top === null ? "null" : `${valueSql(ask.top.field)}::VARCHAR`;
      const slot = bucketMs === null ? "0" : `((epoch_us(logged_at) - ${from}000::BIGINT) // ${bucketMs}000::BIGINT)`;
      const matched = `select ${slot}::INTEGER as slot, ${name} as name from read_parquet('${parquet}')
        where seq < ${size} and epoch_us(logged_at) >= ${from}000::BIGINT and epoch_us(logged_at) < ${now}000::BIGINT
          and type in (${subjects.get(ask.subject)!.map(textLiteral).join(", ")})
          ${ask.where === null ? "" : `and ${wantedSql(ask.where)}`}`;
      const leaders = `select name, count(*) as total from matched group by name
        order by total desc, name asc nulls last limit ${ask.top?.count ?? 0}`;
      const groups = await select(
        `with matched as (${matched}) select name, total::INTEGER as total from (${leaders})
         order by total desc, name asc nulls last`,
      );
      const cells = await select(
        `with matched as (${matched}), leaders as (${leaders})
         select l.name, l.total is not null as leads, slot, count(*)::INTEGER as n
         from matched m left join leaders l on l.name is not distinct from m.name group by all`,
      );
      const places = new Map(groups.map((group, at) => [group["name"], at]));
      const slots = bucketMs === null ? 1 : Math.floor((now - from) / bucketMs) + 1;
      const counts = Array.from({ length: groups.length + 1 }, () => Array.from({ length: slots }, () => 0));
      for (const cell of cells) {
        const place = cell["leads"] === true ? places.get(cell["name"])! : groups.length;
        counts[place]![Number(cell["slot"])]! += Number(cell["n"]);
      }
      const sum = (list: readonly number[]): number => list.reduce((total, count) => total + count, 0);
      return {
        groups: groups.map((group) => ({ name: group["name"] as string | null, total: Number(group["total"]) })),
        other: sum(counts.at(-1)!),
        total: sum(counts.map(sum)),
        counts: bucketMs === null ? null : counts,
      };
    },
    close() {
      connection.closeSync();
      rmSync(folder, { recursive: true });
    },
  };
}
