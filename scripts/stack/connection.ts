// Plain connections to the local PostgreSQL, for what stands beside the workers: preparing the database, benchmarks, the demo.
// The server is restarted under some of them, so a connection that is lost must never end the process.

import pg from "pg";

/** Not connected yet. One that is lost, also while it is idle, is the error of the query in flight, or of the next one. */
export function clientOf(connectionString: string): pg.Client {
  const client = new pg.Client({ connectionString });
  // Without a listener, Node ends the process on this event; the queries tell.
  client.on("error", () => {});
  return client;
}

export async function withClient<T>(connectionString: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = clientOf(connectionString);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Whether the error is of the connection and not of the statement: SQLSTATE classes 08 and 57P, or no answer at all. */
export function isLostConnection(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return /^(?:08|57P)/.test(error.code ?? "");
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  return (
    (typeof code === "string" && ["ECONNREFUSED", "ECONNRESET", "EPIPE"].includes(code)) ||
    /^Connection terminated|not queryable$/.test(error.message)
  );
}
