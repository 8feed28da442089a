// A client that does not give up: the same call under the same Idempotency-Key until it is answered or its time is over,
// as a person's script around `maestro` would. Called by the market benchmark.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const backoffFirstMs = 100;
const backoffMaxMs = 1_000;
const attemptMsMax = 10_000;

export interface Answered {
  readonly ok: boolean;
  readonly status: number;
  /** From the first attempt to the good answer. */
  readonly ms: number;
  readonly attempts: number;
  readonly sentTwice: boolean;
}

export class Client {
  readonly #apiUrl: string;
  readonly #withinMs: number;
  readonly #twiceShare: number;
  readonly #signal: AbortSignal;
  #sent = 0;

  constructor(apiUrl: string, withinMs: number, twiceShare: number, signal: AbortSignal) {
    this.#apiUrl = apiUrl;
    this.#withinMs = withinMs;
    this.#twiceShare = twiceShare;
    this.#signal = signal;
  }

  /** A share of the calls is sent twice at once, with one key: the first good answer counts. */
  async post(path: string, key: string, body: unknown): Promise<Answered> {
    const startedAt = performance.now();
    const idempotencyKey = randomUUID();
    this.#sent += 1;
    const sentTwice = this.#sent % Math.round(1 / this.#twiceShare) === 0;
    let status = 0;
    for (let attempt = 1; performance.now() - startedAt < this.#withinMs; attempt += 1) {
      this.#signal.throwIfAborted();
      const once = (): Promise<number> => this.#attempt(path, key, idempotencyKey, body);
      const statuses = await Promise.all(sentTwice && attempt === 1 ? [once(), once()] : [once()]);
      status = statuses.find((one) => one >= 200 && one < 300) ?? statuses[0] ?? 0;
      const ms = performance.now() - startedAt;
      if (status >= 200 && status < 300) return { ok: ms <= this.#withinMs, status, ms, attempts: attempt, sentTwice };
      if (status !== 0 && status < 500 && status !== 429)
        return { ok: false, status, ms, attempts: attempt, sentTwice };
      await sleep(Math.random() * Math.min(backoffMaxMs, backoffFirstMs * 2 ** attempt), undefined, {
        signal: this.#signal,
      });
    }
    return { ok: false, status, ms: performance.now() - startedAt, attempts: 0, sentTwice };
  }

  /** 0: there was no answer. */
  async #attempt(path: string, key: string, idempotencyKey: string, body: unknown): Promise<number> {
    try {
      const response = await fetch(this.#apiUrl + path, {
        method: "POST",
        headers: {
          authorization: `Bearer ${key}`,
          "content-type": "application/json",
          "idempotency-key": idempotencyKey,
        },
        body: JSON.stringify(body),
        signal: AbortSignal.any([this.#signal, AbortSignal.timeout(attemptMsMax)]),
      });
      await response.arrayBuffer();
      return response.status;
    } catch (error) {
      if (this.#signal.aborted) throw error;
      return 0;
    }
  }
}
