// A small stand-in for Neon's SQL-over-HTTP endpoint and its WebSocket relay, in front of the local PostgreSQL. Called by
// startStack; spoken to by @neondatabase/serverless, whose source defines the headers, the shapes and the errors.
//   POST /sql  {query, params} or {queries: [{query, params}]} = one transaction
//   GET  /v2   WebSocket, relayed as it is to PostgreSQL's port
// Whatever host a connection string names, only the local server is reached.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type AddressInfo } from "node:net";
import pg from "pg";
import { WebSocketServer, type WebSocket } from "ws";
import { loopback } from "./ports.ts";

const bodyBytesMax = 64 * 1024 * 1024;
const poolsMax = 16;
const connectionsPerPool = 16;
const connectMsMax = 5_000;
const idleMsMax = 30_000;

export interface NeonProxy {
  readonly port: number;
  /** What `neonConfig.fetchEndpoint` is to answer. */
  readonly endpoint: string;
  stop(): Promise<void>;
}

interface Statement {
  readonly query: string;
  readonly params?: readonly unknown[];
}

interface Mode {
  readonly rawText: boolean;
  readonly arrays: boolean;
}

/** pg wants `queryMode` to refuse two statements in one text, as Neon does; its types do not know it yet. */
type ExtendedQuery = pg.QueryArrayConfig & { queryMode: "extended" };

// The fields that the driver copies from an error's body (`severity`, `code`, …, in its `NeonDbError`).
const errorFields = [
  "severity", "code", "detail", "hint", "position", "internalPosition", "internalQuery", "where", "schema", "table",
  "column", "dataType", "constraint", "file", "line", "routine",
] as const; // prettier-ignore

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export async function startNeonProxy(options: { port: number; postgresPort: number }): Promise<NeonProxy> {
  const pools = new Map<string, pg.Pool>();

  function poolOf(connectionString: string): pg.Pool {
    const known = pools.get(connectionString);
    if (known !== undefined) return known;
    let url: URL;
    try {
      url = new URL(connectionString);
    } catch {
      throw new Refusal(400, "the connection string is not a URL");
    }
    if (pools.size >= poolsMax) {
      const [oldest] = pools.keys();
      if (oldest !== undefined) dropPool(oldest);
    }
    const pool = new pg.Pool({
      host: loopback,
      port: options.postgresPort,
      user: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
      database: decodeURIComponent(url.pathname.slice(1)),
      max: connectionsPerPool,
      pipeline: true,
      connectionTimeoutMillis: connectMsMax,
      idleTimeoutMillis: idleMsMax,
    });
    // A server that stops cuts idle connections, too; the pool replaces them when they are asked for.
    pool.on("error", () => {});
    // The pool takes its own listener off a connection that it hands out, a moment before ours is on.
    pool.on("connect", (client) => client.on("error", () => {}));
    pools.set(connectionString, pool);
    return pool;
  }

  function dropPool(connectionString: string): void {
    const pool = pools.get(connectionString);
    pools.delete(connectionString);
    void pool?.end();
  }

  async function answerSql(request: IncomingMessage): Promise<unknown> {
    const connectionString = header(request, "neon-connection-string");
    if (connectionString === undefined) throw new Refusal(400, "the Neon-Connection-String header is missing");
    const body = parseBody(await readBody(request));
    const mode: Mode = {
      rawText: header(request, "neon-raw-text-output") === "true",
      arrays: header(request, "neon-array-mode") === "true",
    };
    const begin = beginStatement(request);
    const client = await poolOf(connectionString)
      .connect()
      .catch((error: unknown) => {
        // A wrong password must not hold on to a pool.
        dropPool(connectionString);
        throw error;
      });
    let lost: Error | null = null;
    const onLost = (error: Error): void => {
      lost = error;
    };
    client.on("error", onLost);
    // All in one write, so that PostgreSQL is woken once. Nothing of this session reaches the next request: no setting, no
    // temporary table, no lock.
    const { stream } = client.connection;
    stream.cork();
    const answer =
      "queries" in body
        ? runBatch(client, body.queries, mode, begin).then((results) => ({ results }))
        : run(client, body, mode);
    const discarded = client.query("discard all");
    stream.uncork();
    void discarded
      .then(
        () => lost !== null,
        () => true,
      )
      .then((broken) => {
        client.off("error", onLost);
        client.release(broken);
      });
    return await answer;
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let status = 200;
    let answer: unknown;
    try {
      if (request.method !== "POST" || request.url?.split("?")[0] !== "/sql") throw new Refusal(404, "POST /sql only");
      answer = await answerSql(request);
    } catch (error) {
      status = error instanceof Refusal ? error.status : 400;
      answer = errorBody(error);
    }
    if (response.destroyed) return;
    const text = JSON.stringify(answer);
    response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    response.end(text);
  }

  const server = createServer((request, response) => void serve(request, response));
  const relay = new WebSocketServer({ server });
  relay.on("connection", (socket) => relayTo(socket, options.postgresPort));
  await listen(server, options.port);
  const { port } = server.address() as AddressInfo;
  return {
    port,
    endpoint: `http://${loopback}:${port}/sql`,
    async stop() {
      for (const socket of relay.clients) socket.terminate();
      relay.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await Promise.all([...pools.values()].map((pool) => pool.end()));
    },
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, loopback, () => resolve());
  });
}

