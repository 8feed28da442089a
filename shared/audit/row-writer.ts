// Rows that one transaction adds to a table, written many to a statement: a statement costs more than a row. Called by append.ts.

import type { Sql, SqlValue } from "../contract/ports.ts";

/** Values that one statement may bind in a Durable Object (Cloudflare, Durable Objects limits: SQL). */
const boundValuesMax = 100;

/** What is added is in the table after `flush`, and before it as soon as there is a statement's worth. */
export class RowWriter {
  readonly #sql: Sql;
  readonly #insert: string;
  readonly #row: string;
  readonly #columns: number;
  readonly #valuesMax: number;
  #values: SqlValue[] = [];

  constructor(sql: Sql, table: string, columns: readonly string[]) {
    this.#sql = sql;
    this.#insert = `insert into ${table} (${columns.join(", ")}) values `;
    this.#row = `(${columns.map(() => "?").join(", ")})`;
    this.#columns = columns.length;
    this.#valuesMax = boundValuesMax - (boundValuesMax % columns.length);
  }

  add(...values: readonly SqlValue[]): void {
    this.#values.push(...values);
    if (this.#values.length >= this.#valuesMax) this.flush();
  }

  flush(): void {
    if (this.#values.length === 0) return;
    const rows = Array.from({ length: this.#values.length / this.#columns }, () => this.#row);
    this.#sql.exec(this.#insert + rows.join(", "), ...this.#values);
    this.#values = [];
  }
}
