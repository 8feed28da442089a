// Questions at a fixed rate, over HTTP and straight to Postgres, whatever becomes of those before: a question's time begins when
// it was due, so that a system that is slow does not spare itself load (coordinated omission). Called by pql.ts.

import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { PgDialect } from "drizzle-orm/pg-core";
import type { Question } from "../../shared/pql/engine.ts";
import { clientOf } from "../stack/connection.ts";
import type { Stack } from "../stack/index.ts";
import type { Figures } from "./benchmark.ts";
import { processorTime } from "./machine.ts";
import { statementsOf } from "./pql-statements.ts";
import { percentile, rounded } from "./statistics.ts";

export interface Rate {
  readonly per_s: number;
  readonly duration_s: number;
}

interface Times {
  readonly ms: readonly number[];
  readonly failed: number;
  /** What the first one that failed said. */
  readonly failure: string | null;
}

/** `send` is called with 0, 1, 2, … as they are due. */
export async function atRate(
  { per_s: perSecond, duration_s: seconds }: Rate,
  signal: AbortSignal,
  send: (number: number) => Promise<unknown>,
): Promise<Times> {
  const count = Math.round(perSecond * seconds);
  const ms: number[] = [];
  let failed = 0;
  let failure: string | null = null;
  const startedAt = performance.now();
  const running: Promise<void>[] = [];
  const one = async (number: number, dueAt: number): Promise<void> => {
    try {
      await send(number);
      ms.push(performance.now() - dueAt);
    } catch (error) {
      failed += 1;
      failure ??= error instanceof Error ? error.message : String(error);
    }
  };
  for (let number = 0; number < count; number += 1) {
    const dueAt = startedAt + (number * 1_000) / perSecond;
    const waitMs = dueAt - performance.now();
    if (waitMs > 0) await sleep(waitMs, undefined, { signal });
    signal.throwIfAborted();
    running.push(one(number, dueAt));
  }
  await Promise.all(running);
  return { ms, failed, failure };
}

/** Tells what failed, and throws where none was answered. */
export function timesFigures(name: string, { ms, failed, failure }: Times, tell: (words: string) => void): Figures {
  if (ms.length === 0) throw new Error(`${name}: none was answered, the first failed with ${failure}`);
  if (failure !== null) tell(`${name}: ${failed} failed, the first with ${failure}`);
  return {
    p50_ms: rounded(percentile(ms, 0.5)),
    p95_ms: rounded(percentile(ms, 0.95)),
    max_ms: rounded(percentile(ms, 1)),
    asked: ms.length + failed,
    failed,
  };
}

/** With what `work` took of the processor, in cores. */
export async function withCores(stack: Stack, work: () => Promise<Figures>): Promise<Figures> {
  const before = processorTime(stack);
  const startedAt = performance.now();
  const figures = await work();
  const wallS = (performance.now() - startedAt) / 1_000;
  const after = processorTime(stack);
  if (before === null || after === null) return figures;
  const cores = (part: keyof typeof before): number => rounded((after[part] - before[part]) / wallS, 2);
  return {
    ...figures,
    workerd_cores: cores("workerd_s"),
    postgres_cores: cores("postgres_s"),
    harness_cores: cores("harness_s"),
    workerd_waited_share: cores("workerd_waited_s"),
  };
}

/** Of one run; a question that finds none free waits, and that is part of its time. */
const socketsMax = 256;
const answerMsMax = 30_000;

export class Http {
  readonly #url: URL;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: socketsMax });
  readonly #signal: AbortSignal;

  constructor(url: string, signal: AbortSignal) {
    this.#url = new URL(url);
    this.#signal = signal;
  }

  /** The answer's text. Throws where it is not a 200. */
  call(method: "GET" | "POST" | "PUT", path: string, key: string | null, body?: unknown): Promise<string> {
    const text = body === undefined ? "" : JSON.stringify(body);
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(answerMsMax)]);
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          host: this.#url.hostname,
          port: this.#url.port,
          path,
          method,
          agent: this.#agent,
          signal,
          headers: {
            ...(key === null ? {} : { authorization: `Bearer ${key}` }),
            ...(text === "" ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
          },
        },
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on("data", (chunk: Buffer) => chunks.push(chunk));
          answer.on("error", reject);
          answer.on("end", () => {
            const received = Buffer.concat(chunks).toString("utf8");
            if (answer.statusCode === 200) resolve(received);
            else reject(new Error(`${method} ${path}: ${answer.statusCode} ${received.slice(0, 200)}`));
          });
        },
      );
      sent.on("error", reject);
      sent.end(text);
    });
  }

  ask(key: string, query: string): Promise<string> {
    return this.call("POST", "/api/pql", key, { query });
  }

  close(): void {
    this.#agent.destroy();
  }
}

export interface Prepared {
  readonly text: string;
  readonly params: readonly unknown[];
}

/** A question's statements as Postgres gets them, where nothing of it is kept: what sets the tenant and the guards, what asks. */
export interface PreparedQuestion {
  readonly settings: Prepared;
  readonly questions: readonly Prepared[];
}

export async function preparedQuestion(question: Question): Promise<PreparedQuestion> {
  const dialect = new PgDialect();
  const prepared = (await statementsOf(question)).map((statement): Prepared => {
    const { sql: text, params } = dialect.sqlToQuery(statement);
    return { text, params };
  });
  return { settings: prepared[0]!, questions: prepared.slice(2) };
}

/**
 * Connections as maestro_app, each in one transaction that stays open, so that the product's guards hold in it. Statements are
 * prepared and planned once a connection, whatever their values are; the tenant and the guards are set before each question.
 */
export class Connections {
  readonly #names = new Map<string, string>();
  readonly #all: pg.Client[] = [];
  readonly #free: pg.Client[] = [];
  readonly #waiting: ((client: pg.Client) => void)[] = [];

  static async open(stack: Stack, count: number): Promise<Connections> {
    const connections = new Connections();
    try {
      for (let at = 0; at < count; at += 1) {
        const client = clientOf(stack.databaseUrls.app);
        await client.connect();
        connections.#all.push(client);
        connections.#free.push(client);
        await client.query("begin");
        await client.query("set local plan_cache_mode = force_generic_plan");
      }
      return connections;
    } catch (error) {
      await connections.close();
      throw error;
    }
  }

  /** Answers the rows of the last statement. */
  async ask({ settings, questions }: PreparedQuestion): Promise<Record<string, unknown>[]> {
    const client = this.#free.pop() ?? (await new Promise<pg.Client>((resolve) => this.#waiting.push(resolve)));
    try {
      await client.query(this.#named(settings));
      let rows: Record<string, unknown>[] = [];
      for (const question of questions)
        rows = (await client.query<Record<string, unknown>>(this.#named(question))).rows;
      return rows;
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free.push(client);
      else next(client);
    }
  }

  #named({ text, params }: Prepared): pg.QueryConfig {
    const name = this.#names.get(text) ?? `q${this.#names.size}`;
    this.#names.set(text, name);
    return { name, text, values: [...params] };
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((client) => client.end()));
  }
}