function header(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === "string" ? value : undefined;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > bodyBytesMax) throw new Refusal(413, `a request is at most ${bodyBytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseBody(text: string): Statement | { queries: Statement[] } {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Refusal(400, "the body is not JSON");
  }
  if (isStatement(body)) return body;
  const queries = (body as { queries?: unknown } | null)?.queries;
  if (Array.isArray(queries) && queries.every(isStatement)) return { queries };
  throw new Refusal(400, "the body is neither {query, params} nor {queries}");
}

const isStatement = (value: unknown): value is Statement =>
  typeof value === "object" && value !== null && "query" in value && typeof value.query === "string";

const isolationLevels: Readonly<Record<string, string>> = {
  ReadUncommitted: "read uncommitted",
  ReadCommitted: "read committed",
  RepeatableRead: "repeatable read",
  Serializable: "serializable",
};

function beginStatement(request: IncomingMessage): string {
  const isolation = header(request, "neon-batch-isolation-level");
  const readOnly = header(request, "neon-batch-read-only");
  const deferrable = header(request, "neon-batch-deferrable");
  let begin = "begin";
  if (isolation !== undefined) {
    const level = isolationLevels[isolation];
    if (level === undefined) throw new Refusal(400, `unknown isolation level ${isolation}`);
    begin += ` isolation level ${level}`;
  }
  if (readOnly !== undefined) begin += readOnly === "true" ? " read only" : " read write";
  if (deferrable !== undefined) begin += deferrable === "true" ? " deferrable" : " not deferrable";
  return begin;
}

/** After a statement that failed PostgreSQL runs none, and rolls back where it is told to commit. The first error is the one to tell. */
async function runBatch(
  client: pg.PoolClient,
  statements: readonly Statement[],
  mode: Mode,
  begin: string,
): Promise<unknown[]> {
  const begun = client.query(begin);
  const answers = statements.map((statement) => run(client, statement, mode));
  const ended = [begun, ...answers, client.query("commit")];
  await Promise.allSettled(ended);
  await Promise.all(ended);
  return await Promise.all(answers);
}

async function run(client: pg.PoolClient, statement: Statement, mode: Mode): Promise<unknown> {
  const query: ExtendedQuery = {
    text: statement.query,
    values: [...(statement.params ?? [])],
    rowMode: "array",
    queryMode: "extended",
    ...(mode.rawText ? { types: { getTypeParser: () => (value: string) => value } } : {}),
  };
  const result = await client.query<unknown[]>(query);
  const names = result.fields.map((field) => field.name);
  return {
    command: result.command,
    rowCount: result.rowCount,
    rowAsArray: mode.arrays,
    rows: mode.arrays
      ? result.rows
      : result.rows.map((row) => Object.fromEntries(row.map((value, index) => [names[index], value]))),
    fields: result.fields,
  };
}

/** As Neon answers: PostgreSQL's fields beside the message. No connection is SQLSTATE 08006 (connection failure). */
function errorBody(error: unknown): Record<string, unknown> {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof pg.DatabaseError) {
    return { message, ...Object.fromEntries(errorFields.map((name) => [name, error[name]])) };
  }
  if (error instanceof Refusal) return { message };
  return { message: `could not reach the database: ${message || "no connection"}`, severity: "FATAL", code: "08006" };
}

function relayTo(socket: WebSocket, postgresPort: number): void {
  const tcp = connect({ host: loopback, port: postgresPort, noDelay: true });
  socket.on("message", (data: Buffer) => void tcp.write(data));
  socket.on("close", () => tcp.destroy());
  socket.on("error", () => tcp.destroy());
  tcp.on("data", (chunk) => socket.send(chunk));
  tcp.on("close", () => socket.close());
  tcp.on("error", () => socket.terminate());
}
