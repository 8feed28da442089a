// The statements that the product sends to Postgres for a question, taken on their way and not sent: so that the PQL benchmark
// runs what the product runs, whatever becomes of the templates. Called by the benchmark and by its own API worker
// (test/workerd/bare-api.ts).

import type { SQL } from "drizzle-orm";
import { askPql, type Question } from "../../shared/pql/engine.ts";
import { SealedCache } from "../../shared/pql/sealed-cache.ts";
import { nothingSealed, type SealedCounts } from "../../shared/pql/sealed-counts.ts";
import { askLimits } from "../../shared/pql/store.ts";
import type { Database } from "../../shared/tenancy/database.ts";

/** Holds whatever it is asked for, so that nothing sealed is read. */
class AllKept extends SealedCache {
  override get(): SealedCounts {
    return nothingSealed;
  }
}

/**
 * One batch, in order. The first statement sets the tenant and the guards, the second one asks how far the rows go, the others
 * ask the question. `hasKept`: as the batch is where the question's sealed hours were read before.
 */
export async function statementsOf(question: Question, hasKept = false): Promise<SQL[]> {
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
    await askPql(database as unknown as Database, question, askLimits, hasKept ? new AllKept() : new SealedCache());
  } catch (error) {
    if (error !== onItsWay) throw error;
  }
  return taken;
}
