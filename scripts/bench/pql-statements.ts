// The statements that the product sends to Postgres for a question, taken on their way and not sent: so that the PQL benchmark
// runs what the product runs, whatever becomes of the templates. Called by the benchmark and by its own API worker
// (test/workerd/bare-api.ts).

import type { SQL } from "drizzle-orm";
import { askPql, type Question } from "../../shared/pql/engine.ts";
import type { Database } from "../../shared/tenancy/database.ts";

/** One batch, in order. The first statement sets the tenant, the last one asks; between them are the guards. */
export async function statementsOf(question: Question): Promise<SQL[]> {
  const taken: SQL[] = [];
  const onItsWay = new Error("taken");
  const database = {
    execute: (statement: SQL): SQL => statement,
    batch: (statements: readonly SQL[]): never => {
      taken.push(...statements);
      throw onItsWay;
    },
  };
  try {
    await askPql(database as unknown as Database, question);
  } catch (error) {
    if (error !== onItsWay) throw error;
  }
  return taken;
}
