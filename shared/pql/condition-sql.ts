// A plan's conditions and fields as SQL, over the columns of a relation `e`: audit_events, or rows of counts, which have those
// of its columns that they are kept by. Values are parameters, identifiers come from the catalogue. Used by the templates.

import { sql, type SQL } from "drizzle-orm";
import type { Field } from "./catalogue.ts";
import type { Condition, Test, Value } from "./plan.ts";

/** `ms`: milliseconds since 1970. */
export const time = (ms: number): SQL => sql`${new Date(ms).toISOString()}::timestamptz`;

/**
 * A field's value. Attributes are read from the leaf's own JSON: numbers as numbers, everything else as the text that
 * it is there, where a time has one form only and sorts as it reads.
 */
function valueSql(field: Field): SQL {
  if ("column" in field) return sql`e.${sql.identifier(field.column)}`;
  const text = sql`(e.attrs::json ->> ${field.attribute}::text)`;
  return sqlTypeOf(field) === "numeric" ? sql`${text}::numeric` : text;
}

/** What TOP counts by. */
export const groupSql = (field: Field): SQL => sql`${valueSql(field)}::text`;

export function conditionSql(condition: Condition | null): SQL {
  if (condition === null) return sql`true`;
  if ("of" in condition) {
    const parts = condition.of.map((part) => conditionSql(part));
    return sql`(${sql.join(parts, condition.kind === "and" ? sql` and ` : sql` or `)})`;
  }
  const { field, negated } = condition;
  if (condition.kind === "exists") return sql`(${valueSql(field)} is ${negated ? sql`null` : sql`not null`})`;
  const test = testSql(condition, field);
  // A test of NULL is unknown, which WHERE, AND and OR take for false; negated it must be true.
  return negated ? sql`((${test}) is not true)` : sql`(${test})`;
}

function testSql(test: Exclude<Test, { readonly kind: "exists" }>, field: Field): SQL {
  const value = valueSql(field);
  const type = sqlTypeOf(field);
  if (test.kind === "like") return sql`${value} like ${test.pattern}::text`;
  if (test.kind === "in") {
    const values = test.values.map((one) => parameter(field, one));
    return sql`${value} = any(${sql.param(values)}::${sql.raw(`${type}[]`)})`;
  }
  // Text is ordered by code points, whatever the database's locale.
  const side = type === "text" && test.op !== "=" ? sql`${value} collate "C"` : value;
  return sql`${side} ${operators[test.op]} ${parameter(field, test.value)}::${sql.raw(type)}`;
}

const operators = { "=": sql`=`, "<": sql`<`, "<=": sql`<=`, ">": sql`>`, ">=": sql`>=` } as const;

function sqlTypeOf(field: Field): "text" | "bigint" | "numeric" | "timestamptz" {
  const stored = "column" in field;
  if (field.kind === "integer" || field.kind === "duration") return stored ? "bigint" : "numeric";
  return field.kind === "timestamp" && stored ? "timestamptz" : "text";
}

function parameter(field: Field, value: Value): string | number {
  if (field.kind === "timestamp") return new Date(Number(value)).toISOString();
  return typeof value === "boolean" ? String(value) : value;
}
